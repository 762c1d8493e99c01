"""Work on one repository that can wait: small packs, kept tips, tombstones. None of it may hold up a push or a reconcile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from piehole.deadline import Deadline
from piehole.etcd.model import KeyValue
from piehole.group import drops
from piehole.group.group_state import GroupState, live
from piehole.group.replica import Replica
from piehole.group.tombstones import reap
from piehole.refs import is_ref_name
from piehole.replicate import drop
from piehole.repository import kept_tips
from piehole.transfer import maintenance, removal

_PATIENCE: Final = 10.0  # seconds for etcd
_EXPIRE_EVERY: Final = 3600.0  # seconds between two expiries of kept tips
_REAP_FIRST: Final = 3.0  # seconds until a tombstone may be reaped, doubled each time that it cannot be reaped yet
_REAP_LATEST: Final = 300.0
_DROP_FIRST: Final = 0.5  # seconds until an object is tried again that could not be dropped, doubled each time
_DROP_LATEST: Final = 60.0


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
        self._looked_at = float("-inf")
        self._newest_request = 0
        self._drop_at: float | None = None
        self._drop_wait = _DROP_FIRST

    def refs_moved(self) -> None:
        """Refs were moved here that no push has moved. Called by the worker that reconciles."""
        self._moved = True

    def run(self, state: GroupState, asked: Mapping[str, KeyValue], stop: threading.Event) -> float | None:
        """Do what is due; seconds until there is more to do, None where only a change can bring more.

        :param state: the group's keys in the cached view
        :param asked: the keys of requests to drop objects, by name
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
        delays = (self._drop(asked), self._reap(state))
        return min((delay for delay in delays if delay is not None), default=None)

    def _drop(self, asked: Mapping[str, KeyValue]) -> float | None:
        """Drop what was asked for: soon after the newest request or answer came, then with growing delays while something is in the way."""
        now = time.monotonic()
        again = now - self._looked_at > _EXPIRE_EVERY
        newest = max((kv.mod_revision for kv in asked.values()), default=0)
        if newest > self._newest_request or again or (self._drop_at is not None and now >= self._drop_at):
            self._drop_wait = _DROP_FIRST if newest > self._newest_request else min(self._drop_wait * 2, _DROP_LATEST)
            self._newest_request = newest
            left: set[str] = {drops.FAILED}  # where the attempt fails

            def work() -> None:
                left.update(
                    drop.work(self._replica, drops.parse(asked, self._replica.config.object_format), again=again)
                )
                left.discard(drops.FAILED)

            if self._attempt("drop.failed", work) and again:
                self._looked_at = now
            if removal.is_any_set_aside(self._replica.git_dir):  # it waits for pushes only, and they may need it
                self._drop_wait = _DROP_FIRST
            self._drop_at = time.monotonic() + self._drop_wait if left else None
        return None if self._drop_at is None else max(0.0, self._drop_at - time.monotonic())

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
