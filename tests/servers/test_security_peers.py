"""How sites prove to each other who they are, and how little that opens (docs/explanation/security.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.bed.hosts import CHECKOUT
from tests.servers.bed.three import PASSWORD, REPOSITORY, Server, ThreeServers
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_SCRIPT = "/etc/piehole/ssh-upload-pack.sh"
_KNOWN = "/home/git/.ssh/known_hosts"
_STORE = "/home/git/.git-credentials"
_KEY = "/home/git/.ssh/id_ed25519"
_PATIENCE = 40.0  # seconds: a peer that failed is asked again after a pause


def _events(server: Server, name: str, **fields: object) -> list[dict[str, Any]]:
    lines = [line for line in server.host.log_of("piehole-controller").splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    return [one for one in found if one["event"] == name and fields.items() <= one.items()]


def _ssh(server: Server) -> str:
    return f"ssh://git@{server.host.name}{REPOSITORY}"


def _host_key(server: Server) -> str:
    kind, key, *_ = server.host.path("/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    return f"{server.host.name} {kind} {key}\n"


@pytest.fixture
def lima_by_ssh(bed: ThreeServers) -> Iterator[Server]:
    """The other two fetch from lima over ssh, each with a key that can only fetch. Kyoto's and oslo's URLs stay as they are."""
    oslo, lima, kyoto = bed.servers
    keys_before = lima.host.path("/home/git/.ssh/authorized_keys").read_text()
    lima.host.write(_SCRIPT, (CHECKOUT / "deploy" / "ssh-upload-pack.sh").read_text())
    lines = []
    for server in (oslo, kyoto):
        host = server.host
        host.sh(f"[ -e {_KEY} ] || ssh-keygen -q -t ed25519 -N '' -f {_KEY}", user="git")
        lines.append(f'restrict,command="sh {_SCRIPT} {REPOSITORY}" {host.path(f"{_KEY}.pub").read_text()}')
        _know(server, _host_key(lima))
    lima.host.path("/home/git/.ssh/authorized_keys").write_text(keys_before + "".join(lines))
    lima.piehole("install", REPOSITORY, "--url", _ssh(lima))
    yield lima
    lima.piehole("install", REPOSITORY, "--url", lima.https)
    lima.host.path("/home/git/.ssh/authorized_keys").write_text(keys_before)
    for server in (oslo, kyoto):
        server.host.run("rm", _KEY, f"{_KEY}.pub", _KNOWN, user="git")


def _know(server: Server, known: str) -> None:
    server.host.write(_KNOWN, known)
    server.host.run("chown", "git:git", _KNOWN)


def _only_lima_has(bed: ThreeServers, clone: str, message: str) -> str:
    """A commit that was pushed to lima while kyoto stands still: oslo can have it from nobody else."""
    _, lima, kyoto = bed.servers
    kyoto.host.systemctl("stop", "piehole-controller")
    oid = bed.laptop.commit(clone, message)
    accepted(bed.laptop.push(clone, lima.https))
    return oid


def test_a_key_that_may_only_fetch_is_enough_for_replication(
    bed: ThreeServers, lima_by_ssh: Server, clone: str
) -> None:
    oslo = bed.servers[0]
    oid = _only_lima_has(bed, clone, "over a restricted key")
    bed.arrives(MAIN, oid, [oslo], timeout=_PATIENCE)
    assert _events(oslo, "reconcile", peer="lima")
    oslo.piehole("check", REPOSITORY)


def test_a_peers_key_cannot_push_log_in_or_read_another_repository(
    bed: ThreeServers, lima_by_ssh: Server, clone: str
) -> None:
    oslo, lima, _ = bed.servers
    something = bed.laptop.commit(clone, "something to push")
    accepted(bed.laptop.push(clone, oslo.https))
    bed.arrives(MAIN, something)
    git = ("git", f"--git-dir={REPOSITORY}")
    pushed = oslo.host.run(*git, "push", _ssh(lima), f"{MAIN}:refs/heads/by-key", user="git", check=False)
    assert pushed.returncode != 0
    assert "this key may only fetch" in pushed.stderr
    assert lima.at("refs/heads/by-key") == ""
    elsewhere = _ssh(lima).replace(REPOSITORY, "/srv/git/other.git")
    for url in (elsewhere, f"{_ssh(lima)}/../project.git", f"{_ssh(lima)}'; id; '"):
        fetched = oslo.host.run("git", "ls-remote", url, user="git", check=False)
        assert "this key may only fetch" in fetched.stderr, url
        assert "uid=" not in fetched.stdout + fetched.stderr
    for command in ("id", "sh", f"git-upload-pack '{REPOSITORY}'; id", f"git-receive-pack '{REPOSITORY}'", ""):
        ssh = ("ssh", "-o", "BatchMode=yes", f"git@{lima.host.name}", *([command] if command else []))
        tried = oslo.host.run(*ssh, user="git", check=False)
        assert tried.returncode == 1, command
        assert "uid=" not in tried.stdout
    # Neither a way on to other ports nor a terminal.
    forwarded = ("ssh", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-R", "7778:127.0.0.1:22")
    tried = oslo.host.run(*forwarded, f"git@{lima.host.name}", "id", user="git", check=False)
    assert tried.returncode != 0


def test_a_host_key_that_has_changed_is_not_believed_and_another_peer_is_used(
    bed: ThreeServers, lima_by_ssh: Server, clone: str
) -> None:
    oslo, lima, kyoto = bed.servers
    _know(oslo, f"{lima.host.name} {_host_key(kyoto).partition(' ')[2]}")
    oid = bed.laptop.commit(clone, "lima seems to be somebody else")
    accepted(bed.laptop.push(clone, lima.https))
    bed.arrives(MAIN, oid, [oslo, kyoto], timeout=_PATIENCE)
    failed = until(lambda: _events(oslo, "peer.failed", peer="lima"), 20, "oslo says why it does not ask lima")[-1]
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in failed["reason"]
    assert "ssh-keygen -R" in failed["reason"]
    checked = oslo.piehole("check", REPOSITORY, check=False)
    assert checked.returncode == 1
    assert "'lima' cannot be fetched from" in checked.stdout
    assert "Host key verification failed" in checked.stdout

    # With nobody else to ask, the site stays where it is and says so, until the key is the known one again.
    before = oslo.at()
    newer = _only_lima_has(bed, clone, "from nobody but lima")

    def told() -> bool:
        return "ssh-keygen -R" in oslo.piehole("status", "-C", REPOSITORY, check=False).stdout

    until(told, 20, "piehole status names the reason and the mend")
    assert oslo.at() == before
    _know(oslo, _host_key(lima))
    bed.arrives(MAIN, newer, [oslo], timeout=_PATIENCE)


def test_a_host_key_that_is_not_known_is_not_taken_over(bed: ThreeServers, lima_by_ssh: Server, clone: str) -> None:
    oslo, lima, _ = bed.servers
    _know(oslo, "")
    before = oslo.at()
    oid = _only_lima_has(bed, clone, "from an unknown host")
    until(lambda: _events(oslo, "peer.failed", peer="lima"), 20, "oslo says why it does not ask lima")
    assert oslo.at() == before
    assert oslo.host.path(_KNOWN).read_text() == ""
    _know(oslo, _host_key(lima))
    bed.arrives(MAIN, oid, [oslo], timeout=_PATIENCE)


# ---- https


@pytest.fixture
def no_certificate(bed: ThreeServers) -> Iterator[Server]:
    """Oslo's git has no certificate to show, and asks its credential helper."""
    oslo = bed.servers[0]
    settings = (("sslCert", "client.pem"), ("sslKey", "client-key.pem"))
    for name, _ in settings:
        oslo.host.run("git", "config", "--global", "--unset", f"http.{name}", user="git")
    oslo.host.run("git", "config", "--global", "credential.helper", f"store --file={_STORE}", user="git")
    yield oslo
    oslo.host.run("git", "config", "--global", "--unset", "credential.helper", user="git")
    oslo.host.run("rm", "-f", _STORE)
    for name, file in settings:
        oslo.host.run("git", "config", "--global", f"http.{name}", f"/etc/piehole/{file}", user="git")


