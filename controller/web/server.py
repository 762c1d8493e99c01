"""The controller's web server: GET and HEAD only, a bounded number of connections and streams, and a time limit for each request.

It asks for no password, so it listens on this machine only unless it is told otherwise. There it answers only requests that are
addressed to this machine: else a page anywhere could have a browser read from it, under a name of its own that it changes to 127.0.0.1.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import socketserver
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from controller.web.routes import RouteTable, WebRequest, WebResponse
from piehole.errors import PieholeError, UsageError

CONNECTIONS: Final = 64
STREAMS: Final = 24
_log = structlog.get_logger()
_REQUEST: Final = 10.0  # seconds in which a client must have sent its request
_WRITE: Final = 20.0  # seconds in which it must take a part of the answer
_ANSWER: Final = 120.0  # seconds in which it must have taken an answer that is no stream


@dataclass(frozen=True, slots=True)
class WebAddress:
    """``host`` and ``port``, or ``path`` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> WebAddress:
        """HOST:PORT, [V6]:PORT, :PORT (on 127.0.0.1), or the absolute path of a Unix socket.

        :raises UsageError: it has another form
        """
        if text.startswith("/"):
            if len(text.encode()) > 107:
                raise UsageError(f"--http {text}: the path of a Unix socket has at most 107 bytes.")
            return cls(path=text)
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname or "127.0.0.1", parts.port
        except ValueError:
            host, port = "", None
        if port is None or parts.netloc != text or "@" in text or not host:
            raise UsageError(
                f"--http {text!r} is no address: use HOST:PORT such as 127.0.0.1:9480, [::1]:9480, or the absolute path of a Unix socket."
            )
        return cls(host, port)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect. (Who may connect to a Unix socket, its mode and folder say.)"""
        return bool(self.path) or _is_loopback(self.host)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class WebServer:
    """Listens from its making on, so that an address that is taken is a fault at the start; answers from :meth:`start` to :meth:`stop`."""

    def __init__(self, address: WebAddress, routes: RouteTable) -> None:
        """
        :raises PieholeError: it cannot listen there
        """
        self.stopping = threading.Event()
        try:
            self._listener = _HttpListener(address, routes, self.stopping)
        except (OSError, OverflowError) as error:
            raise PieholeError(
                f"cannot listen on {address} (--http): {error}. Choose another address, or end what listens there."
            ) from error
        self.address = self._listener.address
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.5,), name="http")

    def start(self) -> None:
        if not self.address.is_local:
            _log.warning(
                "http.open",
                http=str(self.address),
                reason="every machine that reaches this address can read names of groups, refs and pushers, without a password",
                fix="listen on 127.0.0.1, behind a web server that asks for a login, or close the port to others",
            )
        self._thread.start()
        _log.info("http.listening", http=str(self.address))

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Take no new connection, and end the streams."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._listener.shutdown()
            self._thread.join()
        self._listener.close()


class _HttpListener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: WebAddress, routes: RouteTable, stopping: threading.Event) -> None:
        self.routes = routes
        self.stopping = stopping
        self.streams = threading.BoundedSemaphore(STREAMS)
        self._lock = threading.Lock()
        self._ends: dict[socket.socket, float] = {}  # when each connection is ended (monotonic seconds)
        self.checks_host = not address.path and address.is_local
        target: Any = (address.host, address.port)
        if address.path:
            self.address_family, target = socket.AF_UNIX, address.path
            self.allow_reuse_address = False
            _remove_stale(address.path)
        else:
            self.address_family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        super().__init__(target, _HttpHandler)
        if address.path:
            os.chmod(address.path, 0o660)  # noqa: PTH101
            self.address = address
        else:
            self.address = WebAddress(address.host, self.socket.getsockname()[1])

    def close(self) -> None:
        self.server_close()
        for connection in list(self._ends):
            _shut(connection)
        if self.address.path:
            with suppress(OSError):
                os.unlink(self.address.path)  # noqa: PTH108

    def extend(self, connection: socket.socket, seconds: float) -> None:
        """Have this connection end so many seconds from now, if it still lasts then."""
        with self._lock:
            if connection in self._ends:
                self._ends[connection] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """Called twice a second: end the connections whose time is over. Their threads then find them closed."""
        now = time.monotonic()
        with self._lock:
            late = [connection for connection, end in self._ends.items() if end < now]
        for connection in late:
            _shut(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._ends) >= CONNECTIONS
            if not full:
                self._ends[request] = time.monotonic() + _REQUEST
        if full:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            self._ends.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client has gone, or was too slow: bugs of what answers are logged elsewhere."""


