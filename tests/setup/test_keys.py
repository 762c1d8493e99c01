"""`piehole setup --keys`."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.setup.settings import THREE
from tests.support.command_line import piehole

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
pytestmark = needs_openssl


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "setup.toml").write_text(THREE)
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "alice.pub").write_text("ssh-ed25519 AAAA alice\n")
    _make(tmp_path)
    return tmp_path / "keys"


def _make(folder: Path) -> None:
    done = piehole("setup", "--from", folder / "setup.toml", "--keys", folder / "keys")
    assert done.status == 0, done


def _text(certificate: Path) -> str:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-text"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def test_certificates_have_the_uses_that_etcd_wants_and_no_common_name(keys: Path) -> None:
    for name, uses in (("server", {"Server", "Client"}), ("peer", {"Server", "Client"}), ("client", {"Client"})):
        for site in ("oslo", "lima"):
            text = _text(keys / site / f"{name}.pem")
            assert "CN" not in re.findall(r"Subject: (.*)", text)[0]
            told = re.findall(r"Extended Key Usage:\s*\n\s*(.*)", text)[0]
            assert set(re.findall(r"TLS Web (\w+) Authentication", told)) == uses
            assert f"DNS:{site}.example.org" in text
            authority = str(keys / "authority" / "ca.pem")
            command = ["openssl", "verify", "-CAfile", authority, str(keys / site / f"{name}.pem")]
            subprocess.run(command, check=True, capture_output=True, timeout=20)


def test_nobody_else_can_read_a_key_or_a_password_and_the_authoritys_key_goes_to_no_server(keys: Path) -> None:
    files = [path for path in keys.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    authority = (keys / "authority" / "key.pem").read_bytes()
    assert [path for path in files if path.read_bytes() == authority] == [keys / "authority" / "key.pem"]
    assert [path.parent.name for path in keys.rglob("auth") if path.is_dir()].count("oslo") == 1
    assert not (keys / "lima" / "auth").exists(), "only the first server makes etcd's users"


def test_each_folder_has_the_settings_of_its_site_and_the_users(keys: Path) -> None:
    for site in ("oslo", "lima", "kyoto"):
        assert (keys / site / "setup.toml").read_text() == f'site = "{site}"\n{THREE}'
        assert (keys / site / "users" / "alice.pub").read_text() == "ssh-ed25519 AAAA alice\n"
        assert len((keys / site / "peers.pub").read_text().splitlines()) == 3


def test_run_again_only_what_is_missing_is_made(keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file() and "setup.toml" not in path.name}
    (keys / "lima" / "client.pem").unlink()
    with (keys.parent / "setup.toml").open("a") as settings:
        settings.write('[sites.rome]\nhost = "rome.example.org"\naddress = "192.0.2.14"\n')
    _make(keys.parent)
    changed = {str(path.relative_to(keys)) for path, old in before.items() if path.read_bytes() != old}
    peers = {f"{site}/peers.pub" for site in ("oslo", "lima", "kyoto")}
    assert changed == {"lima/client.pem", "lima/client-key.pem"} | peers
    assert (keys / "rome" / "server.pem").exists()


def test_settings_of_one_site_make_no_keys_for_all(tmp_path: Path) -> None:
    (tmp_path / "setup.toml").write_text(f'site = "lima"\n{THREE}')
    done = piehole("setup", "--from", tmp_path / "setup.toml", "--keys", tmp_path / "keys")
    assert done.status == 2
    assert "Leave `site` out" in done.err
    assert not (tmp_path / "keys").exists()
