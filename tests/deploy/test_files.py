"""deploy/'s scripts and units by themselves: these need no hosts, and no root."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
# The exposure that systemd-analyze finds, at most (0 is none, 10 is all), and why it is not less.
EXPOSURE = {
    "etcd.service": 1.2,
    # It must see the processes and accounts of hooks, and git sets group bits on folders.
    "piehole-controller.service": 2.2,
    # Your own hooks run below it.
    "piehole-http.service": 2.6,
}

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="no perl on this machine")


@pytest.mark.parametrize("script", sorted(path.name for path in DEPLOY.glob("*.sh")))
def test_scripts_are_plain_sh(script: str) -> None:
    assert (DEPLOY / script).read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(DEPLOY / script)], check=True, timeout=20)


@needs_perl
def test_the_read_gate_is_strict_perl() -> None:
    command = ["perl", "-c", "-Mstrict", "-Mwarnings", str(DEPLOY / "read-gate.pl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == f"{DEPLOY / 'read-gate.pl'} syntax OK\n"


@needs_systemd
@pytest.mark.parametrize("unit", sorted(EXPOSURE))
def test_the_units_are_as_closed_as_promised(unit: str) -> None:
    done = _analyze("security", "--offline=true", "--no-pager", str(DEPLOY / unit))
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSURE[unit], done.stdout


@needs_systemd
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    units = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.socket")])
    for unit in units:  # the programs are not installed here
        (tmp_path / unit.name).write_text(
            re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        )
    done = _analyze("verify", "--man=no", *(str(tmp_path / unit.name) for unit in units))
    about = [line for line in done.stderr.splitlines() if any(unit.name in line for unit in units)]
    assert (done.returncode, about) == (0, [])


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
