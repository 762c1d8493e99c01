"""A command at a terminal, where it may ask."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

from tests.support.command_line import COMMAND
from tests.support.wait import until


class Terminal:
    """A command that runs at a terminal; ``with`` ends it."""

    def __init__(self, *arguments: str | Path) -> None:
        self._master, slave = pty.openpty()
        command = [*COMMAND, *map(str, arguments)]
        self._process = subprocess.Popen(command, cwd="/", stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def sees(self, part: str) -> None:
        """Wait until the command has printed this, and forget everything up to there."""

        def found() -> bool:
            self._read()
            return part in self.shown

        until(found, 30, f"the terminal shows {part!r}")
        self.shown = self.shown.partition(part)[2]

    def types(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def end(self) -> int:
        status = self._process.wait(30)
        self._read()
        return status

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 1 << 16):
                self.shown += chunk.decode()
        except (BlockingIOError, OSError):  # nothing yet, or the other end is closed
            return
