"""controller/systemd.py against a socket of the test's own, as systemd would listen on it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.systemd import Notifier
from tests.support.wait import until


class Manager:
    """What a service manager hears."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="ph-") as folder:
        name = str(Path(folder, "notify")) if request.param == "path" else f"@piehole-test-{os.getpid()}-{id(request)}"
        manager = Manager(name)
        yield manager
        manager.close()


def test_ready_reloading_and_stopping_are_told(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready("serves 3\nrepositories")
    assert manager.heard() == ["READY=1\nSTATUS=serves 3 repositories"]
    notifier.reloading()
    (said,) = manager.heard()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", said)
    notifier.ready()
    notifier.stopping()
    assert manager.heard() == ["READY=1", "STOPPING=1"]


def test_the_watchdog_is_fed_often_enough_and_no_oftener(manager: Manager) -> None:
    now = [0.0]
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000000"}, lambda: now[0])
    assert notifier._every == 10.0
    fed = []
    for tick in range(60):
        now[0] = float(tick)
        notifier.alive()
        if manager.heard() == ["WATCHDOG=1"]:
            fed.append(tick)
    assert fed[0] == 0
    assert max(after - before for before, after in itertools.pairwise(fed)) < 20
    assert len(fed) <= 7


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}],
)
def test_without_a_watchdog_of_ours_none_is_fed(manager: Manager, environment: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, **environment})
    assert notifier._every is None
    notifier.alive()
    assert manager.heard() == []


def test_nobody_who_listens_is_no_fault(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("started")


def test_a_manager_that_hears_nothing_holds_nobody_up_for_long(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    began = time.monotonic()
    for _ in range(queue + 3):
        notifier.stopping()
    assert time.monotonic() - began < 5
    assert "STOPPING=1" in manager.heard()


def test_the_controller_tells_when_it_serves_reloads_and_stops(manager: Manager, tmp_path: Path) -> None:
    heard: list[str] = []

    def told(word: str) -> bool:
        heard.extend(manager.heard())
        return any(word in note for note in heard)

    controller = subprocess.Popen(
        [sys.executable, "-m", "piehole.cli", "controller", "--root", str(tmp_path)],
        env=os.environ | {"NOTIFY_SOCKET": manager.address, "RUNTIME_DIRECTORY": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: told("READY=1\nSTATUS=0 repositories"), 20, "ready")
        heard.clear()
        controller.send_signal(signal.SIGHUP)
        until(lambda: told("RELOADING=1") and told("READY=1"), 20, "reloading, then ready again")
        controller.terminate()
        until(lambda: told("STOPPING=1"), 20, "stopping")
        assert controller.wait(20) == 0
    finally:
        controller.kill()
        controller.wait()
