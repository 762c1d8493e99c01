"""Work on one repository that can wait: small packs, kept tips, tombstones. None of it may hold up a push or a reconcile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from piehole.deadline import Deadline
from piehole.group.group_state import GroupState, live
from piehole.group.replica import Replica
from piehole.group.tombstones import reap
from piehole.refs import is_ref_name
from piehole.repository import kept_tips
from piehole.transfer import maintenance

_PATIENCE: Final = 10.0  # seconds for etcd
_EXPIRE_EVERY: Final = 3600.0  # seconds between two expiries of kept tips
_REAP_FIRST: Final = 3.0  # seconds until a tombstone may be reaped, doubled each time that it cannot be reaped yet
_REAP_LATEST: Final = 300.0


class Tidying:
    """
    :param attempt: runs the work and logs its failure under the event name; whether it succeeded
    """

    def __init__(self, replica: Replica, attempt: Callable[[str, Callable[[], object]], bool]) -> None:
        self._replica = replica
        self._attempt = attempt
        self._expired_at = float("-inf")
        self._newest_tombstone = 0
        self._reap_at = 0.0
        self._reap_wait = _REAP_FIRST
        self._moved = False

    def refs_moved(self) -> None:
        """Refs were moved here that no push has moved. Called by the worker that reconciles."""
        self._moved = True

    def run(self, state: GroupState, stop: threading.Event) -> float | None:
        """Do what is due; seconds until there is more to do, None where only a change can bring more.

        :param state: the group's keys in the cached view
        """
        git_dir = self._replica.git_dir
        if self._moved:
            self._moved = False
            self._attempt("dumb_http.failed", lambda: maintenance.refresh_dumb_http(git_dir))
        if maintenance.due(git_dir):
            self._attempt("maintenance.failed", lambda: maintenance.maintain(git_dir, stop=stop))
        if time.monotonic() - self._expired_at > _EXPIRE_EVERY:
            self._expired_at = time.monotonic()
            self._attempt("expiry.failed", lambda: kept_tips.expire(self._replica.repository))
        return self._reap(state)

    def _reap(self, state: GroupState) -> float | None:
        """Reap tombstones that every site has passed: soon after the newest one came, then with growing delays."""
        dead = {name: kv for name, kv in state.entries.items() if is_ref_name(name) and not live(kv)}
        if not dead:
            return None
        now = time.monotonic()
        newest = max(kv.mod_revision for kv in dead.values())
        if newest > self._newest_tombstone:
            self._newest_tombstone, self._reap_wait = newest, _REAP_FIRST
            self._reap_at = now + self._reap_wait
        elif now >= self._reap_at:
            self._attempt("reaping.failed", lambda: reap(self._replica, Deadline(_PATIENCE), dead))
            self._reap_wait = min(self._reap_wait * 2, _REAP_LATEST)
            self._reap_at = now + self._reap_wait
        return max(0.0, self._reap_at - now)
