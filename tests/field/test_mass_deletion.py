"""A push from an old clone deletes every branch and moves the others back: undone with what docs/operations.md offers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import write_hook

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def documented(number: int) -> str:
    """A script of the section about it."""
    section = PAGE.read_text().partition("\n## Undoing a mass deletion\n")[2].partition("\n## ")[0]
    blocks: list[str] = re.findall(r"^```\n(.*?)^```", section, re.S | re.M)
    return blocks[number]


def undo(group: Group, site: str, first: int, who: str, *, check: bool = True) -> str:
    """Run the documented recipe at a site; what it said."""
    repository = group[site].repository
    script = documented(0).replace("/tmp/", f"{group.folder}/").replace("/srv/git/tools.git", str(repository))
    script = script.replace("first=4711", f"first={first}").replace("who=anna", f"who={who}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd="/",
        env={**group.environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout + done.stderr


def branches(group: Group, count: int) -> tuple[Path, dict[str, str]]:
    """An old mirror clone, and what the others have pushed since: branches of their own, and a newer main."""
    group.commit("one")
    group.push("a", "HEAD:main", "HEAD:old")
    stale = git.clone(group["a"].repository, group.fresh("stale"), "--mirror")
    for number in range(count):
        group.commit(f"work {number}")
        git.git(group.work, "branch", f"topic/{number}")
    group.push("a", "--all")
    assert group.reconcile(*(site.name for site in group)).status == 0
    return stale, group["a"].refs()


@pytest.mark.parametrize("count", [5, pytest.param(300, marks=pytest.mark.slow)])
def test_a_mirror_push_from_an_old_clone_is_undone_with_the_documented_recipe(
    make_group: MakeGroup, count: int
) -> None:
    group = make_group(2, started=False)
    stale, before = branches(group, count)
    first = group.etcd.revision() + 1
    accepted(git.push(stale, group["b"].repository, "--mirror", env={"REMOTE_USER": "anna"}))
    assert group.reconcile("a", "b").status == 0
    assert group["a"].refs().keys() == {MAIN, "refs/heads/old"}
    began = time.monotonic()
    undo(group, "a", first, "anna")
    assert time.monotonic() - began < 60
    assert group.reconcile("a", "b").status == 0
    assert group["a"].refs() == group["b"].refs() == before


def test_what_was_pushed_again_since_is_left_as_it_is(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    stale, before = branches(group, 2)
    first = group.etcd.revision() + 1
    accepted(git.push(stale, group["b"].repository, "--mirror", env={"REMOTE_USER": "anna"}))
    assert group.reconcile("a", "b").status == 0
    new = git.git(group.work, "commit-tree", "HEAD^{tree}", "-m", "anew").stdout.strip()
    group.push("a", f"{new}:refs/heads/topic/0")
    said = undo(group, "a", first, "anna", check=False)
    assert "stale info" in said
    assert group["a"].refs() == before | {"refs/heads/topic/0": new}


def test_the_documented_hook_refuses_more_deletions_than_it_allows(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site = group["a"].repository
    stale, before = branches(group, 2)
    own = site / "hooks" / "pre-receive"
    own.rename(own.with_name("pre-receive.piehole"))
    write_hook(site, "pre-receive", documented(1).replace("-le 20", "-le 1"))
    with group.unchanged(site):
        refused = git.push(stale, site, "--mirror")
        assert refused.returncode != 0
        assert "this push deletes 2 refs" in refused.stderr
    accepted(git.push(group.work, site, ":topic/0"))
    assert group["a"].refs().keys() == before.keys() - {"refs/heads/topic/0"}


def test_a_bundle_of_all_refs_has_the_kept_tips_and_the_documented_one_has_not(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site, work, first = group["a"].repository, group.work, group.commit("one")
    group.push("a")
    tip = group.commit("secret")
    group.push("a", "HEAD:topic")
    group.push("a", ":topic")
    for options, kept in ((["--all"], True), (["--exclude=refs/piehole/*", "--all"], False)):
        git.git(site, "bundle", "create", str(work / "b"), *options)
        assert (tip in git.git(site, "bundle", "list-heads", str(work / "b")).stdout) is kept
        assert first in git.git(site, "bundle", "list-heads", str(work / "b")).stdout
    assert "--exclude='refs/piehole/*' --all" in PAGE.read_text()
    mirror = git.clone(site, group.fresh("mirror"), "--mirror")
    assert tip not in git.refs(mirror).values()
