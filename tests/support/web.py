"""A client of the controller's web server that shows what really came."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass

from tests.support.sites import Site
from tests.support.wait import until


@dataclass(frozen=True)
class WebAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    port: int, path: str, *, method: str = "GET", host: str = "127.0.0.1", headers: dict[str, str] | None = None
) -> WebAnswer:
    """One request to a web server of this machine."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return WebAnswer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def raw(port: int, request: bytes) -> bytes:
    """All that the server sends for these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        one.sendall(request)
        found = b""
        while part := one.recv(65536):
            found += part
        return found


def start_with_web(site: Site, *options: str) -> int:
    """Start a site's controller with a web server; its port."""
    site.start("--http", "127.0.0.1:0", *options)
    return web_port(site)


def web_port(site: Site) -> int:
    event = site.wait_event("http.listening")
    return int(event["http"].rpartition(":")[2])


def ready(port: int) -> None:
    """Wait until the controller says that it is ready."""
    until(lambda: ask(port, "/readyz").status == 200, 20, "the controller is ready")
