"""What crosses the wire between one site and etcd: a TCP proxy that counts, and knows a watch from everything else."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from tests.support.etcd import EtcdProcess

_CHUNK: Final = 65536


class Meter:
    """Stands before one endpoint of etcd while it is entered. Bytes are those of HTTP, without TCP's own.

    ``counts``: bytes "asked" and "answered" on connections that ask, "watch asked" and "watched" on those that watch.
    """

    def __init__(self, endpoint: str) -> None:
        self._to = urlsplit(endpoint)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        meter = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                meter._relay(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A side that goes away ends its connection; that is no fault."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def since(self, before: Counter[str]) -> Counter[str]:
        return self.now() - before

    def now(self) -> Counter[str]:
        with self._lock:
            return Counter(self.counts)

    def _relay(self, client: socket.socket) -> None:
        assert self._to.port is not None
        with socket.create_connection((self._to.hostname, self._to.port)) as etcd:
            for one in (client, etcd):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = client.recv(_CHUNK)
            asked, answered = ("watch asked", "watched") if b"/v3/watch" in first[:200] else ("asked", "answered")
            self._add(asked, len(first))
            etcd.sendall(first)
            back = threading.Thread(target=self._pump, args=(etcd, client, answered), daemon=True)
            back.start()
            self._pump(client, etcd, asked)
            back.join()

    def _pump(self, source: socket.socket, to: socket.socket, name: str) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._add(name, len(data))
                to.sendall(data)
        except OSError:
            pass  # one side is gone
        try:
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _add(self, name: str, size: int) -> None:
        with self._lock:
            self.counts[name] += size


def metrics(member: EtcdProcess) -> dict[str, float]:
    """etcd's own counters, those with several labels summed up."""
    with urllib.request.urlopen(f"{member.endpoint}/metrics", timeout=10) as answer:  # noqa: S310 -- our own etcd
        text = answer.read().decode()
    found: Counter[str] = Counter()
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
        found[name] += float(value)  # type: ignore[assignment]
    return {name: float(value) for name, value in found.items()}


def calls(members: Sequence[EtcdProcess]) -> Counter[str]:
    """How often each method has been called, at all members together."""
    found: Counter[str] = Counter()
    for member in members:
        found.update(member.calls())
    return found
