"""What the group names, every site can get: a push whose history is not complete here is refused, whatever git takes for complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.repository.fitness import gaps, setting_that_admits_gaps
from piehole.repository.git_settings import GitConfig
from piehole.transfer.connectivity import lacks_nothing
from tests.support.assertions import accepted, refused
from tests.support.command_line import piehole
from tests.support.git import MAIN, clone, commit, git, make_bare, push, rev_parse
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until


@pytest.fixture
def unrelated(tmp_path: Path) -> Path:
    """A shallow clone of a repository that has nothing to do with the group."""
    origin = make_bare(tmp_path / "origin.git")
    work = clone(origin, tmp_path / "origin-work")
    for number in range(3):
        commit(work, f"commit {number}")
    accepted(push(work, origin, "HEAD:main"))
    return clone(f"file://{origin}", tmp_path / "shallow", "--depth", "1")


def begun(make_group: MakeGroup, *, started: bool = True) -> tuple[Group, Path]:
    group = make_group(2, started=started)
    return group, group.begun()[0]


def opened(group: Group) -> Path:
    """Site a, at which git accepts shallow histories; its controller, where there is one, has read the setting."""
    site = group["a"]
    git(site.repository, "config", "receive.shallowUpdate", "true")
    if site.running:
        until(lambda: len(site.events("repository.served")) > 1, PATIENCE, "the controller has read the setting")
    return site.repository


@pytest.mark.parametrize("started", [True, False], ids=["controller", "no controller"])
def test_a_push_from_an_unrelated_shallow_clone_is_refused(
    make_group: MakeGroup, unrelated: Path, started: bool
) -> None:
    group, _ = begun(make_group, started=started)
    a = opened(group)
    with group.unchanged(a):
        assert "git fetch --unshallow" in refused(push(unrelated, a, "HEAD:refs/heads/cut"), "corrupt")
    assert not (a / "shallow").exists()
    # What is complete goes on being accepted there, from a shallow clone of this very repository, too.
    shallow = clone(f"file://{a}", group.fresh("shallow"), "--depth", "1")
    commit(shallow, "onto the border")
    accepted(push(shallow, a, "HEAD:main", "HEAD:other"))
    assert "receive.shallowUpdate" in piehole("check", a).line("warning: receive.shallow")
    if started:
        group.in_step()


def test_a_setting_that_the_controller_has_not_read_yet_does_not_open_the_gate(
    make_group: MakeGroup, unrelated: Path
) -> None:
    """The file ``shallow``, which git writes before it moves the ref, tells."""
    group, _ = begun(make_group)
    a = group["a"].repository
    one_push = "--receive-pack=git -c receive.shallowUpdate=true receive-pack"
    with group.unchanged(a):
        assert "ref updates aborted by hook" in push(unrelated, a, one_push, "HEAD:refs/heads/cut").stderr
    assert (a / "shallow").exists()
    assert "shallow" in piehole("check", a).line("fault: the repository is shallow")


def gap_in(repository: Path, how: str, origin: Path, parent: str) -> None:
    """Have git take a history without ``parent`` for complete in this repository."""
    git(repository, "config", "receive.fsckObjects", "false")  # that of `install` would see some of it
    if how == "grafts":
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "grafts").write_text(f"{rev_parse(origin, MAIN)}\n")
    else:
        git(repository, "update-ref", f"refs/replace/{parent}", rev_parse(repository, MAIN))
        if how == "packed replace":
            git(repository, "pack-refs", "--all", "--prune")


@pytest.mark.parametrize("how", ["grafts", "replace", "packed replace"])
def test_a_history_with_a_gap_that_git_does_not_see_is_refused(
    make_group: MakeGroup, unrelated: Path, tmp_path: Path, how: str
) -> None:
    group, work = begun(make_group, started=False)
    a = group["a"].repository
    origin = tmp_path / "origin.git"
    tip, parent = rev_parse(origin, MAIN), rev_parse(origin, f"{MAIN}~1")
    # A client that sends the tip without its parent, as it does where it believes that the server has the rest.
    shallow = git(unrelated, "rev-list", "--objects", "-1", tip).stdout.split("\n")
    listed = "".join(f"{line.split(' ')[0]}\n" for line in shallow if line)
    packs = work / ".git" / "objects" / "pack"
    git(unrelated, "pack-objects", "-q", str(packs / "pack"), stdin=listed)
    (work / ".git" / "info").mkdir(exist_ok=True)
    (work / ".git" / "info" / "grafts").write_text(f"{tip}\n")
    plain = clone(a, tmp_path / "plain.git", "--bare")
    for repository in (plain, a):
        gap_in(repository, how, origin, parent)
    accepted(push(work, plain, f"{tip}:refs/heads/gap"))
    with group.unchanged(a):
        refused(push(work, a, f"{tip}:refs/heads/gap"), "corrupt")
    git(work, "checkout", "-q", "-B", "fine", rev_parse(a, MAIN))
    commit(work, "a whole one")
    accepted(push(work, a, "HEAD:main"))


def test_what_a_partial_clone_was_promised_does_not_count(tmp_path: Path) -> None:
    """(git 2.39's own receive-pack hangs there, in a lazy fetch beside its connectivity check.)"""
    origin = make_bare(tmp_path / "origin.git")
    work = clone(origin, tmp_path / "work")
    tip = commit(work)
    accepted(push(work, origin, "HEAD:main"))
    git(origin, "config", "uploadpack.allowFilter", "true")
    partial = clone(f"file://{origin}", tmp_path / "partial.git", "--bare", "--filter=blob:none")
    setting = setting_that_admits_gaps(GitConfig(partial))
    assert gaps(partial, setting)
    assert not lacks_nothing(partial, [tip], beyond_refs=False, seconds=20)
    git(partial, "fetch", "-q", "--refetch", "--no-filter", "origin")
    assert lacks_nothing(partial, [tip], beyond_refs=False, seconds=20)
