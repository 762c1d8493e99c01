"""The work queue: keys, never events. A key waits at most once, is held by at most one worker, and is never lost.

Invariants (tests/unit/test_queue.py):

* a key that is added while it waits is handed out once; the earliest time asked for wins;
* a key that is added while a worker holds it is handed out again after that worker is done;
* no two workers hold the same key;
* fresh work goes before a backlog, and a backlog never takes all workers;
* a key whose worker turned out slow takes no worker's place from the backlog.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_FIRST_BACKOFF: Final = 0.2  # seconds, doubled by each failure in a row
_LONGEST_BACKOFF: Final = 60.0


@dataclass(slots=True)
class _Waiting:
    due: float
    fresh: bool
    ticket: int


class WorkQueue:
    """Safe to share between threads. Keys are repositories."""

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
        self._backlog_limit = backlog_limit
        self._waiting: dict[str, _Waiting] = {}
        self._held: dict[str, bool] = {}  # whether it is free of the backlog's limit
        self._again: dict[str, _Waiting] = {}
        self._failures: dict[str, int] = {}
        # Tickets in these three that no longer match `_waiting` are void; they are skipped when they come up.
        self._later: list[tuple[float, int, str]] = []
        self._fresh: deque[tuple[int, str]] = deque()
        self._backlog: deque[tuple[int, str]] = deque()
        self._tickets = itertools.count()
        self._stopped = False

    def add(self, key: str, *, fresh: bool = False, delay: float = 0.0) -> None:
        """Have the key handed out ``delay`` seconds from now, or earlier where it was already to be."""
        with self._changed:
            due = self._clock() + delay
            if key in self._held:
                known = self._again.get(key)
                self._again[key] = _Waiting(
                    min(due, known.due) if known else due, fresh or bool(known and known.fresh), 0
                )
                return
            known = self._waiting.get(key)
            if known is not None and known.due <= due and (known.fresh or not fresh):
                return
            self._enter(key, min(due, known.due) if known else due, fresh or bool(known and known.fresh))
            self._changed.notify()

    def retry(self, key: str) -> float:
        """Hand the key out again after a delay that grows with each retry, until :meth:`forget`; returns the delay."""
        with self._changed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 20), _LONGEST_BACKOFF) * (0.5 + self._jitter() / 2)
        self.add(key, delay=delay)
        return delay

    def forget(self, key: str) -> None:
        """The key succeeded: its next retry waits the shortest time again."""
        with self._changed:
            self._failures.pop(key, None)

    def drop(self, key: str) -> None:
        """The key is gone: it is not handed out any more."""
        with self._changed:
            self._failures.pop(key, None)
            self._waiting.pop(key, None)
            self._again.pop(key, None)

    def get(self) -> str | None:
        """The next key, as soon as there is one; None once the queue is stopped. Call :meth:`done` with it."""
        with self._changed:
            while not self._stopped:
                self._ripen()
                key = self._next()
                if key is not None:
                    return key
                wait = self._later[0][0] - self._clock() if self._later else None
                self._changed.wait(None if wait is None else max(wait, 0.0))
            return None

    def slow(self, key: str) -> None:
        """Whoever holds this key will take long, and another worker has taken his place: the key no longer counts as backlog."""
        with self._changed:
            if key in self._held:
                self._held[key] = True
                self._changed.notify()

    def done(self, key: str) -> None:
        """The worker lets go of the key."""
        with self._changed:
            self._held.pop(key)
            again = self._again.pop(key, None)
            if again is not None:
                self._enter(key, again.due, again.fresh)
            self._changed.notify()

    def stop(self) -> None:
        """Wake all who wait in :meth:`get`; they get None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """How many keys wait or are held."""
        with self._changed:
            return len(self._waiting) + len(self._held)

    def _enter(self, key: str, due: float, fresh: bool) -> None:
        ticket = next(self._tickets)
        self._waiting[key] = _Waiting(due, fresh, ticket)
        if due > self._clock():
            heapq.heappush(self._later, (due, ticket, key))
        else:
            (self._fresh if fresh else self._backlog).append((ticket, key))

    def _valid(self, ticket: int, key: str) -> bool:
        known = self._waiting.get(key)
        return known is not None and known.ticket == ticket

    def _ripen(self) -> None:
        now = self._clock()
        while self._later and (self._later[0][0] <= now or not self._valid(*self._later[0][1:])):
            _, ticket, key = heapq.heappop(self._later)
            if self._valid(ticket, key):
                (self._fresh if self._waiting[key].fresh else self._backlog).append((ticket, key))

    def _next(self) -> str | None:
        backlog_open = sum(1 for fresh in self._held.values() if not fresh) < self._backlog_limit
        for line, is_open in ((self._fresh, True), (self._backlog, backlog_open)):
            while is_open and line:
                ticket, key = line.popleft()
                if self._valid(ticket, key):
                    self._held[key] = self._waiting.pop(key).fresh
                    return key
        return None
