"""Whatever happens to a test, its hosts are gone with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.bed.hosts import CHECKOUT
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_BEGIN = """
import pathlib, sys, time
from tests.servers.bed.hosts import NETWORK, Host, Wire
folder = pathlib.Path(sys.argv[1])
wire = Wire(folder)
host = Host(wire, folder, "one.example.org", 31, {}).boot()
host.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
print(host.pid, flush=True)
time.sleep(1000)
"""


def _interfaces() -> set[str]:
    return {line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines() if ":" in line}


def test_a_killed_test_leaves_no_process_interface_or_mount(tmp_path: Path) -> None:
    before = _interfaces()
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN, str(tmp_path / "bed")], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        namespace = Path(f"/proc/{pid}/ns/net").readlink()
        assert _interfaces() == before, "all interfaces are in namespaces of their own"
        process.kill()
        process.wait(10)
    finally:
        process.kill()
        process.communicate()

    def gone() -> bool:
        return not any(_link(entry) == namespace for entry in Path("/proc").glob("[0-9]*"))

    until(gone, 20, "every process of the host is gone")
    assert _interfaces() == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def _link(process: Path) -> Path | None:
    try:
        return (process / "ns" / "net").readlink()
    except OSError:
        return None
