"""What a command shows of long work on standard error: one line of a terminal, drawn again and again; elsewhere a line now and then.

The cursor waits at the beginning of the line, so that what others print (git, the shell after a kill) overwrites it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from piehole import long_work
from piehole.long_work import BYTES, LongWork, WorkStep

AFTER: Final = 0.5  # seconds; what is done sooner is not shown
REDRAW: Final = 0.2
_TICK: Final = 0.2
_SETTLED: Final = 1.0  # seconds before a rate says something
_LEAST: Final = 8  # columns for what is being done
_ERASE: Final = "\r\x1b[K"


class ProgressLine(LongWork):
    """Shows what its command does, until the command says that it rests: it prints or asks something then."""

    def __init__(self) -> None:
        super().__init__()
        self._on_terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._is_started = False
        self._is_drawn = False
        self._next = 0.0

    def doing(self, what: str, done: int, total: int, unit: str) -> None:
        with self._lock:
            if self.step is None:
                self.began = time.monotonic()
                self._next = self.began + (AFTER if self._on_terminal else long_work.EVERY)
            super().doing(what, done, total, unit)
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="progress", daemon=True).start()
            self._show()

    def rest(self) -> None:
        with self._lock:
            super().rest()
            if self._is_drawn:
                self._is_drawn = False
                _write(_ERASE)

    def end(self) -> None:
        self._over.set()
        self.rest()

    def _run(self) -> None:
        # What is told rarely has to show all the same that it goes on.
        while not self._over.wait(_TICK):
            with self._lock:
                self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self.step is None or now < self._next:
            return
        if not self._on_terminal:
            from piehole.cli.printing import shown

            self._next = now + long_work.EVERY
            what, far = words(self.step, now - self.began)
            _write(shown(f"piehole: {what}{far}") + "\n")
        elif _is_in_foreground():
            self._next = now + REDRAW
            self._is_drawn = True
            _write(f"{_ERASE}{fitted(*words(self.step, now - self.began), _columns() - 1)}\r")


def words(step: WorkStep, seconds: float) -> tuple[str, str]:
    """What is being done, and how far it is, how quick, and for how long."""
    far = ""
    if step.done or step.total:
        part = f" of {_amount(step.total, step.unit)}" if step.total else ""
        percent = f" ({min(100, step.done * 100 // step.total)}%)" if step.total else ""
        unit = "" if step.total and step.unit != BYTES else step.unit
        far = f": {_amount(step.done, unit)}{part}{percent}"
        rate = step.rate()
        if step.unit == BYTES and rate > 0 and time.monotonic() - step.began > _SETTLED:
            far += f", {_amount(int(rate), step.unit)}/s"
    return step.what, f"{far}, {_time(int(seconds))}"


def fitted(what: str, far: str, most: int) -> str:
    """Both in one line of so many columns; ``what`` gives way first."""
    from piehole.cli import tables

    room = max(most - tables.width(far), _LEAST)
    return tables.clipped(tables.clipped(tables.literal(what), room) + far, most)


def _amount(number: int, unit: str) -> str:
    if unit != BYTES:
        return f"{number} {unit}".rstrip()
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number} bytes"


def _time(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h {seconds // 60 % 60} min"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _is_in_foreground() -> bool:
    """Whether the terminal is this command's at the moment, and not the shell's or another command's (Ctrl-Z, `&`)."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return True


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody is there any more
        sys.stderr.write(text)
        sys.stderr.flush()


@contextmanager
def shown() -> Iterator[None]:
    """Show the long work that is done inside of this, by this thread and those that work for it."""
    line = ProgressLine()
    try:
        with long_work.watched(line):
            yield
    finally:
        line.end()
