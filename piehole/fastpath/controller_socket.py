"""A hook's connection to the site's controller, a Unix socket. Imports nothing heavy: it is on the hooks' path.

It serves the questions of one push, one after the other. A message is lines of text (:mod:`piehole.fastpath.hook_messages`) and an
empty line. The controller says ``here`` at once, so that a hook knows within a second whether one lives, and how long it may take
(``piehole.hookTimeout`` less what the push has waited already); then, when it knows, the answer.

``_socket`` is what the module ``socket`` is made of; importing that one costs a hook 8 ms for nothing it needs.
"""

from __future__ import annotations

import _socket
import os
from sys import byteorder
from time import monotonic

from piehole.fastpath.hook_messages import is_served, pack_status_question, parse_here, parse_pusher_from, parse_status

POINTER = "piehole/controller"
HERE_TIMEOUT = 1.0  # seconds in which a controller that lives says "here"
# The controller gets this share of the time, so that the hook can still ask etcd itself if it falls silent.
CONTROLLER_SHARE = 0.6
LARGEST = 64 << 20  # bytes
_SO_PEERCRED = 17  # <asm-generic/socket.h>; the module _socket does not name it everywhere


class NoController(Exception):
    """No controller answered; ``asked`` is true where one may have taken the question and then fell silent."""

    def __init__(self, why: str, *, asked: bool = False) -> None:
        super().__init__(why)
        self.asked = asked


def pack(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n\n").encode("utf-8", "surrogateescape")


class Reader:
    """Reads messages from a connected socket, none of them larger than ``largest`` (bytes)."""

    def __init__(self, connection: _socket.socket, largest: int = LARGEST) -> None:
        self._connection = connection
        self._largest = largest
        self._buffer = b""

    def message(self, deadline: float) -> list[str]:
        """The next message's lines, awaited until ``deadline`` (monotonic seconds).

        :raises OSError: the connection broke, was closed, timed out, or sent too much
        """
        chunks = [self._buffer]
        size = len(self._buffer)
        tail = self._buffer[-1:]
        end = self._buffer.find(b"\n\n")
        while end < 0:
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._connection.settimeout(left)
            chunk = self._connection.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError("the connection was closed")
            size += len(chunk)
            if size > self._largest:
                raise ConnectionError("the message is too long")
            chunks.append(chunk)
            if b"\n\n" in tail + chunk:
                whole = b"".join(chunks)
                end = whole.find(b"\n\n")
                chunks = [whole]
            tail = chunk[-1:]
        whole = chunks[0]
        self._buffer = whole[end + 2 :]
        return whole[:end].decode("utf-8", "surrogateescape").split("\n")


def caller(connection: _socket.socket) -> tuple[int, int]:
    """The process and the account at the other end, as the kernel saw them when it connected, or began to listen.

    :raises OSError: the connection is closed
    """
    # struct ucred is three ints: pid, uid, gid (unix(7)).
    found = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12)
    return int.from_bytes(found[:4], byteorder), int.from_bytes(found[4:8], byteorder)


def controller_socket(git_dir: str) -> str:
    """The path of the socket of the controller that serves this repository; ``""`` where there is none.

    The file that holds it can be written by whoever can write the repository. It is only a hint:
    :func:`ask` trusts nobody but the repository's owner at the other end.
    """
    try:
        with open(f"{git_dir}/{POINTER}", "rb") as file:
            return file.read(200).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""


class Connection:
    """A connection to the controller that serves ``git_dir``, for one question after the other.

    Once one has failed it is closed: what came after the half of a question would be read as the rest of it, and a late answer would be
    taken for that of another question.
    """

    def __init__(self, git_dir: str) -> None:
        """
        :raises NoController: there is no controller, or it is not the repository owner's
        """
        path = controller_socket(git_dir)
        if not path:
            raise NoController("no controller has announced itself")
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._reader = Reader(self._socket)
        self.pusher_from: list[str] = []
        self._until = 0.0  # monotonic seconds: when the question that was sent should be answered
        try:
            self._socket.settimeout(HERE_TIMEOUT)
            self._socket.connect(path)
            _, server = caller(self._socket)
            owner = os.stat(git_dir).st_uid
        except OSError as error:
            self.close()
            raise NoController(str(error)) from error
        if server != owner:
            self.close()
            raise NoController(f"{path} belongs to another account than the repository")

    def ask(self, question: list[str]) -> list[str]:
        """The lines of the answer.

        :raises NoController: the controller did not take the question, or fell silent; the connection is of no more use
        """
        self.send(question)
        return self.answer()

    def send(self, question: list[str]) -> None:
        """Have the controller take the question; when this returns, it has checked who asks.

        :raises NoController: as :meth:`ask`
        """
        asked = False
        try:
            self._socket.settimeout(HERE_TIMEOUT)
            self._socket.sendall(pack(question))
            asked = True
            here = self._reader.message(monotonic() + HERE_TIMEOUT)
            seconds = parse_here(here)
            self.pusher_from = parse_pusher_from(here)
            self._until = monotonic() + seconds * CONTROLLER_SHARE
        except (
            OSError,
            ValueError,
            LookupError,
        ) as error:  # one of another version may act on the question all the same
            self.close()
            raise NoController(str(error), asked=asked) from error

    def answer(self) -> list[str]:
        """The lines of the answer to what was sent.

        :raises NoController: as :meth:`ask`
        """
        try:
            return self._reader.message(self._until)
        except (OSError, ValueError, OverflowError) as error:
            self.close()
            raise NoController(str(error), asked=True) from error

    def close(self) -> None:
        self._socket.close()


def ask(git_dir: str, question: list[str]) -> list[str]:
    """Ask the controller that serves ``git_dir`` one question and return its answer's lines.

    :raises NoController: there is no controller, it is not the repository owner's, or it fell silent
    """
    connection = Connection(git_dir)
    try:
        return connection.ask(question)
    finally:
        connection.close()


def ask_status(git_dir: str) -> list[str]:
    """What the controller that serves this repository says of it, ``WORD REST`` each; nothing where all is well.

    :raises NoController: none answers
    """
    lines = ask(git_dir, pack_status_question(git_dir))
    if not is_served(lines):
        raise NoController("the controller that it names does not serve this repository")
    return parse_status(lines)
