"""Whether this site may act on the cached view: checked against etcd and this disk, and again once something may have changed that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from controller.etcd_view import EtcdView
from piehole.deadline import Deadline
from piehole.errors import EtcdUnreachable, Halted
from piehole.etcd.model import KeyValue
from piehole.group import keys, progress, rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica

_ETCD_TIMEOUT: Final = 5.0  # seconds
_ASK_EVERY: Final = 30.0  # seconds until a halted site asks etcd again, though nothing seems to have changed
_NEVER: Final = (0, 0, 0)  # a halted site has not been checked


class SiteCheck:
    """Checked by the workers that act on the repository, one at a time, and read by any thread.

    :param log: with the fields that name the repository
    :param resumed: called when a halted site goes on: what was found before may be of an etcd that is gone
    """

    def __init__(
        self,
        replica: Replica,
        etcd_view: EtcdView,
        log: structlog.typing.FilteringBoundLogger,
        resumed: Callable[[], None],
    ) -> None:
        self.halted: Halted | None = None
        self.count = 0  # of the checks that passed
        self._running = threading.Lock()
        self._replica = replica
        self._etcd_view = etcd_view
        self._log = log
        self._resumed = resumed
        self._halted_since = 0.0  # monotonic seconds
        self._checked_halted: tuple[int, int, int] = (
            _NEVER  # what a check has found that said so, and when to ask again
        )
        self._ask_at = 0.0
        self._epoch = -1  # of the last check that passed; so are the fence and both records
        self._fence = 0
        self._group: KeyValue | None = None
        self._site: KeyValue | None = None
        self._seen = 0  # the newest revision that this process has acted on, and the state on disk at that time
        self._seen_stamp = rollback_guard.stamp(replica.git_dir)

    def view(self) -> GroupState | None:
        """The group's keys as the informer has them; None where the last check no longer counts, or this site is halted."""
        if not self.passed():
            return None
        return self._etcd_view.view(self._replica.config.group, self._group, self._site)

    def passed(self) -> bool:
        """Whether the last check passed, and still counts."""
        return self._epoch == self._etcd_view.epoch and self.halted is None

    def expire(self) -> None:
        """Have the next :meth:`run` check again, whatever was found before."""
        self._epoch = -1

    def still_halted(self) -> bool:
        """Whether this site is halted, and nothing has happened since that could have ended that."""
        if self.halted is None:
            return False
        return self._situation() == self._checked_halted and time.monotonic() < self._ask_at

    def _situation(self) -> tuple[int, int, int]:
        """What has to change before another check may say something else."""
        revision = self._etcd_view.view(self._replica.config.group).revision
        return self._etcd_view.epoch, revision, rollback_guard.stamp(self._replica.git_dir)

    def run(self) -> int:
        """Check where that is due; returns :attr:`count`, which grows with each check.

        :raises Halted: this site must not move
        :raises EtcdError: etcd could not be used, or the view is not as new as etcd yet
        """
        with self._running:
            situation = self._situation()
            self._checked_halted = _NEVER  # a check that fails without an answer is to be tried again soon
            try:
                if self._check():
                    self.count += 1
            except Halted:
                self._checked_halted, self._ask_at = situation, time.monotonic() + _ASK_EVERY
                raise
            return self.count

    def _check(self) -> bool:
        """Check where that is due; whether it was."""
        epoch = self._etcd_view.epoch
        # A site that joins, and whoever makes one leave, writes the fence, too: another machine may have this site's name now.
        fence = self._etcd_view.view(self._replica.config.group).mod(keys.FENCE)
        if (self._epoch, self._fence) == (epoch, fence) and self.halted is None:
            return False
        state = progress.check(self._replica, Deadline(_ETCD_TIMEOUT), seen=self.seen)
        # A view from before this check may be of another etcd's past: only one that has reached it may be acted on.
        newest = max((kv.mod_revision for kv in state.entries.values()), default=0)
        if not self._etcd_view.informer.cache.wait_for(newest, Deadline(_ETCD_TIMEOUT)):
            raise EtcdUnreachable("the watch of the refs has not caught up with etcd yet")
        if self.halted is not None:
            if not self._etcd_view.was_listed_since(self._halted_since):
                raise EtcdUnreachable("this site was halted, so the refs are being listed again")
            self._log.info("site.resumed")
            self._resumed()
        self._group, self._site = state.group, state.site
        self.halted = None
        self._epoch, self._fence = epoch, fence
        self._remember(state.revision)
        return True

    def seen(self) -> int:
        """The newest revision that this process has acted on.

        An administrator's decision is written to the state on disk, and ends what this process remembers of etcd.
        """
        return self._seen if rollback_guard.stamp(self._replica.git_dir) == self._seen_stamp else 0

    def acted_on(self, revision: int) -> None:
        """Remember that this process has acted on etcd at this revision."""
        self._remember(max(self._seen, revision))

    def halt(self, halted: Halted) -> None:
        """Stop this site, from any thread, until a check passes."""
        if self.halted is None or str(halted) != str(self.halted):
            self._log.error("site.halted", token=halted.token, reason=str(halted))
            self._halted_since = time.monotonic()
        self.halted = halted

    def _remember(self, revision: int) -> None:
        self._seen = revision
        self._seen_stamp = rollback_guard.stamp(self._replica.git_dir)
