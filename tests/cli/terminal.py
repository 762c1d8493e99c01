"""A command at a terminal, where it may ask."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.command_line import COMMAND
from tests.support.wait import until


class Terminal:
    """A command that runs at a terminal; ``with`` ends it."""

    def __init__(
        self,
        *arguments: str | Path,
        columns: int = 80,
        lines: int = 24,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = COMMAND,
    ) -> None:
        """
        :param env: variables that this command has beside those of the test
        :param program: another one than piehole
        """
        self._master, self._slave = pty.openpty()
        self.resize(columns, lines)
        self.settings = termios.tcgetattr(self._slave)
        command = [*program, *map(str, arguments)]
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self._process = subprocess.Popen(
            command,
            cwd="/",
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # as in a shell: Ctrl-C and new sizes are signals
        )
        os.set_blocking(self._master, False)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    def sees(self, part: str) -> None:
        """Wait until the command has printed this, and forget everything up to there."""

        def found() -> bool:
            self._read()
            return part in self.shown

        until(found, 30, f"the terminal shows {part!r}")
        self.shown = self.shown.partition(part)[2]

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def presses(self, key: str) -> None:
        os.write(self._master, key.encode())

    @property
    def is_restored(self) -> bool:
        """Whether the terminal's settings are those that it had before the command."""
        return termios.tcgetattr(self._slave) == self.settings

    def types(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def end(self) -> int:
        status = self._process.wait(30)
        self._read()
        return status

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def is_stopped(self) -> bool:
        state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def reads(self) -> str:
        """What was printed since :meth:`sees` has found something."""
        self._read()
        return self.shown

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 1 << 16):
                self.shown += chunk.decode(errors="surrogateescape")
        except (BlockingIOError, OSError):  # nothing yet, or the other end is closed
            return


class Piped:
    """The command where its output is no terminal."""

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd="/", stdout=out, stderr=out)

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def text(self) -> str:
        return self._log.read_text()

    def blocks(self) -> list[str]:
        return self.text.split("\n\n")
