"""Between piehole and etcd: a proxy that loses, holds or swallows chosen requests and answers."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from tests.support.ports import LOOPBACK
from tests.support.wait import until

Kind = Literal["swap", "fence", "read", "watch"]
Action = Literal["pass", "lose answer", "hang answer", "lose request", "hold request", "err after", "err before"]
FULL = (8, "etcdserver: mvcc: database space exceeded")


class Tamper:
    """Forwards one request after the other, each on a connection of its own; ``once`` and ``always`` say what goes wrong."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or LOOPBACK, parts.port or 0)
        self._once: dict[Kind, deque[Action]] = defaultdict(deque)
        self._always: dict[Kind, Action] = {}
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._held: list[bytes] = []
        self._waiting: list[socket.socket] = []
        self.seen: list[Kind] = []
        self.error = FULL  # the gRPC code and the words of "err after" (etcd has applied the request) and "err before" (it never sees it)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.endpoint = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def once(self, kind: Kind, *actions: Action) -> None:
        """What happens to the next requests of this kind, one after the other."""
        self._once[kind].extend(actions)

    def always(self, action: Action, *kinds: Kind) -> None:
        for kind in kinds:
            self._always[kind] = action

    def wait_for(self, kind: Kind, times: int = 1) -> None:
        until(lambda: self.seen.count(kind) >= times, 20, f"{times} requests of the kind {kind!r}")

    def deliver(self) -> list[dict[str, object]]:
        """Send what was held to etcd now; what it answers, nobody else hears."""
        held, self._held = self._held, []
        return [json.loads(_body(self._ask(request))) for request in held]

    def drop(self) -> None:
        """Cut the connections of what was held: nobody waits for it any more, and it can still be delivered."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            _end(one)

    def close(self) -> None:
        _end(self._listener)
        with self._lock:
            for one in self._open:
                _end(one)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(near)
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            request = _read_request(near)
            kind = kind_of(request)
            with self._lock:
                self.seen.append(kind)
                waiting = self._once[kind]
                action = waiting.popleft() if waiting else self._always.get(kind, "pass")
            if action == "lose request":
                _end(near)
            elif action == "hold request":
                self._waiting.append(near)
                self._held.append(request)
            elif action == "hang answer":
                self._ask(request)
            elif action in ("err after", "err before"):
                if action == "err after":
                    self._ask(request)
                near.sendall(_error(*self.error))
                _end(near)
            elif action == "lose answer":
                self._ask(request)
                _end(near)
            else:
                self._pump(request, near)
                _end(near)
        except (OSError, EOFError):
            _end(near)  # the client, or the test, has gone

    def _far(self, request: bytes) -> socket.socket:
        far = socket.create_connection(self._target, timeout=30)
        with self._lock:
            self._open.append(far)
        far.sendall(request)
        return far

    def _ask(self, request: bytes) -> bytes:
        far = self._far(request)
        answer = b""
        while data := far.recv(65536):
            answer += data
        return answer

    def _pump(self, request: bytes, near: socket.socket) -> None:
        far = self._far(request)
        while data := far.recv(65536):
            near.sendall(data)


def kind_of(request: bytes) -> Kind:
    """A swap compares and puts, a fence only puts."""
    path = request.split(b" ", 2)[1]
    if path.endswith(b"/watch"):
        return "watch"
    if not path.endswith(b"/kv/txn"):
        return "read"
    transaction = json.loads(_body(request))
    if not any("request_put" in operation for operation in transaction.get("success", ())):
        return "read"
    return "swap" if transaction.get("compare") else "fence"


def _error(code: int, message: str) -> bytes:
    body = json.dumps({"error": message, "code": code, "message": message}).encode()
    return b"HTTP/1.1 503 -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _body(message: bytes) -> bytes:
    head, _, body = message.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return whole


def _read_request(near: socket.socket) -> bytes:
    """One whole request, changed so that etcd closes the connection after its answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(near)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += _some(near)
    head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head) + b"\r\nConnection: close"
    return head + b"\r\n\r\n" + body


def _some(near: socket.socket) -> bytes:
    data = near.recv(65536)
    if not data:
        raise EOFError
    return data


def _end(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # not connected any more
    one.close()


@contextmanager
def tampering(endpoint: str) -> Iterator[Tamper]:
    tamper = Tamper(endpoint)
    try:
        yield tamper
    finally:
        tamper.close()
