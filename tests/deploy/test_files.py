"""deploy/'s scripts and units by themselves: these need no hosts, and no root."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tools import three_servers_doc

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
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    (tmp_path / "servers").write_text("# sites\noslo oslo.example.org 192.0.2.1\n\nlima lima.example.org 192.0.2.2\n")
    _make(tmp_path)
    return tmp_path / "pki"


def _make(folder: Path) -> None:
    script = ["sh", str(DEPLOY / "pki.sh"), str(folder / "servers"), str(folder / "pki")]
    subprocess.run(script, check=True, timeout=60)


def _text(certificate: Path) -> str:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-text"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def test_the_worked_example_is_the_script_that_runs() -> None:
    assert three_servers_doc.PAGE.read_text() == three_servers_doc.page(three_servers_doc.SCRIPT.read_text())


@needs_openssl
def test_certificates_have_the_uses_that_etcd_wants_and_no_common_name(pki: Path) -> None:
    for name, uses in (("server", {"Server", "Client"}), ("peer", {"Server", "Client"}), ("client", {"Client"})):
        for site in ("oslo", "lima"):
            text = _text(pki / site / f"{name}.pem")
            assert "CN" not in re.findall(r"Subject: (.*)", text)[0]
            told = re.findall(r"Extended Key Usage:\s*\n\s*(.*)", text)[0]
            assert set(re.findall(r"TLS Web (\w+) Authentication", told)) == uses
            assert f"DNS:{site}.example.org" in text
            subprocess.run(
                ["openssl", "verify", "-CAfile", str(pki / "authority" / "ca.pem"), str(pki / site / f"{name}.pem")],
                check=True,
                capture_output=True,
                timeout=20,
            )


@needs_openssl
def test_nobody_else_can_read_a_key_or_a_password(pki: Path) -> None:
    files = [path for path in pki.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert not (pki / "oslo" / "key.pem").exists(), "the authority's key goes to no server"


@needs_openssl
def test_run_again_only_what_is_missing_is_made(pki: Path) -> None:
    before = {path: path.read_bytes() for path in pki.rglob("*") if path.is_file()}
    (pki / "lima" / "client.pem").unlink()
    with (pki.parent / "servers").open("a") as servers:
        servers.write("kyoto kyoto.example.org 192.0.2.3\n")
    _make(pki.parent)
    changed = {str(path.relative_to(pki)) for path, old in before.items() if path.read_bytes() != old}
    assert changed == {"lima/client.pem", "lima/client-key.pem"}
    assert (pki / "kyoto" / "server.pem").exists()


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
