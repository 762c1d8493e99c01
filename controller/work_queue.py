"""The work queue: keys, never events. A key waits at most once, is held by at most one worker, and is never lost.

Invariants (tests/unit/test_work_queue.py):

* a key that is added while it waits is handed out once; the earliest time asked for wins;
* a key that is added while a worker holds it is handed out again after that worker is done;
* no two workers hold the same key;
* fresh work goes before a backlog, and a backlog never takes all workers;
* fresh work that is still waiting after a moment is a backlog, and of fresh work the newest goes first: hundreds of changes at
  once do not delay the next push, not even one at the same moment;
* a key that has waited in the backlog for long goes first, as far as the backlog's workers go;
* a key whose turn has become slow does not count against the backlog's limit.

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
_VOID: Final = 1000  # void entries that a heap may hold in any case


@dataclass(frozen=True, slots=True)
class _Waiting:
    """``since``: the time from which on a fresh key could have been handed out."""

    due: float
    fresh: bool
    ticket: int
    since: float


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When to come back: ``retry`` with growing delay, else after ``delay`` seconds, else at the next change.

    ``then``: seconds after which the next pool has work on this repository; None: it has none.
    """

    retry: bool = False
    delay: float | None = None
    then: float | None = None


class _KeyHeap:
    """Keys that wait, ordered by their place, then by their tickets.

    An entry whose ticket is no longer the key's own is void. It is removed when it comes first, or when most entries are void.
    """

    def __init__(self, waiting: dict[str, _Waiting], *, reverse: bool = False) -> None:
        """:param reverse: the last place and the newest ticket come first"""
        self._waiting = waiting
        self._sign = -1 if reverse else 1
        self._heap: list[tuple[float, int, str]] = []

    def push(self, key: str, place: float) -> None:
        if len(self._heap) > _VOID + 2 * len(self._waiting):
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (self._sign * place, self._sign * self._waiting[key].ticket, key))

    def first(self) -> str | None:
        while self._heap and not self._counts(self._heap[0]):
            self.drop()
        return self._heap[0][2] if self._heap else None

    def drop(self) -> None:
        """Remove the first key."""
        heapq.heappop(self._heap)

    def _counts(self, entry: tuple[float, int, str]) -> bool:
        known = self._waiting.get(entry[2])
        return known is not None and known.ticket == self._sign * entry[1]


