"""`piehole log` names the pusher that a person knows: by the environment or by the ssh key, and as harmless text."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from hooks import pusher
from piehole.errors import UsageError
from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.sshd import SshServer

ACCOUNT = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def named(group: Group) -> str:
    """The pusher of the newest push, by the group's record."""
    return str(json.loads(group.etcd.get(group.key("@push")) or "{}")["pusher"])


def keys(folder: Path) -> tuple[Path, str]:
    """A home whose key of this comment has logged in, and what sshd says of it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna@laptop home", "-f", str(folder / "key")], check=True
    )
    kind, blob, _ = (folder / "key.pub").read_text().split(" ", 2)
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "authorized_keys").write_text(
        f"# {kind} {blob} an old name\nssh-rsa AAAA bert\n"
        f'command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"",no-pty {kind} {blob} anna@laptop home \n{kind} {blob}x carl\n'
    )
    (folder / "auth").write_text(f"publickey {kind} {blob}\n")
    return folder, str(folder / "auth")


def test_the_first_source_that_has_a_name_wins_and_the_account_is_the_last(tmp_path: Path) -> None:
    home, auth = keys(tmp_path)
    login = {"HOME": str(home), "SSH_USER_AUTH": auth}
    assert pusher.name({**login, "GL_USER": "g", "REMOTE_USER": "r"}) == "g"
    assert pusher.name({**login, "REMOTE_USER": "r"}) == "r"
    assert pusher.name(login) == "anna@laptop home"
    assert pusher.name({**login, "GL_USER": " "}) == "anna@laptop home"
    assert pusher.name({**login, "REMOTE_USER": "r"}, ["key-comment", "env:REMOTE_USER"]) == "anna@laptop home"
    assert pusher.name({"NAME": "n", "GL_USER": "g"}, ["env:NAME"]) == "n"
    assert pusher.name({"GL_USER": "g"}, ["env:NAME"]) == pwd.getpwuid(os.getuid()).pw_name
    assert pusher.name({"SUDO_USER": "anna"}) == "anna"
    assert pusher.name(login, [f"key-comment:{tmp_path}/none", "account"]) == pwd.getpwuid(os.getuid()).pw_name


def test_a_certificate_names_its_key_id(tmp_path: Path) -> None:
    for kind in ("ed25519", "rsa", "ecdsa"):
        key = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
        authority = ["ssh-keygen", "-q", "-s", str(tmp_path / "ed25519"), "-I", f"anna by {kind}", "-n", "git"]
        subprocess.run([*authority, f"{key}.pub"], check=True)
        kind_of_key, blob = (tmp_path / f"{kind}-cert.pub").read_text().split(" ")[:2]
        (tmp_path / "auth").write_text(f"publickey {kind_of_key} {blob}\n")
        assert pusher.name({"SSH_USER_AUTH": str(tmp_path / "auth"), "HOME": "/nowhere"}) == f"anna by {kind}"
        (tmp_path / "auth").write_text(f"publickey {kind_of_key} {blob[:40]}\n")  # cut off: no name, and no error
        assert pusher.name({"SSH_USER_AUTH": str(tmp_path / "auth"), "HOME": "/nowhere"}) in ("", *[ACCOUNT])


@pytest.mark.parametrize("controlled", [True, False], ids=["controller", "no controller"])
def test_over_ssh_with_one_account_the_comment_of_the_key_is_the_name(
    controlled: bool, make_group: MakeGroup, sshd_that_names_keys: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_group(1, started=controlled)
    work, _ = group.begun()
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd_that_names_keys.git_ssh_command)
    url = sshd_that_names_keys.url_for(group[0].repository)
    git.commit(work, "one")
    accepted(git.push(work, url, "HEAD:main"))
    assert named(group) == ACCOUNT  # its keys are in a file of their own, which the setting has to name
    git.git(
        group[0].repository, "config", "piehole.pusherFrom", f"key-comment:{sshd_that_names_keys.folder}/user_key.pub"
    )
    if controlled:
        group[0].stop()
        group[0].start()
    git.commit(work, "two")
    accepted(git.push(work, url, "HEAD:main"))
    assert named(group) == "test"
    assert "test" in group[0].piehole("log").out.splitlines()[0]


def test_over_http_it_is_the_user_of_the_web_server_and_under_gitolite_its_own(
    make_group: MakeGroup, httpd: HttpServer
) -> None:
    group = make_group(1)
    work, _ = group.begun()
    git.commit(work, "one")
    accepted(git.push(work, httpd.url_for(group[0].repository), "HEAD:main"))
    assert named(group) == "pusher"
    git.commit(work, "two")
    accepted(git.push(work, group[0].repository, "HEAD:main", env={"GL_USER": "grete", "REMOTE_USER": "other"}))
    assert named(group) == "grete"


def test_hostile_names_become_short_printable_text(make_group: MakeGroup) -> None:
    group = make_group(1)
    work, _ = group.begun()
    name = "a\x1b[31mb\u202ec\nd " + "x" * 5000
    for started in (True, False):
        git.commit(work, str(started))
        accepted(git.push(work, group[0].repository, "HEAD:main", env={"GL_USER": name}))
        assert named(group) == ("a?[31mb?c d " + "x" * 5000)[:200]
        if started:
            group[0].stop()


def test_a_source_that_is_none_is_an_error(make_group: MakeGroup) -> None:
    from piehole.group import config

    group = make_group(1, started=False)
    for wrong in ("GL_USER", "env:", "env:A B", "comment"):
        git.git(group[0].repository, "config", "piehole.pusherFrom", wrong)
        with pytest.raises(UsageError, match="must be env:NAME, key-comment, key-comment:FILE or account"):
            config.load(group[0].repository)
