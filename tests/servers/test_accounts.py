"""Accounts on a server: who may read etcd's password, and who may ask the controller."""

from __future__ import annotations

import pytest

from tests.servers.bed.three import MAIN, REPOSITORY, Server, ThreeServers
from tests.servers.said import accepted, refused

pytestmark = pytest.mark.servers

# What an account on the server can say to the controller's socket by itself, and what it hears within a moment.
_ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.settimeout(5)
    one.connect(sys.argv[1])
    one.sendall("\\n".join(sys.argv[2:]).encode() + b"\\n\\n")
    print(one.makefile().read())
"""


def _account(bed: ThreeServers, server: Server, name: str, *groups: str) -> str:
    """An account of its own on the server, opened by the laptop's key; returns the URL that pushes through it."""
    host = server.host
    if host.run("id", name, check=False).returncode:
        host.run(
            "useradd",
            "--create-home",
            "--user-group",
            *(f"--groups={group}" for group in groups),
            "--shell",
            "/bin/sh",
            name,
        )
        host.run("usermod", "--password", "*", name)
        host.sh(f"install -d -m 700 -o {name} -g {name} /home/{name}/.ssh")
        host.write(f"/home/{name}/.ssh/authorized_keys", bed.laptop.key)
        host.run("chown", f"{name}:{name}", f"/home/{name}/.ssh/authorized_keys")
    return f"ssh://{name}@{host.name}{REPOSITORY}"


def _secrets_are_closed(server: Server, name: str) -> None:
    for file in ("etcd-password", "client-key.pem", "server-key.pem", "peer-key.pem"):
        read = server.host.run("cat", f"/etc/piehole/{file}", user=name, check=False)
        assert (read.returncode, read.stdout) == (1, ""), file


def test_a_pusher_who_cannot_read_the_password_pushes_through_the_controller(bed: ThreeServers, clone: str) -> None:
    oslo = bed.servers[0]
    url = _account(bed, oslo, "bob", "git")
    _secrets_are_closed(oslo, "bob")
    oid = bed.laptop.commit(clone, "by an account of its own")
    accepted(bed.laptop.push(clone, url))
    bed.everywhere(MAIN, oid)


def test_without_a_controller_such_a_push_is_refused_in_words(bed: ThreeServers, clone: str) -> None:
    oslo = bed.servers[0]
    url = _account(bed, oslo, "bob", "git")
    before = oslo.at()
    oslo.host.systemctl("stop", "piehole-controller")
    bed.laptop.commit(clone, "nobody at home")
    sentence = refused(bed.laptop.push(clone, url), "no-access")
    assert "cannot read the etcd credential /etc/piehole/" in sentence
    assert oslo.at() == before
    oslo.host.systemctl("start", "piehole-controller")
    oslo.wait_ready()
    accepted(bed.laptop.push(clone, url))


def test_without_a_controller_the_git_account_itself_still_pushes(bed: ThreeServers, clone: str) -> None:
    oslo = bed.servers[0]
    oslo.host.systemctl("stop", "piehole-controller")
    oid = bed.laptop.commit(clone, "the hook decides itself")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.everywhere(MAIN, oid)


def test_a_strangers_account_cannot_use_the_socket(bed: ThreeServers, clone: str) -> None:
    oslo = bed.servers[0]
    url = _account(bed, oslo, "mallory")
    _secrets_are_closed(oslo, "mallory")
    question = ["status", f"repository {REPOSITORY}"]
    socket = oslo.host.path(f"{REPOSITORY}/piehole/controller").read_text().strip()
    owner = oslo.host.run("python3", "-c", _ASK, socket, *question, user="git")
    assert owner.stdout.startswith("here ")
    stranger = oslo.host.run("python3", "-c", _ASK, socket, *question, user="mallory")
    assert stranger.stdout.strip() == ""
    bed.laptop.commit(clone, "by a stranger")
    pushed = bed.laptop.push(clone, url)
    assert pushed.returncode != 0
    assert "accepted" not in pushed.stderr