def _store(server: Server, peer: Server, password: str) -> None:
    """What git's store helper holds."""
    server.host.write(_STORE, f"https://alice:{password.replace(' ', '%20')}@{peer.host.name}\n", mode=0o600)
    server.host.run("chown", "git:git", _STORE)


def test_a_password_comes_from_gits_own_credential_helper_and_stays_out_of_the_log(
    bed: ThreeServers, no_certificate: Server, clone: str
) -> None:
    oslo, lima, _ = bed.servers
    _store(oslo, lima, PASSWORD)
    oid = _only_lima_has(bed, clone, "with a password")
    bed.arrives(MAIN, oid, [oslo], timeout=_PATIENCE)
    assert _events(oslo, "reconcile", peer="lima")
    said = oslo.host.log_of("piehole-controller") + oslo.piehole("status", "-C", REPOSITORY, check=False).stdout
    assert PASSWORD not in said and PASSWORD.replace(" ", "%20") not in said


def test_a_wrong_password_is_told_in_words_and_nobody_waits_at_a_prompt(
    bed: ThreeServers, no_certificate: Server, clone: str
) -> None:
    oslo, lima, _ = bed.servers
    wrong = "this-is-not-the-password"
    _store(oslo, lima, wrong)
    before = oslo.at()
    seen = len(_events(oslo, "peer.failed", peer="lima"))
    oid = _only_lima_has(bed, clone, "with a wrong password")
    told = until(lambda: _events(oslo, "peer.failed", peer="lima")[seen:], 10, "oslo says why it cannot fetch")
    assert "neither its URL nor a credential helper has the right one" in told[0]["reason"]
    shown = oslo.piehole("status", "-C", REPOSITORY, check=False).stdout
    assert "credential helper" in shown
    assert wrong not in oslo.host.log_of("piehole-controller") + shown
    assert oslo.at() == before
    _store(oslo, lima, PASSWORD)
    bed.arrives(MAIN, oid, [oslo], timeout=_PATIENCE)