class _HttpHandler(BaseHTTPRequestHandler):
    server: _HttpListener
    timeout = _REQUEST

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        try:
            request = WebRequest.parse(self.path, dict(self.headers.items()))
        except ValueError:
            self._send(WebResponse.text("The request is malformed.", HTTPStatus.BAD_REQUEST), with_body)
            return
        if self.server.checks_host and not _names_this_machine(request.headers.get("host", "")):
            words = "This address answers only requests to localhost, 127.0.0.1 or [::1]; a proxy must send one of them as Host."
            self._send(WebResponse.text(words, HTTPStatus.MISDIRECTED_REQUEST), with_body)
            return
        self.server.extend(self.connection, _ANSWER)
        try:
            response = self.server.routes.answer(request)
        except Exception:  # noqa: BLE001 -- a bug in one answer must not end the others; it is logged in full
            _log.exception("http.crashed")
            words = "The controller could not answer this; its log says why."
            response = WebResponse.text(words, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(response, with_body)

    def _send(self, response: WebResponse, with_body: bool) -> None:
        if isinstance(response.body, bytes):
            self._write(response, with_body)
            return
        with closing(response.body) as stream:
            if not with_body:
                self._write(response, with_body)
            elif not self.server.streams.acquire(blocking=False):
                words = "Too many pages are open; close some."
                self._write(WebResponse.text(words, HTTPStatus.SERVICE_UNAVAILABLE), with_body)
            else:
                try:
                    self._write(response, with_body)
                    self._stream(stream)
                finally:
                    self.server.streams.release()

    def _write(self, response: WebResponse, with_body: bool) -> None:
        """The head of the answer, and its body where that is no stream."""
        self.connection.settimeout(_WRITE)
        if self.request_version == "HTTP/0.9":  # or no version was understood: such an answer would have no head
            self.request_version = "HTTP/1.0"
        self.send_response(response.status)
        for name, value in response.all_headers().items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and isinstance(response.body, bytes):
            self.wfile.write(response.body)

    def _stream(self, parts: Iterator[bytes]) -> None:
        for part in parts:
            self.server.extend(self.connection, _ANSWER)
            if self.server.stopping.is_set() or self._has_hung_up():
                return
            self.wfile.write(part)

    def _has_hung_up(self) -> bool:
        """Whether the client has closed its side. (Nothing else can come: there is one request to a connection.)"""
        poll = select.poll()  # (a socket with a time limit waits for it, whatever recv is told)
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) and not self.connection.recv(4096)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What http.server refuses by itself: malformed lines, other methods."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        words = f"{status.phrase}: only GET and HEAD are answered.\n"
        self._write(WebResponse(words.encode(), status=status, headers={"Allow": "GET, HEAD"}), with_body=True)

    def version_string(self) -> str:
        return "piehole"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: a scrape every few seconds says nothing."""


def _names_this_machine(host: str) -> bool:
    try:
        return _is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _remove_stale(path: str) -> None:
    """Remove the socket of a controller that was killed.

    :raises OSError: something else has this name, or somebody listens there
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(17, "something that is no socket has this name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        try:
            one.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
            return
    raise OSError(98, "somebody listens there")


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
