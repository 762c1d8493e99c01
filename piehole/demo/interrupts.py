"""Ctrl-C, SIGTERM and a terminal that closes end the demo, but never between a process's start and its being known."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import Handlers
from types import FrameType
from typing import Any, Final

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupts:
    """While it is entered, the first of these signals raises KeyboardInterrupt, once. Belongs to the main thread.

    What the caller has ignored stays ignored: nohup does so with SIGHUP.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._held = 0
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | Handlers | None] = {}

    def __enter__(self) -> Interrupts:
        heard = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._interrupt) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is done in here is done to its end; a signal that comes meanwhile counts afterwards."""
        asked = self._asked.is_set()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._asked.is_set() and not asked and not self._held:
            raise KeyboardInterrupt

    def wait(self) -> None:
        """Wait for a signal, which raises KeyboardInterrupt."""
        self._asked.wait()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            return  # the end is under way
        self._asked.set()
        if not self._held:
            raise KeyboardInterrupt
