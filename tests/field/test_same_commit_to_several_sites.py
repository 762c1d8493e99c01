"""One commit pushed to several sites in quick succession: a remote with several pushurls, a CI job, `git annex sync`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from piehole.fastpath import inflight, processes
from piehole.fastpath.inflight import Record
from piehole.refs import Command
from piehole.replicate import pushes_here
from piehole.replicate.pushes_here import PushesHere
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, commit, git, make_bare, push
from tests.support.groups import MakeGroup
from tests.support.httpd import HttpServer
from tests.support.pushes import finish, start_push
from tests.support.wait import PATIENCE, until

ROUNDS = 30


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["path", "http"])
def test_a_remote_with_three_pushurls_is_pushed_to_or_says_that_nothing_is_left_to_push(
    make_group: MakeGroup, transport: str, request: pytest.FixtureRequest
) -> None:
    group = make_group(3)
    work, _ = group.begun()
    urls = [str(site.repository) for site in group]
    if transport == "http":
        httpd: HttpServer = request.getfixturevalue("httpd")
        urls = [httpd.url_for(site.repository) for site in group]
    git(work, "remote", "add", "all", urls[0])
    for url in urls:
        git(work, "remote", "set-url", "--add", "--push", "all", url)
    failed = []
    for _ in range(ROUNDS):
        tip = commit(work)
        done = push(work, "all", "HEAD:main")
        if done.returncode:
            failed.append(done)
        group.arrives(MAIN, tip)
    for done in failed:
        assert "the group has" in refused(done, "stale")
    # All succeed by path on a machine that is not busy with other tests; without the waits, 27 of 30 fail. Over http there are two requests,
    # and no process of git tells of the push between them.
    assert len(failed) <= ROUNDS // (2 if transport == "http" else 5), failed[0].stderr


def test_who_is_overtaken_by_the_replication_hears_that_the_group_has_the_commit(make_group: MakeGroup) -> None:
    """A push that hangs before it has said what it wants holds no ref for longer than a moment."""
    group = make_group(2)
    work, first = group.begun()
    late = group[1]
    late.stop()
    tip = commit(work)
    accepted(push(work, group[0].repository, "HEAD:main"))
    hook = work / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\ntouch {work}/begun\nuntil grep -q {tip} {late.repository}/{MAIN}; do sleep 0.02; done\n"
    )
    hook.chmod(0o755)
    pushing = start_push(work, late.repository, "HEAD:main")
    until((work / "begun").exists, PATIENCE, "git has shown its refs to the pusher")
    assert late.at() == first
    late.launch()
    assert "the group has" in refused(finish(pushing), "stale")
    assert late.at() == group.value() == tip
    assert group.history() == [first, tip]


def _stand_in(git_dir: Path) -> subprocess.Popen[bytes]:
    """A process that looks like a receive-pack of this repository."""
    script = f"exec -a git-receive-pack {sys.executable} -c 'import time; time.sleep(60)' {git_dir}"
    return subprocess.Popen(["bash", "-c", script], env={**os.environ, "PYTHONHOME": sys.base_prefix})


def test_a_move_is_left_to_a_push_that_has_begun_or_will_make_it_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_dir = make_bare(tmp_path / "a.git")
    (git_dir / inflight.FOLDER).mkdir(parents=True)
    here = PushesHere(git_dir)
    move, other = Command(MAIN, "a" * 40, "b" * 40), Command("refs/heads/x", "a" * 40, "c" * 40)
    assert here.leave([move, other]) == set()
    with _stand_in(git_dir) as process:
        try:
            until(lambda: here.leave([move]) == {MAIN}, PATIENCE, "the receive-pack is seen")
            assert here.leave([other]) == {other.ref}
            monkeypatch.setattr(pushes_here, "_PATIENCE", 0.0)
            assert here.leave([move, other]) == set()
            monkeypatch.undo()
            name = processes.identity(process.pid)
            assert name is not None
            record = Record(str(git_dir), name).open([(MAIN, move.old, move.new), (other.ref, other.old, "d" * 40)])
            # Now it is known what it wants: this move, and another one of the other ref.
            assert here.leave([move, other]) == {MAIN}
            aged = time.time() - 60
            os.utime(record.path, (aged, aged))
            assert here.leave([move, other]) == set()
        finally:
            process.kill()
    assert here.leave([move, other]) == set()
