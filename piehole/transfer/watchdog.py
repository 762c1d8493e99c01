"""The limits of a transfer, and the watchdog that ends one which stalls, takes too long or is no longer wanted.

A blocked read or write cannot check the time. So a thread does, and ends it from outside: it kills process groups and shuts
sockets down. The blocked call then fails, and the transfer asks the watchdog why.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from piehole.errors import TransferError

_TICK: Final = 0.1  # seconds between two checks: how late a stop or a limit may be noticed


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one fetch from one peer, over all of its attempts.

    ``max_bytes``: bytes of pack data. ``max_memory``: bytes that a git process may allocate which reads what a peer has
    sent; a few bytes of a pack can inflate to any size. ``connect``: seconds until the peer accepts the connection. ``stall``: seconds
    in which no byte arrived. ``total``: seconds from the first step to the last.
    """

    max_bytes: int = 16 << 30
    max_memory: int = 4 << 30
    connect: float = 10.0
    stall: float = 60.0
    total: float = 3600.0


class Watchdog:
    """Watches from ``__enter__`` to ``__exit__``. Afterwards, every process and socket that it owned is at its end.

    :param stop: set by somebody else to abort the transfer
    """

    def __init__(self, limits: Limits, stop: threading.Event | None = None) -> None:
        self._limits = limits
        self._stop = stop or threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._reason = ""
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._sockets: list[socket.socket] = []
        self._probe: Callable[[], bool] | None = None
        self._started = self._last = time.monotonic()
        self._listening = True
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._watch,), name="piehole-transfer-watchdog", daemon=True
        )

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._end_all()

    def arrived(self) -> None:
        """Note that a byte arrived, or that git accepted one: the transfer has not stalled."""
        self._last = time.monotonic()

    def listen(self, listening: bool, probe: Callable[[], bool] | None = None) -> None:
        """Set whether a silent peer counts as stalled in this step; ``probe`` is asked at each tick whether bytes arrived."""
        self._probe = probe
        self._listening = listening
        self.arrived()

    def own(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the group of this process (it leads its session) when the transfer is aborted, and at its end."""
        with self._lock:
            self._processes.add(process)
        self._end_if_aborted()

    def disown(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process. Call it *before* the process is reaped: its number may belong to another one a moment later."""
        with self._lock:
            self._processes.discard(process)

    def own_socket(self, connection: socket.socket) -> None:
        """Shut this socket down when the transfer is aborted, and at its end."""
        with self._lock:
            self._sockets.append(connection)
        self._end_if_aborted()

    def abort(self, reason: str) -> None:
        """End everything now; the first reason counts. ``reason`` completes "the fetch from PEER ..."."""
        with self._lock:
            self._reason = self._reason or reason
        self._end_all()

    def check(self) -> None:
        """:raises TransferError: the transfer was aborted; the message says why"""
        if not self._reason and self._stop.is_set():
            self.abort("was stopped")
        if self._reason:
            raise TransferError(self._reason)

    @property
    def reason(self) -> str:
        """Why the transfer was aborted; empty while it was not."""
        return self._reason

    def _end_if_aborted(self) -> None:
        if self._reason:
            self._end_all()

    def _end_all(self) -> None:
        with self._lock:
            for process in self._processes:
                _kill(process)
            for connection in self._sockets:
                _shut(connection)

    def _watch(self) -> None:
        while not self._over.wait(_TICK):
            if self._probe is not None and self._probe():
                self.arrived()
            reason = self._reason_to_end(time.monotonic())
            if reason:
                self.abort(reason)
                return

    def _reason_to_end(self, now: float) -> str:
        if self._reason:
            return self._reason
        if self._stop.is_set():
            return "was stopped"
        if now - self._started > self._limits.total:
            return f"took longer than {self._limits.total:g} s"
        if self._listening and now - self._last > self._limits.stall:
            return f"stalled: no byte arrived for {self._limits.stall:g} s"
        return ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Also when the leader has ended, since its children may live on. It was not reaped, so the number is still its own.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed already
        pass
