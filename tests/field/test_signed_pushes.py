"""Pushes that their users sign (`git push --signed`), at sites whose servers make their nonces from seeds of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer

SIGNER = "alice@example.org"


@pytest.fixture
def group(make_group: MakeGroup, httpd: HttpServer, tmp_path: Path) -> Group:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    known = tmp_path / "known"
    known.write_text(f"{SIGNER} {key.with_suffix('.pub').read_text()}")
    made = make_group(2, url=httpd.url_for)
    for site in made:
        for name, value in {
            "receive.certNonceSeed": f"the seed of {site}",
            "receive.certNonceSlop": "300",
            "gpg.ssh.allowedSignersFile": str(known),
        }.items():
            git.git(site.repository, "config", name, value)
    work, _ = made.begun()
    made.work = work
    for name, value in {"gpg.format": "ssh", "user.signingKey": str(key)}.items():
        git.git(work, "config", name, value)
    return made


def pushers(group: Group) -> list[str]:
    return [push["pusher"] for push in group.pushes().values()]


def test_each_site_verifies_with_its_own_seed_and_the_log_names_the_signer(group: Group) -> None:
    for site in group:
        oid = git.commit(group.work, str(site))
        accepted(git.push(group.work, site.url, "--signed", "HEAD:main"))
        group.arrives("refs/heads/main", oid)
    assert pushers(group)[-2:] == [f"pusher, signed by {SIGNER}"] * 2
    assert f"signed by {SIGNER}" in group[1].piehole("log").out


def test_a_signature_of_somebody_unknown_or_none_at_all_names_no_signer(group: Group, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    git.commit(group.work, "signed by nobody whom the server knows")
    accepted(git.push(group.work, group[0].url, "--signed", "HEAD:main"))
    git.commit(group.work, "not signed")
    accepted(git.push(group.work, group[0].url, "HEAD:main"))
    assert pushers(group)[-2:] == ["pusher"] * 2
