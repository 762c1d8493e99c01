"""`/healthz` and `/readyz` of a controller, and the address that `--http` gives."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from structlog.testing import capture_logs

from controller.daemon import Controller, Options
from controller.health import Health
from controller.hook_server import HookServer
from controller.meters import Meters
from controller.observer import Observer
from controller.web import server
from controller.web.routes import RouteTable
from controller.web.server import WebAddress
from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import MakeGroup
from tests.support.wait import until
from tests.support.web import ask, ready, start_with_web


def test_a_controller_that_serves_is_healthy_and_ready(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    port = start_with_web(group[0])
    ready(port)
    answer = ask(port, "/healthz")
    assert (answer.status, answer.text) == (200, "ok\n")
    assert ask(port, "/nothing").status == 404


def test_without_etcd_a_controller_lives_but_is_not_ready(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd, started=False)
    etcd.kill()
    port = start_with_web(group[0])
    assert ask(port, "/healthz").status == 200
    answer = ask(port, "/readyz")
    assert answer.status == 503
    assert "were not listed yet" in answer.text
    etcd.start()
    ready(port)


class Bed:
    """A health of parts that a test ends."""

    def __init__(self) -> None:
        self.lives = True
        self.health = Health(lambda: [("the part", self.lives)])


def test_a_part_that_has_ended_and_a_main_loop_that_hangs_are_named_and_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("controller.health.time.monotonic", lambda: now[0])
    bed = Bed()
    with capture_logs() as log:
        assert bed.health.faults() == []
        now[0] += 1000
        assert bed.health.faults() == [], "the first scan may take as long as it likes"
        bed.health.scanned()
        now[0] += 40
        assert bed.health.faults() == []
        now[0] += 10
        assert bed.health.faults() == ["the main loop hangs"]
        bed.health.faults().append("somebody's own")
        bed.health.beat()
        assert bed.health.faults() == []
        bed.lives = False
        assert bed.health.faults() == ["the part has ended or hangs"]
        assert bed.health.faults() == ["the part has ended or hangs"]
    assert [event["event"] for event in log] == ["controller.unhealthy", "controller.healthy", "controller.unhealthy"]


def test_the_watchdog_is_reset_only_while_all_parts_live(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_group(1, started=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(group.runtime))
    controller = Controller(Options((group[0].root,), scan_every=0.05))
    resets: list[int] = []
    monkeypatch.setattr(controller._notifier, "alive", lambda: resets.append(1))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        until(lambda: len(resets) > 3, 20, "the watchdog is reset")
        monkeypatch.setattr(HookServer, "is_alive", False)
        until(lambda: controller._health.faults(), 5, "it is unwell")
        seen = len(resets) + 1  # one turn of the loop may be under way
        time.sleep(1.0)  # that it is not reset can only be seen by waiting: twenty turns of the loop
        assert len(resets) <= seen
    finally:
        controller.shutdown()
        thread.join()


def test_a_controller_without_http_loads_nothing_of_it() -> None:
    script = "import sys, controller.daemon; print([n for n in sys.modules if n.startswith(('prometheus', 'controller.web', 'http.server'))])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_an_address_that_other_machines_can_reach_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_is_loopback", lambda _host: False)  # tests listen on this machine only
    one = server.WebServer(WebAddress("127.0.0.1"), RouteTable())
    with capture_logs() as events:
        one.start()
        one.stop()
    warned = next(event for event in events if event["event"] == "http.open")
    assert "without a password" in warned["reason"]
    assert "127.0.0.1" in warned["fix"]


def test_an_address_that_is_taken_or_none_ends_the_controller_with_a_sentence(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        root = str(group[0].root)
        said = group.piehole("controller", "--root", root, "--http", address, check=False)
        assert said.status == 1
        assert f"cannot listen on {address} (--http)" in said.err
    said = group.piehole("controller", "--root", root, "--http", "here", check=False)
    assert said.status == 2
    assert "--http 'here' is no address: use HOST:PORT" in said.err


def test_a_bug_in_what_is_shown_keeps_no_push_and_no_arrival_from_its_site(
    make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_group(2, started=False)
    a, b = group
    a.start()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(group.runtime))

    def broken(*_arguments: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Meters, "answered", broken)
    monkeypatch.setattr(Observer, "_note_changes", broken)
    monkeypatch.setattr(Observer, "_note_turn", broken)
    monkeypatch.setattr(Observer, "_look_at_files", broken)
    controller = Controller(Options((b.root,), http=WebAddress("127.0.0.1")))
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        until(lambda: b.is_served, 20, "b is served")
        work = a.clone()
        first = git.commit(work, "first")
        accepted(git.push(work, a.repository, "HEAD:main"))
        until(lambda: b.at() == first, 20, "it arrives at b")
        second = git.commit(work, "second")
        accepted(git.push(work, b.repository, "HEAD:main"))
        until(lambda: a.at() == second, 20, "it arrives at a")
        assert thread.is_alive()
    finally:
        controller.shutdown()
        thread.join()
