"""Hooks of this version beside a controller of the one before, the reverse, and sites of both in one group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.skew.previous import COMMIT, SkewedSite, unpack
from tests.fault.tree import SOURCE
from tests.support import git
from tests.support.assertions import Pushed, accepted, arrives, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.servers import NOT_POSSIBLE

Make = Callable[[str, Path, Path], SkewedSite]


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("previous")
    if not unpack(tree):
        pytest.skip(f"{NOT_POSSIBLE}this checkout has no history, and so not the version before ({COMMIT[:12]})")
    return tree


@pytest.fixture
def make(make_group: MakeGroup) -> Make:
    group = make_group(0)

    def made(name: str, hooks: Path, controller: Path) -> SkewedSite:
        site = SkewedSite(group, name, hooks, controller)
        group.sites.append(site)
        site.build()
        return site

    return made


def _accepted(pushed: Pushed) -> None:
    assert "piehole: accepted: " in accepted(pushed).stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hooks", "controller"),
    [("now", "before"), ("before", "now"), ("before", "before")],
    ids=["hooks of now, controller of before", "hooks of before, controller of now", "a whole site of before"],
)
def test_pushes_go_through_and_arrive_whichever_version_each_part_has(
    make: Make, previous: Path, tmp_path: Path, hooks: str, controller: str
) -> None:
    trees = {"now": SOURCE, "before": previous}
    mixed = make("mixed", trees[hooks], trees[controller])
    other = make("other", SOURCE, SOURCE)
    sites = [mixed, other]
    for site in sites:
        site.start()
    work = git.clone(mixed.repository, tmp_path / "work")
    one = git.commit(work, "one")
    _accepted(git.push(work, "origin", "--atomic", "HEAD:main", "HEAD:refs/heads/topic", "HEAD:refs/tags/v1"))
    arrives(sites, MAIN, one)
    two = git.commit(work, "two")
    _accepted(git.push(work, str(other.repository), "HEAD:main"))
    arrives(sites, MAIN, two)
    _accepted(git.push(work, "origin", ":refs/heads/topic"))
    arrives(sites, "refs/heads/topic", "")
    git.git(work, "commit", "-q", "--amend", "-m", "two, rewritten")
    _accepted(git.push(work, "origin", "+HEAD:main"))
    arrives(sites, MAIN, git.rev_parse(work))

    mixed.end()  # the hooks decide by themselves, and the commands of now read what the parts of before have written
    three = git.commit(work, "three")
    _accepted(git.push(work, "origin", "HEAD:main"))
    arrives([other], MAIN, three)
    mixed.run(SOURCE, "reconcile", "--once")
    assert mixed.at() == three
    for tree in (SOURCE, previous):
        assert three[:12] in mixed.run(tree, "log", "main").out
        assert "site mixed: in step" in mixed.run(tree, "status", check=False).out


def test_a_site_that_knows_no_copies_refuses_pushes_where_the_group_promises_them(
    make: Make, previous: Path, tmp_path: Path
) -> None:
    before, now = make("before", previous, previous), make("now", SOURCE, SOURCE)
    work = git.clone(before.repository, tmp_path / "work")
    git.commit(work, "one")
    _accepted(git.push(work, "origin", "HEAD:main"))
    for site in (before, now):
        site.run(site.program, "reconcile", "--once")
    now.run(SOURCE, "group", "set", "copies", "2")
    two = git.commit(work, "two")
    assert "Upgrade piehole on this server" in refused(git.push(work, "origin", "HEAD:main"), "wrong-group")
    now.run(SOURCE, "group", "set", "copies", "1", "--yes")
    _accepted(git.push(work, "origin", "HEAD:main"))
    assert before.at() == two


def test_an_upgrade_in_place_takes_over_where_the_version_before_was(
    make: Make, previous: Path, tmp_path: Path
) -> None:
    site = make("a", previous, previous)
    site.start()
    work = git.clone(site.repository, tmp_path / "work")
    git.commit(work, "one")
    _accepted(git.push(work, "origin", "HEAD:main"))
    site.end()
    site.program = site.hooks = SOURCE
    site.install()
    site.start()
    two = git.commit(work, "two")
    _accepted(git.push(work, "origin", "HEAD:main"))
    assert site.at() == two
    assert "no fault" in site.run(SOURCE, "check").out
