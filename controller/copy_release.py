"""Which of the copies that were held for pushes to other sites may go now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from piehole.group.replica import Replica
from piehole.replicate.holdings import Holdings
from piehole.replicate.reconcile import Report
from piehole.replicate.release_copies import PushEnd, unprotected
from piehole.repository import held_refs, kept_tips

_LENT: Final = 1.0  # seconds until what a reconcile uses is released after all
# What was long to fetch, for a push that was refused, stays for so many times as long: whoever pushes it again does not wait again.
_LONG: Final = 3.0  # seconds
_LINGER: Final = 10.0
_LINGER_MOST: Final = 600.0


@dataclass(slots=True)
class HeldPush:
    """What this process knows of a push to another site.

    ``oids``: they may have held refs, and where ``complete`` all of them have. ``busy``: a turn works on it.
    ``revision``: of the request that this site has answered. ``until``: monotonic seconds. ``failed``: the last attempt.
    """

    oids: frozenset[str] = frozenset()
    complete: bool = False
    busy: bool = False
    revision: int = 0
    until: float = 0.0
    end: PushEnd | None = None
    failed: bool = False


class CopyRelease:
    """
    :param reconcile: has the repository reconciled soon
    """

    def __init__(self, replica: Replica, holdings: Holdings, reconcile: Callable[[], None]) -> None:
        self._repository = replica.repository
        self._holdings = holdings
        self._reconcile = reconcile
        self._reached = 0  # the revision of the last reconcile
        self._unmoved: frozenset[str] = frozenset()  # refs that it could not move

    def reconciled(self, report: Report) -> None:
        self._reached = report.revision
        self._unmoved = frozenset((*report.stuck, *report.deferred))

    def sort_out(self, gone: Mapping[str, HeldPush], revision: int) -> tuple[list[float], dict[str, frozenset[str]]]:
        """Seconds until some of these may go, and those that go now, each with its oids. The others go after another
        reconcile.

        :param gone: pushes whose requests are gone, at ``revision`` at the latest
        """
        repository = self._repository
        waits: list[float] = []
        free: dict[str, frozenset[str]] = {}
        settled: dict[str, tuple[PushEnd, list[str]]] = {}
        for push_id, push in gone.items():
            end = push.end = push.end or PushEnd(revision, None)
            if end.accepted is False:
                if push.until > time.monotonic():
                    waits.append(push.until - time.monotonic())
                else:
                    free[push_id] = push.oids
            elif self._reached >= end.revision:
                settled[push_id] = end, held_refs.existing(repository, push_id, push.oids)
            elif end.accepted is None:
                self._reconcile()  # nothing else may have changed
        # Asked for all at once: after a burst of pushes to one ref, the ref has only the last of them.
        oids = dict.fromkeys(oid for _, held in settled.values() for oid in held)
        moved = {ref: oid for end, _ in settled.values() for ref, oid in end.moved.items()}
        lacking = set(unprotected(repository, list(oids), moved))
        for push_id, (end, held) in settled.items():
            lost = [oid for oid in held if oid in lacking]
            if lost and not self._unmoved.isdisjoint(end.moved):
                continue
            kept_tips.keep(repository, lost)
            free[push_id] = gone[push_id].oids
        lent = [push_id for push_id, oids in free.items() if not self._holdings.drop(push_id, oids)]
        waits += [_LENT for _ in lent]
        return waits, {push_id: oids for push_id, oids in free.items() if push_id not in lent}


def lingering(seconds: float) -> float:
    """For how many seconds something stays that took so long to fetch, once its push has moved nothing."""
    return min(_LINGER * seconds, _LINGER_MOST) if seconds > _LONG else 0.0
