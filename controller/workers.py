"""The threads that take keys from the work queue, and more of them where some hang.

A turn may take as long as the slowest peer lets it: an hour, by the limits of a transfer. So a turn that has lasted some
seconds no longer counts: another thread takes its place, and one repository's trouble never delays another's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from controller.work_queue import WorkQueue

SLOW: Final = 2.0  # seconds after which a turn counts as slow
_MOST: Final = 512  # threads, whatever hangs


@dataclass(slots=True)
class _Turn:
    since: float
    slow: bool = False


class Workers:
    """``count`` threads that are not busy with slow turns. :meth:`relieve` is to be called now and then.

    :param turn: works on one key; what it raises is a bug, told in the log, and the key is tried again
    :param on_death: told of an error that has ended a thread; nobody else would hear of it
    """

    def __init__(
        self,
        queue: WorkQueue,
        count: int,
        turn: Callable[[str], None],
        on_death: Callable[[BaseException], None],
        *,
        name: str = "worker",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._count = count
        self._turn = turn
        self._on_death = on_death
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}
        self._threads: set[threading.Thread] = set()
        self._log = structlog.get_logger()

    def start(self) -> None:
        for _ in range(self._count):
            self._add()

    def relieve(self) -> None:
        """Replace the threads whose turns have become slow."""
        with self._lock:
            late = [key for key, turn in self._turns.items() if not turn.slow and self._clock() - turn.since > SLOW]
            for key in late:
                self._turns[key].slow = True
            lacking = min(self._count + self._slow() - len(self._threads), _MOST - len(self._threads))
        for key in late:
            self._queue.slow(key)
            self._log.debug("turn.slow", repository=key)
        for _ in range(lacking):
            self._add()

    def join(self) -> None:
        """Wait for all; the queue must have been stopped."""
        while True:
            with self._lock:
                thread = next(iter(self._threads), None)
            if thread is None:
                return
            thread.join()

    def _add(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _slow(self) -> int:
        return sum(turn.slow for turn in self._turns.values())

    def _run(self) -> None:
        try:
            while (key := self._queue.get()) is not None:
                with self._lock:
                    self._turns[key] = _Turn(self._clock())
                try:
                    self._work(key)
                finally:
                    with self._lock:
                        del self._turns[key]
                        needed = len(self._threads) - self._slow() <= self._count
                    self._queue.done(key)
                if not needed:
                    return
        except BaseException as error:  # noqa: BLE001 -- not swallowed: the owner ends the controller with it
            self._on_death(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _work(self, key: str) -> None:
        try:
            self._turn(key)
        except Exception:  # noqa: BLE001 -- a bug in one repository's turn must not end the others'; it is told in full
            self._log.exception("turn.crashed", repository=key)
            self._queue.retry(key)