class Schedule:
    """Which key is next. Not safe to share between threads; ``now`` is the time of the call.

    :param backlog_limit: how many keys that are not fresh may be held at once
    """

    def __init__(self, backlog_limit: int) -> None:
        self._backlog_limit = backlog_limit
        self._waiting: dict[str, _Waiting] = {}
        self._held: dict[str, bool] = {}  # whether the backlog's limit counts it
        self._again: dict[str, _Waiting] = {}
        self._early = _KeyHeap(self._waiting)  # fresh keys that are not due yet
        self._fresh = _KeyHeap(self._waiting, reverse=True)  # fresh keys that are due, by the time since when
        self._aging = _KeyHeap(self._waiting)  # all fresh keys again
        self._backlog = _KeyHeap(self._waiting)
        self._tickets = itertools.count()

    def __len__(self) -> int:
        """How many keys wait or are held."""
        return len(self._waiting) + len(self._held)

    def add(self, key: str, due: float, *, fresh: bool) -> None:
        """Have the key handed out at ``due``, or earlier where that was already requested."""
        held = key in self._held
        known = (self._again if held else self._waiting).get(key)
        since = due
        if known is not None:
            if known.due <= due and not fresh:
                return
            # The newest change says how long the key is fresh.
            since = max(due, known.since) if fresh else known.since
            due, fresh = min(due, known.due), fresh or known.fresh
        waiting = _Waiting(due, fresh, next(self._tickets), since)
        if held:
            self._again[key] = waiting
        else:
            self._place(key, waiting)

    def take(self, now: float) -> str | None:
        """Hand out the next key that is due, until :meth:`done`; None where there is none now."""
        self._ripen(now)
        self._age(now)
        for heap in self._open(now):
            key = heap.first()
            if key is not None and self._waiting[key].due <= now:
                self._held[key] = not self._waiting.pop(key).fresh
                return key
        return None

    def next_due(self) -> float | None:
        """When the next key can be handed out, if nothing else happens: any time in the past means now, None means never."""
        heaps = [self._early, *self._open(float("-inf"))]
        return min((self._waiting[key].due for heap in heaps if (key := heap.first()) is not None), default=None)

    def waiting(self, now: float) -> dict[str, tuple[int, float]]:
        """How many keys are due in each lane, and for how many seconds the oldest of them has been."""
        lanes: dict[str, tuple[int, float]] = {"fresh": (0, 0.0), "backlog": (0, 0.0)}
        for one in self._waiting.values():
            if one.due <= now:
                lane = "fresh" if one.fresh else "backlog"
                count, oldest = lanes[lane]
                lanes[lane] = count + 1, max(oldest, now - one.due)
        return lanes

    def slow(self, key: str) -> None:
        """The backlog's limit no longer counts this key, as long as it is held."""
        if key in self._held:
            self._held[key] = False

    def done(self, key: str, now: float) -> None:
        """The worker lets go of the key."""
        del self._held[key]
        again = self._again.pop(key, None)
        if again is not None:
            self._place(key, replace(again, since=max(again.since, now)))

    def _place(self, key: str, waiting: _Waiting) -> None:
        self._waiting[key] = waiting
        (self._early if waiting.fresh else self._backlog).push(key, waiting.due)
        if waiting.fresh:
            self._aging.push(key, waiting.since)

    def _ripen(self, now: float) -> None:
        """Move the fresh keys that are due to the heap from which they are taken."""
        while (key := self._early.first()) is not None and self._waiting[key].due <= now:
            self._early.drop()
            self._fresh.push(key, self._waiting[key].since)

    def _age(self, now: float) -> None:
        """Move the fresh keys that no worker took in time to the backlog."""
        while (key := self._aging.first()) is not None and now - self._waiting[key].since > FRESH_FOR:
            self._place(key, replace(self._waiting[key], fresh=False, ticket=next(self._tickets)))

    def _open(self, now: float) -> list[_KeyHeap]:
        """The heaps from which a key may be taken, the preferred one first."""
        if sum(self._held.values()) >= self._backlog_limit:
            return [self._fresh]
        first = self._backlog.first()
        if first is not None and now - self._waiting[first].due > LONG:
            return [self._backlog, self._fresh]
        return [self._fresh, self._backlog]


class WorkQueue:
    """A schedule that threads share and wait for. Keys are repositories."""

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
        self._fresh_at = float("-inf")

    @property
    def fresh_at(self) -> float:
        """When a key was fresh last, by the clock; long ago where none was."""
        return self._fresh_at

    def add(self, key: str, *, fresh: bool = False, delay: float = 0.0) -> None:
        """Have the key handed out ``delay`` seconds from now, or earlier where that was already requested."""
        with self._changed:
            if fresh:
                self._fresh_at = self._clock()
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
                    if due is not None:  # another worker has to wait for that one
                        self._changed.notify()
                    return key
                self._changed.wait(None if due is None else max(due - self._clock(), 0.0))
            return None

    def slow(self, key: str) -> None:
        """The turn with this key takes long, and another worker takes its place: the backlog's limit no longer counts it."""
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

    def waiting(self) -> dict[str, tuple[int, float]]:
        """How many keys are due in each lane, and for how many seconds the oldest of them has been."""
        with self._changed:
            return self._schedule.waiting(self._clock())

    def __len__(self) -> int:
        """How many keys wait or are held."""
        with self._changed:
            return len(self._schedule)
