"""Hooks of this version beside a controller of the one before, the reverse, and sites of both in one group."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fault.skew.previous import COMMIT, MAIN, Site, unpack
from tests.fault.tree import SOURCE
from tests.support import git
from tests.support.etcd import EtcdProcess
from tests.support.servers import NOT_POSSIBLE
from tests.support.wait import until

Make = Callable[[str, Path, Path], Site]


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("previous")
    if not unpack(tree):
        pytest.skip(f"{NOT_POSSIBLE}this checkout has no history, and so not the version before ({COMMIT[:12]})")
    return tree


@pytest.fixture
def make(tmp_path: Path, etcd: EtcdProcess, prefix: str) -> Iterator[Make]:
    with ExitStack() as ends:

        def made(name: str, hooks: Path, controller: Path) -> Site:
            site = Site(tmp_path, name, hooks, controller)
            ends.callback(site.end)
            site.install(etcd, prefix)
            return site

        yield made


def _accepted(pushed: subprocess.CompletedProcess[str]) -> None:
    assert pushed.returncode == 0, pushed.stderr
    assert "piehole: accepted: " in pushed.stderr


def _everywhere(sites: list[Site], ref: str, oid: str) -> None:
    for site in sites:
        until(lambda site=site: site.at(ref) == oid, 20, f"{ref} is at {oid[:12]} at {site.name}")  # type: ignore[misc]


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
    _everywhere(sites, MAIN, one)
    two = git.commit(work, "two")
    _accepted(git.push(work, str(other.repository), "HEAD:main"))
    _everywhere(sites, MAIN, two)
    _accepted(git.push(work, "origin", ":refs/heads/topic"))
    _everywhere(sites, "refs/heads/topic", "")
    git.git(work, "commit", "-q", "--amend", "-m", "two, rewritten")
    _accepted(git.push(work, "origin", "+HEAD:main"))
    _everywhere(sites, MAIN, git.rev_parse(work))

    mixed.end()  # the hooks decide by themselves, and the commands of now read what the parts of before have written
    three = git.commit(work, "three")
    _accepted(git.push(work, "origin", "HEAD:main"))
    _everywhere([other], MAIN, three)
    mixed.run(SOURCE, "reconcile", "--once", str(mixed.repository))
    assert mixed.at() == three
    for tree in (SOURCE, previous):
        assert three[:12] in mixed.run(tree, "log", "main", "-C", str(mixed.repository)).stdout
        assert "site mixed: in step" in mixed.run(tree, "status", "-C", str(mixed.repository), check=False).stdout


def test_an_upgrade_in_place_takes_over_where_the_version_before_was(
    make: Make, previous: Path, tmp_path: Path, etcd: EtcdProcess, prefix: str
) -> None:
    site = make("a", previous, previous)
    site.start()
    work = git.clone(site.repository, tmp_path / "work")
    git.commit(work, "one")
    _accepted(git.push(work, "origin", "HEAD:main"))
    site.end()
    site.hooks = site.controller_tree = SOURCE
    site.install(etcd, prefix)
    site.start()
    two = git.commit(work, "two")
    _accepted(git.push(work, "origin", "HEAD:main"))
    assert site.at() == two
    assert "no fault" in site.run(SOURCE, "check", str(site.repository)).stdout
