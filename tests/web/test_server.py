"""The web server by itself: what it answers, to whom, and how much it takes on."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from controller.web import server
from controller.web.routes import RouteTable, WebRequest, WebResponse
from controller.web.server import WebAddress, WebServer
from piehole.errors import PieholeError, UsageError
from tests.support.wait import until
from tests.support.web import ask, raw


class Streams:
    """An endless stream, and how many of it run."""

    def __init__(self) -> None:
        self.open = 0
        self._lock = threading.Lock()

    def answer(self, _request: WebRequest) -> WebResponse:
        return WebResponse(self._parts(), "text/event-stream")

    def _parts(self) -> Generator[bytes, None, None]:
        with self._lock:
            self.open += 1
        try:
            while True:
                yield b"data: x\n\n"
                time.sleep(0.02)
        finally:
            with self._lock:
                self.open -= 1


def echo(request: WebRequest) -> WebResponse:
    return WebResponse.json({"path": request.path, "query": dict(request.query)})


def broken(_request: WebRequest) -> WebResponse:
    raise LookupError("a bug")


@pytest.fixture(scope="module")
def streams() -> Streams:
    return Streams()


@pytest.fixture(scope="module")
def routes(streams: Streams) -> RouteTable:
    table = RouteTable()
    table.add("/", lambda _request: WebResponse.text("the page"))
    table.add("/echo/", echo)
    table.add("/echo/deep/", lambda _request: WebResponse.text("deeper"))
    table.add("/stream", streams.answer)
    table.add("/broken", broken)
    return table


@pytest.fixture(scope="module")
def port(routes: RouteTable) -> Iterator[int]:
    one = WebServer(WebAddress("127.0.0.1"), routes)
    one.start()
    yield one.address.port
    one.stop()


def test_a_path_is_answered_by_its_own_route_or_by_the_nearest_above(port: int) -> None:
    assert ask(port, "/").text == "the page\n"
    assert ask(port, "/echo/a%2Fb?x=%C3%A4&y=").text == '{"path":"/echo/a/b","query":{"x":"\\u00e4"}}'
    assert ask(port, "/echo/deep/er").text == "deeper\n"
    for path in ("/echo", "/other", "/stream/"):
        assert ask(port, path).status == 404


def test_head_has_the_headers_of_get_and_no_body(port: int) -> None:
    whole, head = ask(port, "/echo/x"), ask(port, "/echo/x", method="HEAD")
    assert head.body == b""
    changing = ("date",)
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in whole.headers.items() if k not in changing
    }
    assert raw(port, b"HEAD /stream HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused_in_words(port: int, method: str) -> None:
    answer = ask(port, "/", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert "only GET and HEAD are answered" in answer.text


def test_every_answer_forbids_what_it_does_not_need(port: int) -> None:
    for path in ("/", "/other", "/broken"):
        headers = ask(port, path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert headers["server"] == "piehole"


def test_a_bug_in_one_answer_is_an_answer_and_the_next_one_is_answered(port: int) -> None:
    answer = ask(port, "/broken")
    assert answer.status == 500
    assert "a bug" not in answer.text
    assert ask(port, "/").status == 200


@pytest.mark.parametrize("line", [b"GET", b"GET / HTTP/9.9", b"\x00\xff", b"GET / HTTP/1.0 x y", b"GET //[ HTTP/1.0"])
def test_what_is_no_request_is_refused(port: int, line: bytes) -> None:
    answer = raw(port, line + b"\r\nHost: localhost\r\n\r\n")
    version, status = answer.split(b" ")[:2]
    assert version == b"HTTP/1.0"
    assert 400 <= int(status) < 600
    assert ask(port, "/").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("page.localhost:8080", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_a_page_elsewhere_cannot_read_it_under_a_name_of_its_own(port: int, host: str, status: int) -> None:
    assert ask(port, "/", headers={"Host": host}).status == status


def test_a_client_that_sends_nothing_or_too_slowly_is_left(routes: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST", 0.5)
    one = WebServer(WebAddress("127.0.0.1"), routes)
    one.start()
    try:
        with socket.create_connection(("127.0.0.1", one.address.port), timeout=10) as slow:
            began = time.monotonic()
            with pytest.raises(OSError):  # reset, or a broken pipe
                while True:
                    slow.sendall(b"G")
                    time.sleep(0.05)
                    if time.monotonic() - began > 8:
                        return
            assert time.monotonic() - began < 8
    finally:
        one.stop()


def test_connections_are_bounded_and_those_above_are_closed_at_once(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(server.CONNECTIONS)]
    try:
        until(lambda: _is_refused(port), 5, "one more is refused")
    finally:
        for one in held:
            one.close()
    until(lambda: ask_or_none(port) == 200, 5, "it answers again")


def _is_refused(port: int) -> bool:
    try:
        return raw(port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n") == b""
    except OSError:
        return True


def ask_or_none(port: int) -> int | None:
    try:
        return ask(port, "/").status
    except OSError:
        return None


def test_streams_are_bounded_and_end_with_their_clients(port: int, streams: Streams) -> None:
    held = []
    for _ in range(server.STREAMS):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        held.append(one)
    until(lambda: streams.open == server.STREAMS, 10, "all streams run")
    answer = ask(port, "/stream")
    assert (answer.status, answer.text) == (503, "Too many pages are open; close some.\n")
    assert ask(port, "/").status == 200, "everything else is answered meanwhile"
    for one in held:
        one.close()
    until(lambda: streams.open == 0, 10, "no stream runs")


def test_stopping_ends_streams_at_once(routes: RouteTable, streams: Streams) -> None:
    one = WebServer(WebAddress("127.0.0.1"), routes)
    one.start()
    with socket.create_connection(("127.0.0.1", one.address.port)) as client:
        client.sendall(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        until(lambda: streams.open == 1, 10, "it runs")
        one.stop()
        until(lambda: streams.open == 0, 5, "it has ended")


def test_a_unix_socket_is_for_its_account_and_a_stale_one_is_replaced(routes: RouteTable) -> None:
    with tempfile.TemporaryDirectory(prefix="ph-") as folder:
        path = Path(folder, "web.sock")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        one = WebServer(WebAddress.parse(str(path)), routes)
        one.start()
        try:
            assert path.stat().st_mode & 0o777 == 0o660
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.0\r\nHost: piehole.example.org\r\n\r\n")
                found = b"".join(iter(lambda: client.recv(4096), b""))
            assert found.endswith(b"the page\n")
            with pytest.raises(PieholeError, match="somebody listens there"):
                WebServer(WebAddress.parse(str(path)), routes)
        finally:
            one.stop()
        assert not path.exists()
        path.write_text("mine")
        with pytest.raises(PieholeError, match="no socket"):
            WebServer(WebAddress.parse(str(path)), routes)
        assert path.read_text() == "mine"


def test_an_address_that_is_taken_is_named(port: int, routes: RouteTable) -> None:
    with pytest.raises(PieholeError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(--http\)"):
        WebServer(WebAddress("127.0.0.1", port), routes)


@pytest.mark.parametrize(
    ("text", "shown", "local"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        (":80", "127.0.0.1:80", True),
        ("localhost:80", "localhost:80", True),
        ("[::1]:80", "[::1]:80", True),
        ("0.0.0.0:80", "0.0.0.0:80", False),
        ("[::]:80", "[::]:80", False),
        ("host.example:80", "host.example:80", False),
        ("/run/x.sock", "/run/x.sock", True),
    ],
)
def test_the_forms_of_an_address(text: str, shown: str, local: bool) -> None:
    address = WebAddress.parse(text)
    assert (str(address), address.is_local) == (shown, local)


@pytest.mark.parametrize(
    "text", ["", "80", "host", "host:", "host:x", "host:99999", "http://h:1", "u@h:1", "::1:80", "/" + "x" * 108]
)
def test_what_is_no_address_is_a_wrong_argument(text: str) -> None:
    with pytest.raises(UsageError, match="--http"):
        WebAddress.parse(text)
