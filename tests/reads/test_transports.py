"""The read gate over ssh and http, with stock git, sshd and nginx; and the peers, which pass by it."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piehole.transfer.git_fetch import list_refs
from piehole.transfer.urls import parse_url
from tests.reads.bed import FRONTS, Front, lagging, oid_of
from tests.support import git
from tests.support.assertions import Pushed, accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.servers import Unavailable
from tests.support.sshd import SshServer

List = Callable[[Path], Pushed]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    return Front(tmp_path / "bin", request.param)


@pytest.fixture
def gated_sshd(front: Front, tmp_path: Path) -> Iterator[SshServer]:
    try:
        server = SshServer(tmp_path / "sshd", force=f"sh {front.ssh_git}")
    except Unavailable as missing:
        pytest.skip(f"ssh: {missing}")
    yield server
    server.end()


@pytest.fixture
def gated_httpd(front: Front, tmp_path: Path) -> Iterator[HttpServer]:
    try:
        server = HttpServer(tmp_path / "httpd", tmp_path, backend=front.http_backend)
    except Unavailable as missing:
        pytest.skip(f"http: {missing}")
    yield server
    server.end()


def listed(group: Group, url: str, *settings: str, env: dict[str, str] | None = None) -> Pushed:
    return git.git(group.folder, *settings, "ls-remote", url, MAIN, check=False, env=env)


def set_gate(group: Group, mode: str, wait: str = "0.3") -> None:
    for site in group:
        git.git(site.repository, "config", "piehole.readGate", mode)
        git.git(site.repository, "config", "piehole.readWait", wait)


def pushed(group: Group) -> str:
    oid = group.commit()
    accepted(git.push(group.work, group[0].repository, "HEAD:main"))
    return oid


@pytest.mark.parametrize("version", ["0", "2"])
def test_over_ssh_git_prints_the_refusal_and_the_warning(
    make_group: MakeGroup, gated_sshd: SshServer, version: str
) -> None:
    group = make_group(2, settings={"piehole.readWait": "0.3", "piehole.readGate": "strict"})
    env = {"GIT_SSH_COMMAND": gated_sshd.git_ssh_command}
    url = gated_sshd.url_for(group[1].repository)
    group.arrives(MAIN, old := pushed(group))
    assert oid_of(fresh := listed(group, url, "-c", f"protocol.version={version}", env=env)) == old, fresh.stderr
    with lagging(group, "b"):
        new = pushed(group)
        refused = listed(group, url, "-c", f"protocol.version={version}", env=env)
        assert refused.returncode == 128
        assert "fatal: remote error: piehole: behind: " in refused.stderr
    group.arrives(MAIN, new)
    set_gate(group, "wait")
    with lagging(group, "b"):
        pushed(group)
        warned = listed(group, url, "-c", f"protocol.version={version}", env=env)
        assert (warned.returncode, oid_of(warned)) == (0, new)
        assert "piehole: behind: " in warned.stderr


@pytest.mark.parametrize("version", ["0", "2"])
def test_over_http_git_prints_the_refusal_and_a_header_carries_the_warning(
    make_group: MakeGroup, gated_httpd: HttpServer, version: str
) -> None:
    group = make_group(2, settings={"piehole.readWait": "0.3", "piehole.readGate": "strict"})
    protocol = ("-c", f"protocol.version={version}")
    url = gated_httpd.url_for(group[1].repository)
    group.arrives(MAIN, old := pushed(group))
    assert oid_of(fresh := listed(group, url, *protocol)) == old, fresh.stderr
    with lagging(group, "b"):
        new = pushed(group)
        refused = listed(group, url, *protocol)
        assert refused.returncode == 128
        assert "remote error: piehole: behind: " in refused.stderr
        without_suffix = listed(group, url.removesuffix(".git"), *protocol)
        assert "remote error: piehole: behind: " in without_suffix.stderr
        with pytest.raises(urllib.request.HTTPError, match="503"):
            urllib.request.urlopen(f"{url}/info/refs", timeout=20)  # noqa: S310 -- a client that reads plain files
    group.arrives(MAIN, new)
    set_gate(group, "wait")
    with lagging(group, "b"):
        pushed(group)
        warned = listed(group, url, *protocol)
        assert (warned.returncode, oid_of(warned)) == (0, new)
        answer = urllib.request.urlopen(f"{url}/info/refs?service=git-upload-pack", timeout=20)  # noqa: S310 -- this test's own server
        with answer:
            assert "has not reached the newest state of the group" in answer.headers["Piehole-Behind"]
            assert answer.status == 200
        assert "piehole: behind: " in (gated_httpd.folder / "fcgiwrap.log").read_text()


def apart(make_group: MakeGroup, server: SshServer | HttpServer, **settings: str) -> Group:
    """Two sites, each of which lacks what was pushed to the other one; no controller runs."""
    strict = {"piehole.readGate": "strict", "piehole.readWait": "0"}
    named = {name.replace("_", "."): value for name, value in settings.items()}
    group = make_group(2, url=server.url_for, settings={**strict, **named}, started=False)
    first = group.commit("first")
    for site in group:
        group.commit(f"only {site} has this", onto=first)
        accepted(git.push(group.work, site.repository, f"HEAD:refs/heads/{site}"))
    return group


def test_over_ssh_peers_pass_by_the_gate_though_each_lacks_what_the_other_has(
    make_group: MakeGroup, gated_sshd: SshServer
) -> None:
    """Else each would wait until the other one is fresh."""
    group = apart(make_group, gated_sshd, core_sshCommand=gated_sshd.git_ssh_command)
    env = {"GIT_SSH_COMMAND": gated_sshd.git_ssh_command}
    assert "behind: " in listed(group, group[1].url, env=env).stderr
    # git, too, which sends a GIT_PROTOCOL of its own.
    peer = parse_url(group[1].url, ["ssh"])
    assert "refs/heads/b" in list_refs(group[0].repository, peer)
    group.start().in_step()


@pytest.mark.parametrize("by_git", [False, True], ids=["dulwich", "git"])
def test_over_http_peers_pass_by_the_gate_though_each_lacks_what_the_other_has(
    make_group: MakeGroup, gated_httpd: HttpServer, by_git: bool
) -> None:
    only_git_honours_it = {"http_cookieFile": "/nothing"} if by_git else {}
    group = apart(make_group, gated_httpd, **only_git_honours_it)
    assert "behind: " in listed(group, group[1].url).stderr
    group.start().in_step()


def test_over_ssh_only_these_commands_run(make_group: MakeGroup, gated_sshd: SshServer) -> None:
    group = make_group(1)
    oid = pushed(group)
    repository = group[0].repository

    def ssh(command: str) -> tuple[int, str]:
        where = ["ssh", "-F", str(gated_sshd.ssh_config), "127.0.0.1", "-p", str(gated_sshd.port), command]
        done = subprocess.run(where, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    assert ssh(f"piehole wait -C {repository} main {oid} --timeout 20") == (0, "")
    status, err = ssh(f"piehole wait -C {repository} main {'1' * 40} --timeout 0.2")
    assert status == 1
    assert "not in time" in err
    for command in (
        "sh",
        "",
        f"piehole wait -C {repository} --etcd http://127.0.0.1:1",
        f"piehole wait -C {repository} --etc=http://127.0.0.1:1",
        f"piehole clobber -C {repository} --yes",
        f"git-upload-pack '{repository}' ; echo owned'",
    ):
        status, err = ssh(command)
        assert (status, err.startswith("ssh-git: ")) == (1, True), (command, err)
    work = group.clone(group[0].repository)
    new = git.commit(work, "over ssh")
    env = {"GIT_SSH_COMMAND": gated_sshd.git_ssh_command}
    url = gated_sshd.url_for(repository)
    accepted(git.git(work, "push", url, "HEAD:main", check=False, env=env))
    assert oid_of(listed(group, url, env=env)) == new
