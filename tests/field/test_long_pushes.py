"""Pushes of many refs that take long: what a proxy's patience, a cut connection and Ctrl-C leave behind."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks import helper
from piehole.fastpath import inflight, processes
from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group, MakeGroup
from tests.support.httpd import HttpServer
from tests.support.pushes import chain, finish, records, start_push
from tests.support.servers import Unavailable
from tests.support.sshd import SshServer
from tests.support.wait import until

REFS = 30
# Somebody's `update` that takes its time with one ref in the middle of the push.
SLOW = '[ "$1" != refs/heads/b20 ] || { touch asked; sleep 2; }\nexec "$piehole" "$@"'


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[HttpServer]:
    """A web server that ends a request after a second of silence."""
    try:
        server = HttpServer(tmp_path / "httpd", tmp_path, silence="1s")
    except Unavailable as missing:
        pytest.skip(f"http: {missing}")
    yield server
    server.end()


def names(work: Path) -> list[str]:
    """The refs to push: more of them in the clone than at the site."""
    for number in range(REFS):
        git.git(work, "branch", f"b{number}")
    return [f"refs/heads/b{number}" for number in range(REFS)]


def consistent(group: Group) -> bool:
    """Whether each ref is at the site if and only if it is in the group."""
    return group[0].refs() == group.refs()


def again(group: Group, work: Path, refs: list[str]) -> None:
    """What was cut has moved each ref at the site and in the group, or in neither; the same push again does the rest."""
    site = group[0].repository
    until(lambda: not any(processes.lives(one.name) for one in records(site)), 30, "no receive-pack is left")
    until(lambda: consistent(group), what="the site and the group agree")
    accepted(git.push(work, site, *refs))
    until(lambda: consistent(group), what="the site and the group agree")
    assert set(refs) <= group.refs().keys()


def test_a_push_that_a_proxy_has_cut_for_its_silence(make_group: MakeGroup, impatient: HttpServer) -> None:
    group = make_group(1)
    site = group[0].repository
    work, _ = group.begun()
    refs = names(work)
    chain(site, "update", SLOW)
    assert git.push(work, impatient.url_for(site), *refs).returncode != 0
    again(group, work, refs)


@pytest.mark.parametrize("transport", ["ssh", "http"])
def test_a_push_that_its_user_has_broken_off(
    make_group: MakeGroup, sshd: SshServer, httpd: HttpServer, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", sshd.git_ssh_command)
    group = make_group(1)
    site = group[0].repository
    work, _ = group.begun()
    refs = names(work)
    chain(site, "update", SLOW)
    pushing = start_push(work, (sshd if transport == "ssh" else httpd).url_for(site), *refs)
    until((site / "asked").exists, what="half of the refs have moved")
    os.killpg(pushing.pid, signal.SIGINT)  # as the terminal does
    assert finish(pushing).returncode != 0
    again(group, work, refs)


def test_refs_that_pass_unasked_are_asked_when_it_is_time_for_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = os.pipe()
    passed = fcntl.fcntl(unread[0], fcntl.F_DUPFD, 500)  # one that nothing else in this process takes meanwhile
    os.close(passed)
    monkeypatch.setattr(helper, "PASSED", passed)
    serving = helper.Helper(Hooks(), os.getppid(), inflight.Record(str(tmp_path), ""), Client(), unread[0])  # type: ignore[arg-type]

    def passes(silent: float) -> bool:
        monkeypatch.setattr(helper, "_SILENT", silent)
        serving._pass()
        return Path(f"/proc/self/fd/{passed}").exists()

    assert passes(60)
    assert not passes(-1)
    assert not passes(-1)
    assert passes(60)
    monkeypatch.setattr(Client, "until", 0.0)
    assert not passes(60)
    assert not passes(60)
    for end in unread:
        os.close(end)


class Hooks:
    def is_last(self) -> bool:
        return True

    def awaited_by(self, _: str, __: list[str]) -> Hooks:
        return self

    def run(self, _: list[str], __: list[str]) -> int:
        return 0


class Client:
    until = float("inf")
    held = 0

    def all_may_pass(self) -> bool:
        return True

    def left(self) -> int:
        return 1234


def test_a_push_that_goes_on_for_long_says_so_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over http and git:// nothing else is sent meanwhile."""
    answers, unread = os.pipe(), os.pipe()
    os.set_blocking(unread[0], False)
    monkeypatch.setattr(helper, "ANSWERS", answers[1])
    record = inflight.Record(str(tmp_path), "")
    serving = helper.Helper(Hooks(), os.getppid(), record, Client(), unread[0])  # type: ignore[arg-type]

    def told(silent: float) -> str:
        monkeypatch.setattr(helper, "_SILENT", silent)
        serving._answer(f"{os.getpid()} update refs/heads/a 0 1".encode())
        return os.read(answers[0], 1000).decode()

    assert processes.child(os.getpid(), os.getppid())
    assert "1234" not in told(60)
    assert "piehole: at work, 1234 refs to go" in told(-1)
    assert "1234" not in told(60)
    for end in (*answers, *unread):
        os.close(end)
