"""A push from an old clone deletes every branch and moves the others back: undone with `piehole kept restore`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "deleted-refs.md"


def branches(group: Group, count: int) -> tuple[Path, dict[str, str]]:
    """An old mirror clone, and what the others have pushed since: branches of their own, and a newer main."""
    group.commit("one")
    group.push("a", "HEAD:main", "HEAD:old")
    stale = git.clone(group["a"].repository, group.fresh("stale"), "--mirror")
    for number in range(count):
        group.commit(f"work {number}")
        git.git(group.work, "branch", f"topic/{number}")
    group.push("a", "--all")
    if not group["a"].running:
        assert group.reconcile(*(site.name for site in group)).status == 0
    return stale, group["a"].refs()


@pytest.mark.parametrize("count", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_mirror_push_from_an_old_clone_is_undone_at_every_site_with_one_command(
    make_group: MakeGroup, count: int
) -> None:
    group = make_group(3)
    stale, before = branches(group, count)
    group.in_step()
    accepted(git.push(stale, group["b"].repository, "--mirror", env={"REMOTE_USER": "anna"}))
    until(lambda: group["c"].refs().keys() == {MAIN, "refs/heads/old"}, 60, "the deletions have arrived")
    answer = group["c"].piehole("kept", "restore", "--since", "1h", "--pusher", "anna", "--yes")
    for site in group:
        until(lambda site=site: site.refs() == before, 60, f"all is back at {site}")  # type: ignore[misc]
    written = {
        change.revision
        for name in before
        for change in group.changes(name)[-1:]
        if change.value != before["refs/heads/old"]
    }
    assert len(written) == 1, answer


def test_what_was_pushed_again_since_is_left_as_it_is(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    stale, before = branches(group, 2)
    accepted(git.push(stale, group["b"].repository, "--mirror", env={"REMOTE_USER": "anna"}))
    assert group.reconcile("a", "b").status == 0
    new = git.git(group.work, "commit-tree", "HEAD^{tree}", "-m", "anew").stdout.strip()
    group.push("a", f"{new}:refs/heads/topic/0")
    answer = group["a"].piehole("kept", "restore", "--since", "1h", "--pusher", "anna", "--yes", check=False)
    assert answer.status == 1
    assert "left alone" in answer.line("refs/heads/topic/0")
    assert group.reconcile("a", "b").status == 0
    assert group["a"].refs() == group["b"].refs() == before | {"refs/heads/topic/0": new}


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
