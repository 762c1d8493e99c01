"""Processes that end with the demo: each in a group of its own, ended by its id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from piehole.errors import PieholeError


class Process:
    """A server of the demo; its output goes to ``log``."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
            )

    def check(self) -> None:
        """
        :raises PieholeError: it has ended
        """
        if self._process.poll() is not None:
            raise PieholeError(f"{self.name} ended with status {self._process.returncode} when it should run.")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; a process that is gone already is no fault."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()

    def end(self, patience: float = 5.0) -> None:
        """Ask it to end, and make it end. Nothing of its group is left."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        self.kill()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
