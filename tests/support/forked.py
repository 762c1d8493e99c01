"""``piehole`` commands as forks of a process that has imported piehole already.

Starting Python and importing piehole takes a command 0.25 s of processor time and a controller 0.45 s, a fork 0.03 s. Everything else is
as with ``python -m piehole.cli``: a process and a session of its own, its own environment, folder and files, ended by the kernel with
the tests. tests/demo, tests/servers, tests/gitolite and tests/life run the program as it is installed.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.support.process import ManagedProcess

_ROOT = Path(__file__).parents[2]
_MOST = 1 << 17  # bytes of a request: arguments and environment
_PR_SET_PDEATHSIG = 1


class Forked:
    """A process that the server has forked, with as much of ``subprocess.Popen`` as is needed here."""

    def __init__(self, server: _Server, pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._server.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("piehole", timeout or 0.0)
            time.sleep(0.005)
        return status


class ManagedPiehole(ManagedProcess):
    """A ``piehole`` command that runs until it is ended, such as a controller."""

    def __init__(self, arguments: list[str], log: Path, *, env: Mapping[str, str]) -> None:
        self.argv = ["piehole", *arguments]
        self.log = log
        with log.open("ab") as out, Path(os.devnull).open("rb") as nothing:
            self._process = _server().start(arguments, (nothing, out, out), cwd=Path.cwd(), env=env)


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | str = "/", timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, where there is no terminal. Its descendants are not waited for."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        process = _server().start(list(arguments), (nothing, out, err), cwd=cwd, env=env or os.environ)
        try:
            status = process.wait(timeout)
        except BaseException:
            os.kill(process.pid, signal.SIGKILL)
            raise
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="surrogateescape"))
    return subprocess.CompletedProcess(["piehole", *arguments], status, *said)


class _Server:
    """This process's end of the server, which ends when its channel does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[int, int] = {}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.end)

    def start(
        self,
        arguments: list[str],
        files: tuple[IO[bytes], IO[bytes], IO[bytes]],
        *,
        cwd: Path | str,
        env: Mapping[str, str],
    ) -> Forked:
        umask = os.umask(0o077)
        os.umask(umask)
        wish = json.dumps({"arguments": arguments, "cwd": str(cwd), "umask": umask, "env": dict(env)}).encode()
        with self._lock:
            socket.send_fds(self._channel, [wish], [file.fileno() for file in files])
            while (pid := self._receive()) is None:
                pass
            self._ended.pop(pid, None)  # of an earlier process with this pid
        return Forked(self, pid)

    def status(self, pid: int) -> int | None:
        with self._lock:
            while pid not in self._ended and select.select([self._channel], [], [], 0)[0]:
                self._receive()
            return self._ended.get(pid)

    def end(self) -> None:
        self._channel.close()
        self._process.wait()

    def _receive(self) -> int | None:
        """The pid of a process that has begun; None: one that has ended is noted."""
        message = self._channel.recv(_MOST)
        assert message, "the server that forks piehole has ended"
        pid, status = json.loads(message)
        if status is None:
            return int(pid)
        self._ended[pid] = status
        return None


@functools.cache
def _server() -> _Server:
    return _Server()


# ---- in the server


def _serve(channel: socket.socket) -> None:
    """Fork a process for each request, and report the end of each; return in the forks only."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    prctl = ctypes.CDLL(None).prctl
    gc.collect()
    gc.freeze()
    me = os.getpid()
    while True:
        ready = select.select([channel.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(channel)
        if channel.fileno() not in ready:
            continue
        message, files, _, _ = socket.recv_fds(channel, _MOST, 3)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (channel.detach(), woken, wake):
                os.close(fd)
            _become(files, json.loads(message))
            return
        for fd in files:
            os.close(fd)
        channel.send(json.dumps([pid, None]).encode())


def _report_ends(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        channel.send(json.dumps([pid, os.waitstatus_to_exitcode(status)]).encode())


def _become(files: list[int], wish: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    os.setsid()
    for number, fd in enumerate(files):
        os.dup2(fd, number)
        os.close(fd)
    os.umask(wish["umask"])
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    time.tzset()
    sys.argv = ["piehole", *wish["arguments"]]


def _import_all() -> None:
    for name in ("piehole", "controller"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


if __name__ == "__main__":
    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from piehole.cli import main

    main()
