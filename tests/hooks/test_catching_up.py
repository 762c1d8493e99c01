"""A refusal that advises to pull first gives this site the chance to have what is to be pulled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group
from tests.support.pushes import catching_up, records
from tests.support.wait import until


def diverged(world: Group) -> tuple[Path, Path, Path, str]:
    """Sites a and b, a clone, and what was pushed at a; the clone has something else, and b knows nothing of either."""
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    git(work, "reset", "-q", "--hard", first)
    commit(work, "ours", file="other.txt")
    return a, b, work, theirs


def test_after_a_stale_push_the_advised_pull_helps_without_a_controller(world: Group) -> None:
    _, b, work, theirs = diverged(world)
    refused(push(work, b, "HEAD:main"), "stale")
    assert refs(b)[MAIN] == theirs
    git(work, "pull", "-q", "--rebase", str(b), "main")
    accepted(push(work, b, "HEAD:main"))
    assert world.history()[-2:] == [theirs, refs(b)[MAIN]]


def test_no_process_is_left_behind(world: Group) -> None:
    _, b, work, _ = diverged(world)
    refused(push(work, b, "HEAD:main"), "stale")
    until(lambda: not catching_up(b), 20)


def test_a_site_that_cannot_catch_up_says_so(world: Group) -> None:
    a, b, work, _ = diverged(world)
    a.rename(a.with_name("lost.git"))
    git(b, "config", "piehole.catchUp", "0.5")
    said = refused(push(work, b, "HEAD:main"), "stale")
    assert "has not caught up" in said
    until(lambda: not catching_up(b), 30)


@pytest.mark.slow
def test_many_stale_refs_wait_once(world: Group) -> None:
    """The patience is the push's, not each ref's; the refs that follow are answered at once."""
    a, work, first = world.founded("a")
    b = world["b"].build(settings={"piehole.hookTimeout": "6", "piehole.catchUp": "6"}).repository
    names = [f"HEAD:refs/heads/b{n}" for n in range(4)]
    accepted(push(work, a, "--atomic", *names))
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "--atomic", *names))
    git(work, "reset", "-q", "--hard", first)
    commit(work, "ours")
    a.rename(a.with_name("lost.git"))
    refused(push(work, b, *names), "stale")
    (record,) = records(b)
    waits = [int(line.split(" ")[1]) for line in record.read_text().splitlines() if line.startswith("waited ")]
    assert len([wait for wait in waits if wait > 4500]) == 1, waits
    assert world.value("refs/heads/b0") == theirs
