"""The work queue: keys, never events. A key waits at most once, is held by at most one worker, and is never lost.

Invariants (tests/unit/test_queue.py):

* a key that is added while it waits is handed out once; the earliest time asked for wins;
* a key that is added while a worker holds it is handed out again after that worker is done;
* no two workers hold the same key;
* fresh work goes before a backlog, and a backlog never takes all workers;
* fresh work that is still waiting after a moment is a backlog: hundreds of changes at once do not stand before the next push;
* what has waited in the backlog for long goes first, as far as the backlog's workers go;
* a key whose worker turned out slow takes no worker's place from the backlog.

:class:`Schedule` decides and knows no clock and no thread; :class:`WorkQueue` waits.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

_FIRST_BACKOFF: Final = 0.2  # seconds, doubled by each failure in a row
_LONGEST_BACKOFF: Final = 60.0
FRESH_FOR: Final = 0.3  # seconds, from when a key could first be handed out
LONG: Final = 5.0  # seconds after a key of the backlog was due


@dataclass(frozen=True, slots=True)
class _Waiting:
    """``since``: the time from which on a fresh key could have been handed out."""

    due: float
    fresh: bool
    ticket: int
    since: float


class _Line:
    """Keys in the order of times, and of their tickets at one time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []

    def push(self, key: str, time: float, ticket: int) -> None:
        heapq.heappush(self._heap, (time, ticket, key))

    def first(self, waiting: dict[str, _Waiting]) -> tuple[float, str] | None:
        """The key whose time is first. Entries whose ticket is not the key's own any more are void, and dropped."""
        while self._heap:
            time, ticket, key = self._heap[0]
            known = waiting.get(key)
            if known is not None and known.ticket == ticket:
                return time, key
            heapq.heappop(self._heap)
        return None


class Schedule:
    """Which key is next. Not safe to share between threads; ``now`` is the time of the call.

    :param backlog_limit: how many keys that are not fresh may be held at once
    """

    def __init__(self, backlog_limit: int) -> None:
        self._backlog_limit = backlog_limit
        self._waiting: dict[str, _Waiting] = {}
        self._held: dict[str, bool] = {}  # whether the backlog's limit counts it
        self._again: dict[str, _Waiting] = {}
        self._fresh = _Line()
        self._backlog = _Line()
        self._aging = _Line()  # the fresh keys again, by since when they are
        self._tickets = itertools.count()

    def __len__(self) -> int:
        """How many keys wait or are held."""
        return len(self._waiting) + len(self._held)

    def add(self, key: str, due: float, *, fresh: bool) -> None:
        """Have the key handed out at ``due``, or earlier where it was already to be."""
        place = self._again if key in self._held else self._waiting
        known = place.get(key)
        since = due
        if known is not None:
            if known.due <= due and not fresh:
                return
            # The newest change says how long the key is fresh.
            since = max(due, known.since) if fresh else known.since
            due, fresh = min(due, known.due), fresh or known.fresh
        place[key] = waiting = _Waiting(due, fresh, next(self._tickets), since)
        if place is self._waiting:
            self._line_up(key, waiting)

    def take(self, now: float) -> str | None:
        """Hand out the next key that is due, until :meth:`done`; None where there is none now."""
        self._age(now)
        for line in self._open(now):
            first = line.first(self._waiting)
            if first is not None and first[0] <= now:
                key = first[1]
                self._held[key] = not self._waiting.pop(key).fresh
                return key
        return None

    def next_due(self) -> float | None:
        """When the next key can be handed out, if nothing else happens; None: never."""
        return min(
            (first[0] for line in self._open(float("-inf")) if (first := line.first(self._waiting))), default=None
        )

    def slow(self, key: str) -> None:
        """The backlog's limit does not count this key any more, as long as it is held."""
        if key in self._held:
            self._held[key] = False

    def done(self, key: str, now: float) -> None:
        """The worker lets go of the key."""
        del self._held[key]
        again = self._again.pop(key, None)
        if again is not None:
            self._waiting[key] = waiting = replace(again, since=max(again.since, now))
            self._line_up(key, waiting)

    def _line_up(self, key: str, waiting: _Waiting) -> None:
        (self._fresh if waiting.fresh else self._backlog).push(key, waiting.due, waiting.ticket)
        if waiting.fresh:
            self._aging.push(key, waiting.since, waiting.ticket)

    def _age(self, now: float) -> None:
        """Have the fresh keys that nobody took in time wait with the backlog."""
        while (first := self._aging.first(self._waiting)) is not None and now - first[0] > FRESH_FOR:
            key = first[1]
            self._waiting[key] = aged = replace(self._waiting[key], fresh=False, ticket=next(self._tickets))
            self._line_up(key, aged)

    def _open(self, now: float) -> list[_Line]:
        """The lines from which a key may be taken, the better one first."""
        if sum(self._held.values()) >= self._backlog_limit:
            return [self._fresh]
        first = self._backlog.first(self._waiting)
        if first is not None and now - first[0] > LONG:
            return [self._backlog, self._fresh]
        return [self._fresh, self._backlog]


class WorkQueue:
    """A schedule that threads share and wait at. Keys are repositories."""

    def __init__(
        self,
        *,
        backlog_limit: int,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        :param backlog_limit: how many keys that are not fresh may be held at once
        :param jitter: numbers in [0, 1) that spread the backoff
        """
        self._changed = threading.Condition()
        self._clock = clock
        self._jitter = jitter
        self._schedule = Schedule(backlog_limit)
        self._failures: dict[str, int] = {}
        self._stopped = False

    def add(self, key: str, *, fresh: bool = False, delay: float = 0.0) -> None:
        """Have the key handed out ``delay`` seconds from now, or earlier where it was already to be."""
        with self._changed:
            before = self._schedule.next_due()
            self._schedule.add(key, self._clock() + delay, fresh=fresh)
            due = self._schedule.next_due()
            if due is not None and (before is None or due < before):
                self._changed.notify()

    def retry(self, key: str) -> float:
        """Hand the key out again after a delay that grows with each retry, until :meth:`forget`; returns the delay."""
        with self._changed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 20), _LONGEST_BACKOFF) * (0.5 + self._jitter() / 2)
        self.add(key, delay=delay)
        return delay

    def forget(self, key: str) -> None:
        """The key succeeded, or is gone: its next retry waits the shortest time again."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self) -> str | None:
        """The next key, as soon as there is one; None once the queue is stopped. Call :meth:`done` with it."""
        with self._changed:
            while not self._stopped:
                key = self._schedule.take(self._clock())
                due = self._schedule.next_due()
                if key is not None:
                    if due is not None:  # one of those who wait has to wait for that
                        self._changed.notify()
                    return key
                self._changed.wait(None if due is None else max(due - self._clock(), 0.0))
            return None

    def slow(self, key: str) -> None:
        """Whoever holds this key will take long, and another worker has taken his place: it is no longer part of a backlog."""
        with self._changed:
            self._schedule.slow(key)
            self._changed.notify()

    def done(self, key: str) -> None:
        """The worker lets go of the key."""
        with self._changed:
            self._schedule.done(key, self._clock())
            self._changed.notify()

    def stop(self) -> None:
        """Wake all who wait in :meth:`get`; they get None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many keys wait or are held."""
        with self._changed:
            return len(self._schedule)
