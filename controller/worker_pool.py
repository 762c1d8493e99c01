"""A worker pool: threads that take repositories from a work queue, and more threads where some hang.

A turn of work may take as long as the slowest peer: an hour, by the limits of a transfer. So a turn that has lasted some seconds no
longer counts: another thread takes its place, and one slow repository never delays the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import structlog

from controller.work_queue import NextTurn, WorkQueue
from piehole import long_work
from piehole.long_work import LongWork, WorkStep

Item = TypeVar("Item")

SLOW: Final = 2.0  # seconds after which a turn counts as slow
_MOST: Final = 512  # threads in all


@dataclass(slots=True)
class _Turn:
    since: float
    slow: bool = False
    work: LongWork = field(default_factory=LongWork)
    told: float = 0.0  # seconds of this turn after which the log was told last

    def is_to_be_told(self, now: float) -> bool:
        """Whether the log has heard nothing of this turn for long."""
        lasted = now - self.since
        if lasted - self.told < long_work.EVERY:
            return False
        self.told = lasted
        return True


def log_work(log: Any, repository: str, work: str, step: WorkStep | None, seconds: float) -> None:
    """Log that something goes on, and how far it is.

    :param work: the words for it, where there is no ``step``
    """
    log.info(
        "work.continues",
        repository=repository,
        work=step.what if step is not None else work,
        seconds=round(seconds, 1),
        **({"done": step.done, "unit": step.unit} if step is not None and step.unit else {}),
        **({"total": step.total} if step is not None and step.total else {}),
    )


class WorkerPool(Generic[Item]):
    """``count`` threads besides those with slow turns. :meth:`replace_slow` must be called from time to time.

    :param find: what a key stands for (most often a repository), None where that is gone
    :param work: one turn of work on it; what it raises is a bug, which is logged in full, and the key is tried again
    :param stop: passed to ``work``, which ends early once it is set
    :param on_crash: called with the error that has ended a thread
    :param then: the queue of the pool whose work comes after this one's
    """

    def __init__(
        self,
        name: str,
        count: int,
        queue: WorkQueue,
        find: Callable[[str], Item | None],
        work: Callable[[Item, threading.Event], NextTurn],
        stop: threading.Event,
        on_crash: Callable[[BaseException], None],
        then: WorkQueue | None = None,
    ) -> None:
        self.name = name
        self._count = count
        self._queue = queue
        self._find = find
        self._work = work
        self._stop = stop
        self._on_crash = on_crash
        self._then = then
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        self._threads: set[threading.Thread] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        for _ in range(self._count):
            self._add()

    def replace_slow(self) -> None:
        """Start a thread for each one whose turn has become slow, and tell the log of those that last long."""
        with self._lock:
            now = time.monotonic()
            late = [key for key, turn in self._turns.items() if not turn.slow and now - turn.since > SLOW]
            for key in late:
                self._turns[key].slow = True
            lasting = [(key, turn) for key, turn in self._turns.items() if turn.is_to_be_told(now)]
            lacking = min(self._count + self._slow() - len(self._threads), _MOST - len(self._threads))
        for key in late:
            self._queue.slow(key)
            self._log.debug("turn.slow", repository=key)
        for key, turn in lasting:
            log_work(self._log, key.partition("\0")[0], self.name, turn.work.step, turn.told)
        for _ in range(lacking):
            self._add()

    @property
    def is_alive(self) -> bool:
        """Whether threads are left that can take work: those whose turns are slow do not count."""
        with self._lock:
            return len(self._threads) > self._slow()

    def load(self) -> dict[str, tuple[int, float]]:
        """How many repositories are in each lane (those in work are in a lane of their own), and the seconds of the one that is there longest."""
        now = time.monotonic()
        with self._lock:
            since = [turn.since for turn in self._turns.values()]
        return {**self._queue.waiting(), "working": (len(since), now - min(since, default=now))}

    def stop(self) -> None:
        """Take nothing new."""
        self._queue.stop()

    def join(self) -> None:
        """Wait for all threads; after :meth:`stop`."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

    def _add(self) -> None:
        thread = threading.Thread(target=self._run, name=self.name)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _slow(self) -> int:
        return sum(turn.slow for turn in self._turns.values())

    def _run(self) -> None:
        try:
            while (key := self._queue.get()) is not None:
                turn = _Turn(time.monotonic())
                with self._lock:
                    self._turns[key] = turn
                try:
                    with long_work.watched(turn.work):
                        self._turn(key)
                finally:
                    with self._lock:
                        del self._turns[key]
                        needed = len(self._threads) - self._slow() <= self._count
                    self._queue.done(key)
                if not needed:
                    return
        except BaseException as error:  # noqa: BLE001 -- not swallowed: the owner ends the controller with it
            self._on_crash(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _turn(self, key: str) -> None:
        try:
            item = self._find(key)
            following = NextTurn() if item is None else self._work(item, self._stop)
        except Exception:  # noqa: BLE001 -- a bug in one repository's turn must not end the others'; it is logged in full
            self._log.exception("turn.crashed", repository=key)
            following = NextTurn(retry=True)
        if following.then is not None and self._then is not None:
            self._then.add(key, delay=following.then)
        if following.retry:
            self._queue.retry(key)
            return
        self._queue.forget(key)
        if following.delay is not None:
            self._queue.add(key, delay=following.delay)
