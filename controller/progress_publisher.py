"""Publishes how far one site has replicated, at most once a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from piehole.deadline import Deadline
from piehole.group import progress, rollback_guard
from piehole.group.replica import Replica
from piehole.group.rollback_guard import Note
from piehole.replicate import once
from piehole.replicate.reconcile import Report
from piehole.repository import verification

_ETCD_TIMEOUT: Final = 5.0  # seconds
EVERY: Final = 1.0  # seconds between two progress records of one repository


class ProgressPublisher:
    """Reports are added by the worker that reconciles, and published by another one.

    :param acted_on: called with the revision of the report that was published
    :param seen: the newest revision that this process has acted on
    """

    def __init__(self, replica: Replica, acted_on: Callable[[int], None], seen: Callable[[], int]) -> None:
        self._replica = replica
        self._seen = seen
        self._acted_on = acted_on
        self._last: Report | None = None
        self._converged: Report | None = None  # the newest that was
        self._published_at = float("-inf")
        self._digest = ("", "")  # the id of the last progress record that this process knows, and its digest
        self._covered = 0  # the newest change of the group before the last progress record

    def add(self, report: Report) -> None:
        """Take the report of a reconcile into account."""
        self._last = report
        if report.converged:
            self._converged = report

    def forget(self) -> None:
        """Take no former report into account: it may be of another repository, or of what etcd was before it went back."""
        self._last = self._converged = None
        self._digest, self._covered = ("", ""), 0

    def wait(self) -> float:
        """Seconds until the next record may be written."""
        return max(0.0, self._published_at + EVERY - time.monotonic())

    def publish(self) -> None:
        """Publish what the reports prove, where that says something new.

        :raises Halted: etcd and this disk do not remember the same past
        :raises PieholeError: nothing was published, or nobody knows whether it was
        """
        last, converged = self._last, self._converged
        if last is None:
            return
        known = rollback_guard.load(self._replica.git_dir).published
        untold = verification.untold(self._replica.git_dir)
        if converged is not None and not last.corrupt and self._is_news(converged, known, untold):
            self._published_at = time.monotonic()
            once.publish(self._replica, converged, seen=self._seen)
            now = rollback_guard.load(self._replica.git_dir).published
            self._digest = (now.id if now else "", converged.held.digest() if converged.held else "")
        elif known is not None and (last.newest > max(known.revision, self._covered) or untold):
            # The other sites must learn that this one is corrupt, or no longer is. And where something keeps the progress back while
            # pushes go on, a backup of etcd must be recognised all the same.
            self._published_at = time.monotonic()
            progress.republish(self._replica, Deadline(_ETCD_TIMEOUT), seen=self._seen)
        else:
            return
        self._covered = last.newest
        self._acted_on(last.revision)

    def _is_news(self, converged: Report, known: Note | None, untold: bool) -> bool:
        if known is None or converged.newest > known.revision:
            return True
        held = converged.held
        if held is None or converged.revision < known.revision:
            return False
        return untold or self._digest != (known.id, held.digest())
