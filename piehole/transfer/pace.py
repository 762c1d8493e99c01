"""How fast an examination may go: at the lowest priority, at a limited rate, and not beside others that go first."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_IDLE: Final = 3 << 13  # <linux/ioprio.h>: class idle
_TICK: Final = 0.1  # seconds between two looks at whether the others are done
_BURST: Final = 0.5  # seconds of reading that may be ahead of the rate


class Stopped(Exception):
    """Somebody wants the examination to end; it goes on from its cursor the next time."""


class Pace:
    """Asked before each piece of work, and told what was read.

    :param rate: bytes a second; 0: as many as the disk gives
    :param busy: whether others go first at the moment
    :param stop: whether to end
    :param progress: told all bytes read so far, and what is being done
    """

    def __init__(
        self,
        *,
        rate: float = 0.0,
        busy: Callable[[], bool] = lambda: False,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, str], None] = lambda _bytes, _doing: None,
    ) -> None:
        self._rate = rate
        self._busy = busy
        self._stop = stop
        self._progress = progress
        self._ahead = 0.0  # seconds that the reading is ahead of the rate
        self._at = time.monotonic()
        self._read = 0

    def step(self, read: int, doing: str) -> None:
        """Wait as long as the rate and the others ask for, after so many bytes were read.

        :raises Stopped: it shall end
        """
        self._read += read
        self._progress(self._read, doing)
        now = time.monotonic()
        self._ahead = max(0.0, self._ahead - (now - self._at)) + (read / self._rate if self._rate else 0.0)
        self._at = now
        while not self._stop() and (self._busy() or self._ahead > _BURST):
            time.sleep(_TICK)
            now = time.monotonic()
            self._ahead, self._at = max(0.0, self._ahead - (now - self._at)), now
        if self._stop():
            raise Stopped


def lowest_priority() -> None:
    """Have this process, and all that it starts, use the processor and the disk only where nobody else wants them."""
    with suppress(OSError):
        os.nice(19)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).syscall(number, 1, 0, _IDLE)
