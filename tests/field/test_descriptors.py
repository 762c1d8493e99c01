"""The controller has hardly any descriptors, and somebody holds connections to its socket."""

from __future__ import annotations

import errno
import resource
import shlex
import socket
import socketserver
import sys
import time
from pathlib import Path

import pytest

from controller.hook_server import HookServer
from piehole.fastpath import controller_socket
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.process import ManagedProcess
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until


def processor_seconds(pid: int) -> float:
    """The processor time that a process has used, its children apart (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def is_idle(pid: int) -> bool:
    """Whether the process does hardly anything for half a second: a controller does more while it starts."""
    before = processor_seconds(pid)
    time.sleep(0.5)
    return processor_seconds(pid) - before < 0.05


def descriptors(pid: int) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}


def start_with(site: Site, descriptors: int) -> ManagedProcess:
    """The site's controller, as after `ulimit -n`."""
    command = shlex.join(
        [sys.executable, "-m", "piehole.cli", "controller", "--root", str(site.root), "--log-format", "json"]
    )
    limited = ["bash", "-c", f"ulimit -n {descriptors}; exec {command}"]
    site.controller = ManagedProcess(limited, site.log, env=site.environment, cwd=Path("/"))
    site.wait_served()
    return site.controller


def connect(site: Site, number: int) -> list[socket.socket]:
    """Connections that ask nothing."""
    path = controller_socket.controller_socket(str(site.repository))
    idle = [socket.socket(socket.AF_UNIX) for _ in range(number)]
    for one in idle:
        one.settimeout(10)
        one.connect(path)
    return idle


@pytest.mark.parametrize("descriptors", [40, 24])
def test_idle_connections_do_not_take_the_descriptors_of_a_controller(make_group: MakeGroup, descriptors: int) -> None:
    """Seen: 4 s of processor time in 5 s and not one line in the log; with 24, the repositories were given up as gone."""
    group = make_group(1, started=False)
    site = group[0]
    running = start_with(site, descriptors)
    idle = connect(site, 60)
    try:
        before = processor_seconds(running.pid)
        # Nothing must happen here for one scan of the folders (5 s).
        time.sleep(5.5)
        assert processor_seconds(running.pid) - before < 1.5
        assert not site.events("repository.left")
        assert site.running
    finally:
        for one in idle:
            one.close()
    oid = group.commit("one")
    accepted(git.push(group.work, site.repository, "HEAD:main"))
    until(lambda: site.at(MAIN) == oid and site.progress() > 0, 20, "the controller works on")


def test_a_controller_that_cannot_accept_says_so_and_waits(make_group: MakeGroup) -> None:
    """Other connections, files or git processes may have taken the last descriptor."""
    group = make_group(1)
    site = group[0]
    assert site.controller is not None
    pid = site.controller.pid
    until(lambda: is_idle(pid), PATIENCE, "the controller has started")
    held = descriptors(pid)
    lowest_free = min(set(range(len(held) + 1)) - held)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, hard))
    idle = connect(site, 4)
    try:
        before = processor_seconds(pid)
        site.wait_event("hooks.not_accepted", PATIENCE)
        # Long enough to see that it does not try again and again.
        time.sleep(1.5)
        assert processor_seconds(pid) - before < 0.7
        assert len(site.events("hooks.not_accepted")) == 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        until(lambda: answers(site), PATIENCE, "the controller answers again")
    finally:
        for one in idle:
            one.close()
    assert not site.events("repository.left")


def answers(site: Site) -> bool:
    try:
        controller_socket.ask_status(str(site.repository))
    except controller_socket.NoController:
        return False
    return True


def test_a_controller_takes_the_descriptors_that_it_may_have(make_group: MakeGroup) -> None:
    site = make_group(1)[0]
    assert site.controller is not None
    soft, hard = resource.prlimit(site.controller.pid, resource.RLIMIT_NOFILE)
    assert soft >= min(hard, 65536) or hard == resource.RLIM_INFINITY


def test_a_listener_that_cannot_accept_does_not_try_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection stays in the queue, so that the listener is ready to accept all the time."""
    tries: list[float] = []

    def refuse(_: socketserver.UnixStreamServer) -> tuple[socket.socket, object]:
        tries.append(time.monotonic())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socketserver.UnixStreamServer, "get_request", refuse)
    server = HookServer(f"test {tmp_path}", lambda _: None)
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(server.path))
            until(lambda: len(tries) >= 3, 10, "it tries again")
    finally:
        server.stop()
    assert tries[2] - tries[0] >= 0.35
