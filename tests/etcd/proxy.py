"""Something between piehole and etcd that misbehaves on demand."""

from __future__ import annotations

import http.client
import http.server
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.ports import LOOPBACK


class Proxy:
    """A TCP proxy in front of one endpoint. It can cut every connection, or let no answer through any more."""

    def __init__(self, target: str) -> None:
        self._target = _address(target)
        self._answers = threading.Event()
        self._answers.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.requested = False  # some request has come through
        self._listener = socket.create_server((LOOPBACK, 0))
        self.endpoint = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    def lead_to(self, target: str) -> None:
        """New connections go to another endpoint."""
        self._target = _address(target)

    def cut(self) -> None:
        """Close what is open; new connections are served."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            _shut(one)

    def hold_answers(self) -> None:
        """Requests reach etcd, answers come back to nobody."""
        self._answers.clear()

    def release_answers(self) -> None:
        self._answers.set()

    def close(self) -> None:
        _shut(self._listener)
        self._answers.set()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                break
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._sockets += [near, far]
                self.connections += 1
            self._spawn(self._copy, near, far, False)
            self._spawn(self._copy, far, near, True)
        self._listener.close()

    def _copy(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers:
                    self._answers.wait()
                sink.sendall(data)
                self.requested |= not answers
        except OSError:
            pass  # the other direction, or cut(), has ended it
        _shut(sink)
        source.close()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


class TokenProxy:
    """Closes a connection without a byte where a request carries an old token, as some versions of etcd do (etcd-io/etcd#15256).

    A token is old after ``forget_tokens``, until it was given out again by a login.
    """

    def __init__(self, target: str) -> None:
        self._target = _address(target)
        self._lock = threading.Lock()
        self._good: set[bytes] = set()
        self.closed = 0
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.endpoint = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def forget_tokens(self) -> None:
        with self._lock:
            self._good.clear()

    def close(self) -> None:
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            threading.Thread(target=self._answers, args=(far, near), daemon=True).start()
            try:
                while data := near.recv(1 << 20):
                    token = re.search(rb"(?i)\r\nauthorization: ([^\r]+)", data)
                    if token and token[1] not in self._good:
                        self.closed += 1
                        break
                    far.sendall(data)
            except OSError:
                pass  # the other side has gone
            _shut(near)
            _shut(far)

    def _answers(self, far: socket.socket, near: socket.socket) -> None:
        try:
            while data := far.recv(1 << 20):
                if given := re.search(rb'"token": ?"([^"]+)"', data):
                    with self._lock:
                        self._good.add(given[1])
                near.sendall(data)
        except OSError:
            pass  # the other side has gone
        _shut(near)


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return parts.hostname or LOOPBACK, parts.port or 0


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # not connected any more


@contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def token_proxy_to(endpoint: str) -> Iterator[TokenProxy]:
    proxy = TokenProxy(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def stranger(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """An HTTP server that is no etcd: it answers every POST in the same way. Gives its endpoint."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _serving(Handler) as endpoint:
        yield endpoint


@contextmanager
def refusing_status(target: str) -> Iterator[str]:
    """A relay of single requests to etcd that answers the question for the member's status with "permission denied". Gives its endpoint."""
    denied = b'{"code":7,"message":"etcdserver: permission denied"}'

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, said = 403, denied
            if not self.path.endswith("/maintenance/status"):
                far = http.client.HTTPConnection(*_address(target), timeout=10)
                far.request("POST", self.path, body)
                answer = far.getresponse()
                status, said = answer.status, answer.read()
                far.close()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _serving(Handler) as endpoint:
        yield endpoint


@contextmanager
def babbler(said: bytes) -> Iterator[str]:
    """A server that says the same to whatever it is asked, and hangs up. Gives its endpoint."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(said)

    with _serving(Handler) as endpoint:
        yield endpoint


@contextmanager
def hinting(answer: bytes) -> Iterator[str]:
    """A server that answers a connection's first request when the second one comes; until then, it says that it will. Gives its endpoint."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            said = b"HTTP/1.1 103 Early Hints\r\n\r\n"
            while self.request.recv(1 << 16):
                self.request.sendall(said)
                said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)

    with _serving(Handler) as endpoint:
        yield endpoint


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[str]:
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
