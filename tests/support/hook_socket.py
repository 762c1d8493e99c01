"""Something on the socket at which hooks ask: the real server in this process, or one that answers what it is told."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from controller.hook_server import HookServer
from piehole.fastpath import controller_socket, hook_messages
from piehole.group.config import Config
from piehole.group.replica import Replica
from piehole.push.admission import Admission
from piehole.push.consensus_source import LinearizableSource
from tests.support.wait import until

Talk = Callable[["Line"], None]


class _Site:
    """A repository as the server sees it, answered by linearizable reads."""

    readers = None

    def __init__(self, git_dir: Path) -> None:
        replica = Replica.open(git_dir)
        self.config: Config = replica.config
        self.admission = Admission(replica, LinearizableSource(replica, lambda: None))

    def describe(self) -> Sequence[str]:
        return []


@contextmanager
def serving(git_dir: Path) -> Iterator[None]:
    """The controller's own server answers the hooks of this repository."""
    site = _Site(git_dir)
    with tempfile.TemporaryDirectory() as runtime:
        Path(runtime).chmod(0o755)
        server = HookServer(f"{runtime}{git_dir}", lambda path: site if path == str(git_dir) else None)
        server.start()
        pointer = git_dir / controller_socket.POINTER
        pointer.write_text(f"{server.path}\n")
        try:
            yield
        finally:
            pointer.unlink(missing_ok=True)
            server.stop()


class Line:
    """One question of a hook."""

    def __init__(self, connection: socket.socket, question: list[str]) -> None:
        self._connection = connection
        self.question = question

    @property
    def hook(self) -> int:
        """The process that waits for the answer."""
        named = next((line for line in self.question if line.startswith("hook ")), "")
        credentials = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", credentials)[0]
        return int(named.split(".")[2]) if named else pid

    def say(self, *lines: str) -> None:
        self._connection.sendall(controller_socket.pack(list(lines)))


class Stub:
    """A controller in name only: it keeps what it is asked and says what ``talk`` has it say.

    It foresees nothing: :attr:`foreseen` are the questions for that, and each hook asks again for itself.
    """

    def __init__(self, git_dir: Path, talk: Talk, *, foresees: bool = True) -> None:
        """:param foresees: False: what is to be foreseen is left to ``talk``, too"""
        self._foresees = foresees
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/s"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(16)
        self._talk = talk
        self._pointer = git_dir / controller_socket.POINTER
        self._pointer.write_text(path)
        self._open: list[socket.socket] = []
        self.lines: list[Line] = []
        self.foreseen: list[Line] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, kind: str) -> Line:
        """The first question of this kind."""
        return until(
            lambda: next((line for line in self.lines if line.question[:1] == [kind]), None),
            20,
            f"a hook asks to {kind}",
        )

    def close(self) -> None:
        self._pointer.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = controller_socket.Reader(connection)
        try:
            while True:
                line = Line(connection, reader.message(monotonic() + 60))
                if line.question[0] == "foresee" and self._foresees:
                    self.foreseen.append(line)
                    line.say(*hook_messages.pack_here(8))
                    line.say("foreseen", *("later" for one in line.question if one.startswith("command ")))
                else:
                    self.lines.append(line)
                    self._talk(line)
        except OSError:
            pass  # the hook has gone


@contextmanager
def stub(git_dir: Path, talk: Talk, *, foresees: bool = True) -> Iterator[Stub]:
    made = Stub(git_dir, talk, foresees=foresees)
    try:
        yield made
    finally:
        made.close()


# Asks one question and prints what comes back; PACK stands for the receive-pack below which it runs.
_HOOK = """
import os, socket, sys
sys.path[:0] = [{tree!r}]
from piehole.fastpath import controller_socket, processes
lines = [line.replace("PACK", str(processes.identity(os.getppid()))) for line in {lines!r}]
s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect({path!r}); s.sendall(controller_socket.pack(lines))
answer = b""
while answer.count(b"\\n\\n") < 2 and (chunk := s.recv(65536)): answer += chunk
print(answer.decode(), end="")
"""


def ask_as_hook(git_dir: Path, lines: Sequence[str]) -> list[str]:
    """What a hook of this repository is answered that asks in these lines; empty where it gets no word. PACK stands for its receive-pack."""
    script = _HOOK.format(
        tree=str(Path(controller_socket.__file__).parents[2]),
        lines=list(lines),
        path=controller_socket.controller_socket(str(git_dir)),
    )
    # bash stays as the parent, since something follows the command.
    command = 'exec -a git-receive-pack bash -c \'"$0" -I -c "$1"; true\' "$0" "$1"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if line][1:]
