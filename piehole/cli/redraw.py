"""A screen that is drawn again and again in place, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from piehole.cli import tables

# Another screen than the one with the shell's history, without a cursor; a terminal that cannot do this ignores it.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
# The terminal shows all of a frame at once (synchronized output), and nothing is erased before it is overwritten: no flicker.
_FRAME: Final = "\x1b[?2026h\x1b[H"
_END: Final = "\x1b[0m\x1b[J\x1b[?2026l"
_AWAITED: Final = {signal.SIGWINCH, signal.SIGTSTP}


class Screen:
    """Takes over the terminal; leaving the ``with`` block gives it back as it was, also after Ctrl-C and SIGTERM."""

    def __init__(self) -> None:
        self._settings: list[Any] | None = None

    def __enter__(self) -> Self:
        # Before any thread is started: new sizes of the window and Ctrl-Z are waited for by wait() alone.
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def show(self, lines: Sequence[str]) -> None:
        """Draw these lines, as far as the window has room: the last one always, with what is left out counted before it."""
        room = tables.window()[1]
        if len(lines) > room:
            cut = lines[: room - 2]
            lines = [*cut, f"… {len(lines) - len(cut) - 1} more lines; enlarge the window", lines[-1]]
        body = "\n".join(f"{line}\x1b[0m\x1b[K" for line in lines)
        _write(f"{_FRAME}{body}{_END}")

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the window has another size or the command goes on after Ctrl-Z."""
        found = signal.sigtimedwait(_AWAITED, seconds)
        if found is not None and found.si_signo == signal.SIGTSTP:
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take()

    def _take(self) -> None:
        if sys.stdin.isatty():
            self._settings = termios.tcgetattr(sys.stdin)
            quiet = [*self._settings]
            quiet[3] &= ~(termios.ECHO | termios.ICANON)  # what is typed must not be drawn into the frame
            termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
        _write(_ENTER)

    def _give_back(self) -> None:
        _write(_LEAVE)
        if self._settings is not None:
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, self._settings)  # what was typed is no input for the shell


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)
