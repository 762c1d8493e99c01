"""The socket for the hooks: checks who asks about which repository, and answers only a hook that still waits.

Every account of this server may connect, since pushers have accounts of their own; what an account may ask for follows from what it
may do itself: its hook must run below a living receive-pack, and it must be able to write the repository. Readers
(:mod:`controller.readers`) must be able to read it.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

import structlog

from controller.hook_permissions import ConnectionCounter, is_trusted, may_write
from controller.push_log import PushLog
from controller.readers import Readers, answer_reader
from controller.socket_directory import is_in_place, socket_directory, take_lock
from piehole.errors import PieholeError
from piehole.fastpath import controller_socket, hook_messages, processes
from piehole.fastpath.hook_messages import Answer, Question
from piehole.fastpath.read_messages import reader_asks_about
from piehole.group.config import Config
from piehole.push import hook_protocol
from piehole.push.admission import Admission

_QUESTION: Final = 5.0  # seconds in which a client must have asked
_NEXT_QUESTION: Final = 300.0  # in which it must have asked again: other hooks may run between two hooks of a push
# Bytes of a question from another account; its repository is only known when it has arrived. 8192 refs have about three million.
_OTHERS_LARGEST: Final = 4 << 20
_BACK_OFF: Final = 0.2  # seconds until a connection is accepted after one could not be
_LOG_EVERY: Final = 60.0  # seconds
_LATE: Final = 20.0  # seconds after which a loop that comes round twice a second hangs


class RepositoryForHooks(Protocol):
    """What the server needs of a served repository."""

    config: Config
    admission: Admission

    @property
    def readers(self) -> Readers | None:
        """None: it is not known how far its refs have come."""

    def describe(self) -> Sequence[str]:
        """Lines for `piehole status`."""


class HookServer:
    """Listens until :meth:`stop`. ``find`` gives the served repository at a path, or None."""

    def __init__(
        self,
        name: str,
        find: Callable[[str], RepositoryForHooks | None],
        answered: Callable[[Question, Answer, float], None] | None = None,
    ) -> None:
        """
        :param name: what tells this controller from others of the same account
        :param answered: called with each question about a push that was answered, the answer, and the seconds that it took
        :raises PieholeError: there is no directory that only this account can write, or another controller has this name
        """
        self.path = socket_directory() / f"{sha256(name.encode()).hexdigest()[:16]}.sock"
        self._name = name
        self._find = find
        self._answered = answered
        self._log = structlog.get_logger(socket=str(self.path))
        self._lock_path = self.path.with_suffix(".lock")
        self._lock = take_lock(self._lock_path, name)
        self._callers = ConnectionCounter(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._listen()

    def _listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = _Listener(str(self.path), self._handle, self._callers)
        self.path.chmod(0o666)
        self._made = self.path.lstat()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.5,), name="hooks' socket")

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether connections are accepted."""
        return self._thread.is_alive() and monotonic() - self._server.looked_at < _LATE

    def look_after(self) -> None:
        """Make the socket and the lock beside it again where they were removed: a running listener is of no use without its name.

        :raises PieholeError: that is not possible, so this controller had better be started again
        :raises OSError: likewise
        """
        if is_in_place(self.path, self._made) and is_in_place(self._lock_path, os.fstat(self._lock)):
            return
        if socket_directory() != self.path.parent:
            raise PieholeError(f"the directory of the socket {self.path} was removed, and cannot be made again.")
        if not is_in_place(self._lock_path, os.fstat(self._lock)):
            held, self._lock = self._lock, take_lock(self._lock_path, self._name)
            os.close(held)
        former, thread = self._server, self._thread
        self._listen()
        self._thread.start()
        former.shutdown()
        thread.join()
        former.server_close()
        self._log.warning("socket.restored")

    def stop(self) -> None:
        """Take no new question; those being answered end with their hooks' deadlines."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        if is_in_place(self._lock_path, os.fstat(self._lock)):
            self.path.unlink(missing_ok=True)
            self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)

    def _handle(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        except (OSError, ValueError) as error:  # the hook has gone, or the client is no hook
            self._log.debug("hook.gone", error=str(error))
        except PieholeError as error:
            # A hook that gets no answer decides by itself.
            self._log.warning("hook.refused", error=str(error))
        except Exception:  # noqa: BLE001 -- a bug in one answer must not end the others'; it is logged in full
            self._log.exception("answer.crashed")

    def _answer(self, connection: socket.socket) -> None:
        """Answer all questions of one connection: those of one push, whose hook has asked the first."""
        pid, uid = controller_socket.caller(connection)
        reader = controller_socket.Reader(connection, controller_socket.LARGEST if is_trusted(uid) else _OTHERS_LARGEST)
        lines = reader.message(monotonic() + _QUESTION)
        described = hook_messages.parse_status_question(lines)
        if described is not None:
            self._describe(connection, described, uid)
            return
        read = reader_asks_about(lines)
        if read is not None:
            served = self._find(read) or self._find(os.path.realpath(read))
            readers = served.readers if served is not None else None
            with self._callers.reading(uid) as free:
                answers = answer_reader(readers, lines, uid, lambda: _is_open(connection)) if free else ()
                for answer in answers:
                    _send(connection, answer)
            return
        question = hook_protocol.parse(lines)
        push_name = question.push_name
        if not _is_hook(pid, push_name):
            return
        log = PushLog(self._log)
        try:
            while self._answer_one(connection, question, uid, push_name, log):
                question = hook_protocol.parse(reader.message(monotonic() + _NEXT_QUESTION))
        finally:
            log.end()
            site = self._find(question.repository)
            # While its git lives, a hook may go on by itself.
            if site is not None and processes.lives(push_name) is False:
                site.admission.copies.end(question.push_id)

    def _answer_one(
        self, connection: socket.socket, question: Question, uid: int, push_name: str, log: PushLog
    ) -> bool:
        """Whether the question was answered. A hook that gets no answer decides by itself, with the rights of its own account."""
        site = self._find(question.repository)
        if site is None or question.push_name != push_name or not may_write(Path(question.repository), uid):
            return False

        def is_awaited() -> bool:
            return _is_open(connection) and hook_protocol.is_awaited(question)

        began = monotonic()
        deadline = hook_protocol.deadline_of(question, site.config.hook_timeout, site.config.copies_timeout)
        _send(connection, hook_messages.pack_here(deadline.remaining(), site.config.pusher_from))
        deadline = deadline.at_most(deadline.remaining() * controller_socket.CONTROLLER_SHARE * 0.9)
        if question.kind == "announce":
            readers = site.readers
            words = readers.announce(log.revision, promised=not log.warned, awaited=is_awaited) if readers else ""
            _send(connection, Answer("sites", "-", words).pack())
            return True
        answered = hook_protocol.answer(question, site.admission, deadline, is_awaited)
        if answered is None:
            self._log.warning("proposal.dropped", repository=question.repository, push=question.push_id)
            return False
        took = monotonic() - began
        _send(connection, answered.pack())
        log.answered(site.config, question, answered, began)
        if self._answered is not None:  # after the hook has its answer, whatever becomes of this
            self._answered(question, answered, took)
        return True

    def _describe(self, connection: socket.socket, path: str, uid: int) -> None:
        site = self._find(path)
        if site is not None and may_write(Path(path), uid):
            _send(connection, hook_messages.pack_here(10))
            _send(connection, hook_messages.pack_status(site.describe()))
        elif site is None and is_trusted(uid):
            _send(connection, hook_messages.pack_here(10))
            _send(connection, hook_messages.pack_not_served())


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, handle: Callable[[socket.socket], None], callers: ConnectionCounter) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                handle(self.request)

        self._callers = callers
        self._log = structlog.get_logger(socket=path)
        self._logged_at = float("-inf")
        self.looked_at = monotonic()  # when the loop that accepts came round last
        super().__init__(path, Handler)

    def service_actions(self) -> None:
        self.looked_at = monotonic()

    def get_request(self) -> tuple[socket.socket, object]:
        """The next connection. Where none can be taken (no descriptor is free), wait a little: it stays in the queue, so that the caller
        would come back at once, and again and again.
        """
        try:
            return super().get_request()
        except OSError as error:
            self._back_off(error)
            raise

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 -- socketserver's
        self._back_off(sys.exc_info()[1])

    def _back_off(self, error: BaseException | None) -> None:
        if monotonic() - self._logged_at > _LOG_EVERY:
            self._logged_at = monotonic()
            self._log.error(
                "hooks.not_accepted", error=str(error), advice="raise LimitNOFILE or `ulimit -n`, and see who connects"
            )
        time.sleep(_BACK_OFF)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override] # typeshed: a pair, too
        uid = controller_socket.caller(request)[1]
        if not self._callers.enter(uid):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._callers.leave(uid)
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        uid = controller_socket.caller(request)[1]
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._callers.leave(uid)


def _send(connection: socket.socket, lines: Sequence[str]) -> None:
    connection.settimeout(_QUESTION)
    connection.sendall(controller_socket.pack(list(lines)))


def _is_hook(pid: int, push_name: str) -> bool:
    """Whether the client runs below the living receive-pack that it names."""
    git, command = processes.nearest_git(pid)
    return bool(git) and command == "receive-pack" and processes.identity(git) == push_name


def _is_open(connection: socket.socket) -> bool:
    """Whether the client still waits for the answer."""
    readable = select.poll()  # select() knows no descriptor above 1023
    readable.register(connection, select.POLLIN)
    return not readable.poll(0) or bool(connection.recv(1, socket.MSG_PEEK))
