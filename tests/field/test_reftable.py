"""Repositories whose refs are in a reftable (git 2.45 and later): one lock for all refs, and no file for each."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from piehole.repository.fitness import git_version
from tests.support.assertions import accepted, refused
from tests.support.copies import CopiesAsked, held, prune, put_objects
from tests.support.git import MAIN, commit, git, has_object, push, refs
from tests.support.groups import Group, MakeGroup
from tests.support.hook_socket import serving
from tests.support.process import descendants
from tests.support.pushes import chain, finish, receive_pack, records, start_push
from tests.support.wait import PATIENCE, until

pytestmark = pytest.mark.skipif(
    git_version() < (2, 45), reason="not possible here: reftable needs git 2.45 or newer (PIEHOLE_GIT)"
)

A, B = "refs/heads/a", "refs/heads/b"
RUN = 'exec "$piehole" "$@"'


@pytest.fixture(autouse=True)
def reftable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every repository that this test makes has one."""
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")


def _is_reftable(repository: Path) -> bool:
    return (repository / "reftable" / "tables.list").exists()


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("served", [False, True], ids=["alone", "controller"])
def test_forced_pushes_and_deletions_are_agreed_and_keep_the_old_tip(
    make_group: MakeGroup, object_format: str, served: bool
) -> None:
    group = make_group(2, object_format=object_format, started=served)
    a, b = group
    assert _is_reftable(a.repository)
    first = group.commit("first")
    group.push("a", "HEAD:main", "HEAD:a", "HEAD:b")
    second = group.commit("second")
    group.push("a", "HEAD:main", "HEAD:a")
    other = group.commit("other", onto=first)
    group.push("a", "+HEAD:main", "+HEAD:a", ":b")
    zero = "0" * len(first)
    assert group.refs() == {MAIN: other, A: other, B: zero}
    assert a.refs() == {MAIN: other, A: other}
    assert a.kept() == {first, second}
    if served:
        group.in_step()
    else:
        assert group.reconcile("b").status == 0
    assert b.refs() == a.refs()
    group.push("a", "--atomic", "+HEAD~:main", ":a")
    assert group.refs() == {MAIN: first, A: zero, B: zero}
    assert a.kept() == {first, second, other}
    a.fsck()


def test_a_ref_that_was_moved_meanwhile_is_left_to_git_and_the_others_are_taken(world: Group) -> None:
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:a", "HEAD:b"))
    tip = commit(work)
    chain(site, "update", f'[ "$1" != {B} ] || git update-ref {B} "$3" "$2" || exit 1\n{RUN}')
    done = push(work, site, "HEAD:a", "HEAD:b", "HEAD:c")
    assert done.returncode != 0
    assert world.refs() == {MAIN: first, A: tip, B: first, "refs/heads/c": tip}
    assert refs(site)[A] == refs(site)["refs/heads/c"] == tip
    assert world.reconcile(site).status == 0
    assert refs(site)[B] == first


def test_a_ref_below_one_that_only_this_site_has_is_refused_by_name(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "update-ref", A, first)
    tip = commit(work)
    with serving(site):
        assert A in refused(push(work, site, "HEAD:a/b", "HEAD:c"), "conflict")
    assert world.refs() == {MAIN: first, "refs/heads/c": tip}


def test_where_all_refs_are_rejected_the_push_is_not_cut_off(world: Group) -> None:
    site, work, first = world.founded()
    git(work, "tag", "-a", "-m", "a tag", "v1")
    done = push(work, site, "v1:refs/heads/tagged")
    assert done.returncode != 0
    assert "piehole: no-access" not in done.stderr
    assert refs(site) == {MAIN: first}


def test_the_lock_of_a_killed_push_goes_and_its_ref_follows_the_group(world: Group) -> None:
    site, work, first = world.founded()
    # The group has taken the push, and git has not moved the ref.
    hang = '"$piehole" "$@" || exit 1\n[ "$1" != prepared ] || { touch hangs; exec sleep 60; }'
    chain(site, "reference-transaction", hang)
    tip = commit(work)
    for record in records(site):
        record.unlink()
    pushing = start_push(work, site, "+HEAD:main")
    until((site / "hangs").exists, PATIENCE, "git holds its lock")
    git_pid = receive_pack(site)
    for pid in (git_pid, *descendants(git_pid)):
        os.kill(pid, signal.SIGKILL)
    assert finish(pushing).returncode != 0
    assert (site / "reftable" / "tables.list.lock").exists()
    assert refs(site)[MAIN] == first
    until(lambda: world.reconcile(site).status == 0, PATIENCE, "the site has followed the group")
    assert refs(site)[MAIN] == world.value() == tip


def test_a_controller_serves_it_and_check_and_status_find_nothing(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, first = group.begun("topic")
    tip = commit(work)
    accepted(push(work, group[0].repository, "HEAD:main", ":topic", "HEAD:refs/tags/v1"))
    group.in_step()
    group[1].move(MAIN, first)
    group.arrives(MAIN, tip)
    group[1].move("refs/heads/by-hand", first)
    shown = group[1].piehole("status")
    assert "unadopted: refs/heads/by-hand" in shown.out
    assert "stuck" not in shown.out
    assert ": no fault" in group[0].piehole("check").out


def test_copies_for_a_burst_of_pushes_to_another_site_are_held_and_released(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, base = group.begun()
    asked = []
    for number in range(8):
        commit(work, f"number {number}")
        asked.append(CopiesAsked(group, "a", put_objects(group[0], work), bases=[base]))
        base = asked[-1].oids[0]
    for one in asked:
        one.wait("b")
        assert one.refs(group[1]) == one.oids
    prune(group[1])
    asked[6].swap({MAIN: asked[6].oids[0]})
    for one in asked:
        one.end()
    group.arrives(MAIN, asked[6].oids[0], group.sites[1:])
    until(lambda: not held(group[1]), PATIENCE, "nothing is held any more")
    assert not group[1].kept()


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_dropped_commit_goes_with_its_kept_tip_and_its_reflog_entries(
    make_group: MakeGroup, object_format: str
) -> None:
    group = make_group(2, object_format=object_format, started=False)
    first = group.commit("first")
    group.push("a", "HEAD:main", "HEAD:a")
    secret = group.commit("secret")
    group.push("a", "HEAD:a")
    assert group.reconcile("b").status == 0
    group.push("a", f"+{first}:a")
    assert group.reconcile("b").status == 0
    for site in group:
        assert secret in site.kept()
    group["a"].piehole("kept", "drop", secret, "--yes", "--wait", "0", check=False)
    assert group.reconcile("b").status == 0
    group["a"].piehole("kept", "drop", secret, "--wait", "0")
    for site in group:
        assert not has_object(site.repository, secret)
        assert secret not in git(site.repository, "reflog", "--format=%H", A).stdout
        git(site.repository, "gc", "-q")
        site.fsck()
