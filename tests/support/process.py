"""Processes that end with the test, whatever happens to the test.

A managed process leads a session of its own and is killed by the kernel when the *thread* that started it ends
(``PR_SET_PDEATHSIG``): start it on the main thread, or on one that outlives it. ``end`` takes its descendants along,
also those that began sessions of their own, as sshd's do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from tests.support.wait import until


def dies_with_parent(argv: Sequence[str]) -> list[str]:
    """``argv``, so that the kernel kills it with its parent; unchanged where there is no ``setpriv``."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)


def descendants(pid: int) -> list[int]:
    """The processes below ``pid``, parents first."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue  # it ended while we looked
        # The name in parentheses may hold anything: the fields begin after the last ")".
        children[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found: list[int] = []
    frontier = [pid]
    while frontier:
        frontier = [child for parent in frontier for child in children[parent]]
        found += frontier
    return found


def send_signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself


class Started(Protocol):
    """What is needed of a process, whoever has started it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class ManagedProcess:
    """One server process, its log file, and the signals that tests send it."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with log.open("ab") as out:
            self._process: Started = subprocess.Popen(
                dies_with_parent(argv),
                stdin=stdin,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; nothing happens where it has ended."""
        if self.alive:
            send_signal(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: it hangs, its sockets stay open and nothing is answered. Returns once it has truly stopped."""
        self.signal(signal.SIGSTOP)
        until(lambda: self._state() in "TtZX", what=f"process {self.pid} stops")

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self, timeout: float = 10.0) -> int:
        return self._process.wait(timeout)

    def end(self) -> None:
        """kill -9 of the process and of everything below it, and wait until it is gone. May be called twice."""
        if not self.alive:
            return
        self.signal(signal.SIGSTOP)  # what is stopped starts no further children while they are counted
        below = descendants(self.pid)
        for pid in (self.pid, *below):
            send_signal(pid, signal.SIGKILL)
        self._process.wait()

    def tail(self, lines: int = 30) -> str:
        """The end of its log, for the message of a failed test."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _state(self) -> str:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(errors="replace")
        except OSError:
            return "X"
        return stat.rpartition(")")[2].split()[0]
