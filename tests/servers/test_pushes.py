"""Users push over ssh and https, to whichever server."""

from __future__ import annotations

import pytest

from tests.servers.bed.three import ThreeServers
from tests.support.assertions import accepted
from tests.support.git import MAIN

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.mark.parametrize("protocol", ["ssh", "https"])
def test_a_push_to_any_server_arrives_at_all(bed: ThreeServers, clone: str, protocol: str) -> None:
    for server in bed:
        oid = bed.laptop.commit(clone, f"over {protocol} to {server.site}")
        accepted(bed.laptop.push(clone, server.url(protocol)))
        assert server.at() == oid
        bed.arrives(MAIN, oid)


@pytest.mark.parametrize("protocol", ["ssh", "https"])
def test_the_log_names_the_user_whatever_the_access(bed: ThreeServers, clone: str, protocol: str) -> None:
    server = bed.servers[1]
    oid = bed.laptop.commit(clone, "whose is this?")
    accepted(bed.laptop.push(clone, server.url(protocol)))
    line = next(
        one for one in server.piehole("log", "-C", "/srv/git/project.git").stdout.splitlines() if oid[:8] in one
    )
    assert "alice" in line


def test_the_certificate_of_another_server_fetches_and_cannot_push(bed: ThreeServers, clone: str) -> None:
    oslo, lima, _ = bed.servers
    url = lima.https
    fetched = oslo.host.run("git", "ls-remote", url, user="git")
    assert MAIN in fetched.stdout
    pushed = oslo.host.run(
        "git", "--git-dir=/srv/git/project.git", "push", url, f"{MAIN}:refs/heads/by-certificate", user="git", check=False,
        env={"GIT_TERMINAL_PROMPT": "0"},
    )  # fmt: skip
    assert pushed.returncode != 0
    assert "403" in pushed.stderr
    assert lima.at("refs/heads/by-certificate") == ""


def test_without_certificate_or_password_nothing_can_be_read(bed: ThreeServers) -> None:
    url = bed.servers[0].https
    asked = bed.laptop.host.run(
        *("git", "-c", "credential.helper=", "ls-remote", url),
        user="alice",
        check=False,
        env={"GIT_TERMINAL_PROMPT": "0"},
    )
    assert asked.returncode != 0
    assert "could not read Username" in asked.stderr


def test_a_users_key_opens_git_and_nothing_else(bed: ThreeServers) -> None:
    ssh = ["ssh", "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", f"git@{bed.servers[0].host.name}"]
    tried = bed.laptop.host.run(*ssh, "cat /etc/passwd", user="alice", check=False)
    assert tried.returncode != 0
    assert "unrecognized command" in tried.stderr
    assert "root:" not in tried.stdout
