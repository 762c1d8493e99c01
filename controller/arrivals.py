"""When each push to another site has arrived here: one event of the log for each, with the push's id."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller import traces
from piehole.group.ref_log import LogEntry
from piehole.replicate.reconcile import Report

_MOST: Final = 256  # pushes that have not arrived yet, and messages of the watch, that are remembered
_SHOWN: Final = 5  # refs in one line of the log


@dataclass(slots=True)
class _Coming:
    """One change by a push to another site, and its refs; ``late``: those that are not there yet."""

    entry: LogEntry
    refs: list[str] = field(default_factory=list)
    late: set[str] = field(default_factory=set)


class Arrivals:
    """Told by the informer's thread that the watch has brought something, and by the workers what it was and what has been reached.

    :param site: this site, of the group
    """

    def __init__(self, site: str, group: str, log: structlog.stdlib.BoundLogger) -> None:
        self._site = site
        self._group = group
        self._log = log
        self._lock = threading.Lock()
        self._heard: deque[tuple[int, float]] = deque(maxlen=_MOST)
        self._coming: dict[int, _Coming] = {}  # by revision
        self._reached = 0
        self._unsettled: frozenset[str] = frozenset()

    def heard(self, revision: int) -> None:
        """The watch has told of changes up to this revision."""
        with self._lock:
            self._heard.append((revision, time.time()))

    def noted(self, entries: Iterable[LogEntry]) -> None:
        """These changes are known now, and who has made them; some may have been reached already."""
        with self._lock:
            for entry in entries:
                if entry.push and entry.site != self._site:
                    coming = self._coming.setdefault(entry.revision, _Coming(entry))
                    coming.refs.append(entry.ref)
                    coming.late.add(entry.ref)
        self._settle()

    def reconciled(self, report: Report) -> None:
        """Every ref has the value that it had at the report's revision, but for those that it names."""
        with self._lock:
            self._reached = report.revision
            self._unsettled = frozenset((*report.stuck, *report.deferred, *report.locked))
        self._settle()

    def _settle(self) -> None:
        with self._lock:
            for one in self._coming.values():
                if one.entry.revision <= self._reached:
                    one.late &= self._unsettled
            there = [self._coming.pop(revision) for revision, one in list(self._coming.items()) if not one.late]
            while len(self._coming) > _MOST:
                self._coming.pop(next(iter(self._coming)))
            heard = list(self._heard) if there else []
        for one in there:
            at = next((at for revision, at in heard if revision >= one.entry.revision), None)
            self._tell(one, at)

    def _tell(self, one: _Coming, heard: float | None) -> None:
        entry = one.entry
        if traces.is_on():
            about: dict[str, str | int] = {
                "site": self._site,
                "group": self._group,
                "peer": entry.site,
                "refs": len(one.refs),
                "revision": entry.revision,
            }
            # What was no push, but `piehole clobber` or another command, has sent no other span.
            parent = 0 if entry.kind else traces.span_id(entry.push, traces.SWAP, entry.revision)
            traces.send(entry.push, traces.ARRIVAL, heard or time.time(), about, parent=parent)
        self._log.info(
            "push.arrived",
            push=entry.push,
            peer=entry.site,
            pusher=entry.pusher,
            refs=one.refs[:_SHOWN],
            count=len(one.refs),
            revision=entry.revision,
            **({"ms": round((time.time() - heard) * 1000, 1)} if heard else {}),
            **({"kind": entry.kind} if entry.kind else {}),
        )
