"""The nemesis can do what it says: links that are cut, deaf or dead, and a clock that jumps while a process runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.history.clock import Clock
from tests.fault.history.objects import Pool, read_ref
from tests.fault.history.relay import Link, Relays
from tests.support import git
from tests.support.ports import LOOPBACK
from tests.support.wait import until

_TELL_TIME = "import sys, time\nfor _ in sys.stdin:\n    print(time.time(), time.monotonic(), flush=True)\n"


class Echo:
    """A server that sends back each chunk, and remembers what it got."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.got = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                while data := near.recv(100):
                    self.got += data
                    near.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def relays() -> Iterator[Relays]:
    all_links = Relays()
    yield all_links
    all_links.end()


@pytest.fixture
def link(relays: Relays, echo: Echo) -> Link:
    return relays.to(echo.port)


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with socket.create_connection((LOOPBACK, link.port), timeout=5) as one:
        one.sendall(b"hello")
        assert one.recv(100) == b"hello"
        yield one


def test_a_cut_link_closes_what_is_open_and_serves_nobody(relays: Relays, link: Link, client: socket.socket) -> None:
    relays.set(link, "cut")
    with pytest.raises((ConnectionError, AssertionError)):
        assert client.recv(100) != b"", "closed"
    with socket.create_connection((LOOPBACK, link.port), timeout=5) as late, pytest.raises((OSError, AssertionError)):
        late.sendall(b"anybody?")
        assert late.recv(100) != b"", "closed"
    relays.set(link, "open")
    with socket.create_connection((LOOPBACK, link.port), timeout=5) as late:
        late.sendall(b"again")
        assert late.recv(100) == b"again"


def test_through_a_deaf_link_requests_pass_and_answers_wait(
    relays: Relays, link: Link, client: socket.socket, echo: Echo
) -> None:
    relays.set(link, "deaf")
    client.sendall(b" you")
    until(lambda: echo.got == b"hello you", what="the request is there")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    relays.set(link, "open")
    client.settimeout(5)
    assert client.recv(100) == b" you"


def test_through_a_dead_link_nothing_passes_until_it_is_healed(
    relays: Relays, link: Link, client: socket.socket, echo: Echo
) -> None:
    relays.set(link, "dead")
    client.sendall(b" you")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    assert echo.got == b"hello"
    relays.set(link, "open")
    client.settimeout(5)
    assert client.recv(100) == b" you"


def test_through_a_link_with_an_error_every_other_write_gets_through_and_is_answered_with_it(
    link: Link, client: socket.socket, echo: Echo
) -> None:
    link.error = (8, "etcdserver: mvcc: database space exceeded")
    write = b'POST /v3/kv/txn HTTP/1.1\r\n\r\n{"success": [{"request_put": {}}]}'
    client.sendall(write)
    assert client.recv(1000) == write
    client.sendall(b"a read")
    assert client.recv(1000) == b"a read"
    client.sendall(write)
    assert b'"code": 8' in client.recv(1000)
    assert echo.got.endswith(write)


def test_a_link_closes_an_older_connection_at_its_next_request_which_nobody_gets(
    link: Link, client: socket.socket, echo: Echo
) -> None:
    link.age += 1
    client.sendall(b"anybody?")
    assert client.recv(100) == b""
    assert echo.got == b"hello"
    with socket.create_connection((LOOPBACK, link.port), timeout=5) as late:
        late.sendall(b"again")
        assert late.recv(100) == b"again"


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")
def test_the_clock_of_a_running_process_jumps_and_its_monotonic_clock_does_not(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    command = [sys.executable, "-I", "-c", _TELL_TIME]
    env = {"LD_PRELOAD": str(clock.library)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for hours in (0, 5, -3):
            clock.set(hours * 3600)
            process.stdin.write("?\n")
            process.stdin.flush()
            wall, steady = map(float, process.stdout.readline().split())
            assert abs(wall - time.time() - hours * 3600) < 60
            assert abs(steady - time.monotonic()) < 60
        process.stdin.close()


def test_a_commit_of_the_pool_is_one_that_git_likes(tmp_path: Path) -> None:
    pool = Pool(git.make_bare(tmp_path / "pool.git"))
    first = pool.commit("first")
    second = pool.commit("second", first)
    git.git(pool.repository, "update-ref", "refs/heads/main", second)
    git.git(pool.repository, "fsck", "--full", "--strict")
    assert git.git(pool.repository, "rev-list", "main").stdout.split() == [second, first]
    assert read_ref(pool.repository, "refs/heads/main") == second
    git.git(pool.repository, "pack-refs", "--all")
    assert read_ref(pool.repository, "refs/heads/main") == second
    assert read_ref(pool.repository, "refs/heads/none") == "0" * 40
