"""A newer git moves all refs of a push together, and may reject some of them: by the stand-in where the git here is older.

With PIEHOLE_GIT naming such a git, the same tests run against it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.repository.fitness import git_version
from tests.conftest import OwnEtcd
from tests.support import batching_receive_pack
from tests.support.assertions import Pushed, accepted, refused
from tests.support.etcd import EtcdOptions
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group, MakeGroup
from tests.support.hook_socket import serving
from tests.support.pushes import chain

A, B, C = (f"refs/heads/{name}" for name in "abc")
RUN = 'exec "$piehole" "$@"'


def batched(world: Group, work: Path, site: Path, *refspecs: str) -> Pushed:
    """A push that git 2.50 or a later one receives, or the stand-in."""
    stand_in = [] if git_version() >= (2, 51) else [f"--receive-pack={batching_receive_pack.command(world.folder)}"]
    return push(work, site, *stand_in, *refspecs)


def _begun(world: Group, *names: str) -> tuple[Path, Path, str, str]:
    """A site with these branches, a clone, the commit that they are at, and a new one."""
    site, work, first = world.founded()
    if names:
        assert push(work, site, *(f"HEAD:{name}" for name in names)).returncode == 0
    return site, work, first, commit(work)


def test_all_refs_of_a_push_that_nothing_hinders_move_in_one_transaction(world: Group) -> None:
    site, work, first, tip = _begun(world, "a", "c")
    done = batched(world, work, site, "HEAD:a", "HEAD:b", ":c")
    assert done.returncode == 0, done.stderr
    assert world.refs() == {MAIN: first, A: tip, B: tip, C: ZERO_SHA1}
    assert refs(site) == {MAIN: first, A: tip, B: tip, f"refs/piehole/kept/{first}": first}
    assert len({change.revision for ref in (A, B) for change in world.changes(ref)[-1:]}) == 1


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_ref_that_was_moved_meanwhile_is_left_out_and_the_others_are_taken(world: Group, packed: bool) -> None:
    """A chained `update` moves the ref b: git rejects b alone, so the group is not asked about it."""
    site, work, first, tip = _begun(world, "a", "b")
    pack = "git pack-refs --all --no-prune && git pack-refs --all &&" if packed else ""
    chain(site, "update", f'[ "$1" != {B} ] || {{ git update-ref {B} "$3" "$2" && {pack} true; }} || exit 1\n{RUN}')
    done = batched(world, work, site, "HEAD:a", "HEAD:b", "HEAD:c")
    said = refused(done, "stale")
    assert f"{B} does not move" in said
    assert f"it is at {tip} here" in said
    assert "incorrect old value" in done.stderr
    assert world.refs() == {MAIN: first, A: tip, B: first, C: tip}
    assert refs(site) == {MAIN: first, A: tip, B: tip, C: tip}
    assert world.reconcile(site).status == 0
    assert refs(site)[B] == first


def test_a_deletion_of_a_ref_that_went_meanwhile_is_left_out(world: Group) -> None:
    site, work, first, _ = _begun(world, "a", "b")
    chain(site, "update", f'[ "$1" != {B} ] || git update-ref -d {B} || exit 1\n{RUN}')
    done = batched(world, work, site, ":a", ":b")
    assert f"{B} does not move" in refused(done, "stale")
    assert world.refs() == {MAIN: first, A: ZERO_SHA1, B: first}
    assert world.reconcile(site).status == 0
    assert refs(site) == {MAIN: first, B: first, f"refs/piehole/kept/{first}": first}


def test_a_ref_that_was_made_meanwhile_is_left_out(world: Group) -> None:
    site, work, first, tip = _begun(world)
    chain(
        site, "update", f'[ "$1" != {B} ] || {{ git update-ref {B} {first} && git pack-refs --all; }} || exit 1\n{RUN}'
    )
    done = batched(world, work, site, "HEAD:a", "HEAD:b")
    assert f"{B} does not move" in refused(done, "stale")
    assert world.refs() == {MAIN: first, A: tip}
    assert refs(site) == {MAIN: first, A: tip, B: first}


def test_a_ref_whose_lock_another_process_holds_is_left_out(world: Group) -> None:
    """That process lets it go only after git has given up; the others move."""
    site, work, first, tip = _begun(world, "a", "b")
    held = site / f"{B}.lock"
    let_go = f'[ "$1" != prepared ] || (sleep 0.2; rm {held}) >/dev/null 2>&1 &\n{RUN}'
    chain(site, "reference-transaction", let_go)
    held.write_text(f"{ZERO_SHA1}\n")
    done = batched(world, work, site, "HEAD:a", "HEAD:b", "HEAD:c")
    assert f"{B} does not move" in refused(done, "stale")
    assert world.refs() == {MAIN: first, A: tip, B: first, C: tip}
    assert refs(site) == {MAIN: first, A: tip, B: first, C: tip}


def test_where_all_refs_are_rejected_the_push_is_refused_in_words_and_not_cut_off(world: Group) -> None:
    site, work, first, _ = _begun(world, "a")
    chain(site, "update", f'git update-ref {A} "$3" "$2" || exit 1\n{RUN}')
    done = batched(world, work, site, "HEAD:a")
    assert f"{A} does not move" in refused(done, "stale")
    assert "hung up" not in done.stderr
    assert world.refs() == {MAIN: first, A: first}


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
@pytest.mark.parametrize("served", [False, True], ids=["alone", "controller"])
def test_a_ref_below_one_that_only_this_site_has_is_refused_by_name(world: Group, packed: bool, served: bool) -> None:
    """A directory/file conflict with an unadopted local ref ends neither the push nor the other refs."""
    site, work, first, tip = _begun(world)
    git(site, "update-ref", A, first)
    if packed:
        git(site, "pack-refs", "--all")
    for refspecs in (["HEAD:a/b"], ["HEAD:a/b", "HEAD:c"]):
        if served:
            with serving(site):
                done = batched(world, work, site, *refspecs)
        else:
            done = batched(world, work, site, *refspecs)
        said = refused(done, "conflict")
        assert A in said
        assert "hung up" not in done.stderr
    assert world.refs() == {MAIN: first, C: tip}
    assert refs(site) == {MAIN: first, A: first, C: tip}


def test_a_ref_above_one_that_only_this_site_has_is_refused_by_name(world: Group) -> None:
    site, work, first, tip = _begun(world)
    git(site, "update-ref", f"{A}/b/c", first)
    done = batched(world, work, site, "HEAD:a", "HEAD:a/b", "HEAD:c")
    assert refused(done, "conflict").count(f"{A}/b/c") >= 2
    assert world.refs() == {MAIN: first, C: tip}


@pytest.mark.parametrize("served", [False, True], ids=["alone", "controller"])
def test_two_new_refs_that_exclude_each_other_are_never_both_the_groups(world: Group, served: bool) -> None:
    site, work, first, tip = _begun(world)
    names = ("HEAD:a", "HEAD:a/b", "HEAD:c/d", "HEAD:c")
    if served:
        with serving(site):
            done = batched(world, work, site, *names)
    else:
        done = batched(world, work, site, *names)
    said = refused(done, "conflict")
    assert "of this push; choose another name" in said
    assert world.refs() == refs(site)
    assert len(world.refs()) == 3
    assert {tip, first} == set(world.refs().values())


def test_a_push_that_git_rejects_before_it_takes_a_lock_is_not_cut_off(world: Group) -> None:
    """A tag cannot be a branch: newer git says so after `update`, and calls `prepared` without any ref."""
    site, work, first, _ = _begun(world)
    git(work, "tag", "-a", "-m", "a tag", "v1")
    done = push(work, site, "v1:refs/heads/tagged")
    assert done.returncode != 0
    if git_version() >= (2, 51):
        assert "hung up" not in done.stderr
        assert "piehole: no-access" not in done.stderr
    assert refs(site) == {MAIN: first}
    assert world.refs() in ({MAIN: first}, {MAIN: first, "refs/heads/tagged": ZERO_SHA1})


@pytest.mark.slow
@pytest.mark.parametrize("served", [False, True], ids=["alone", "controller"])
def test_more_tags_than_etcd_takes_at_once_are_refused_one_by_one_before_anything_moves(
    make_group: MakeGroup, own_etcd: OwnEtcd, served: bool
) -> None:
    """With etcd's own default limit. The next push moves the next ones."""
    group = make_group(1, etcd=own_etcd(options=EtcdOptions(max_txn_ops=128)), started=served)
    site = group[0]
    git(site.repository, "config", "piehole.hookTimeout", "30")
    work = site.clone()
    commit(work)
    accepted(push(work, site.repository, "HEAD:main"))
    tags = [f"HEAD:refs/tags/v{number:03}" for number in range(300)]
    done = batched(group, work, site.repository, *tags)
    assert "hung up" not in done.stderr
    refused(done, "too-many")
    moved = site.refs()
    assert 100 < len(moved) < 128
    assert group.refs() == moved
    for _ in range(3):
        done = batched(group, work, site.repository, *tags)
    assert done.returncode == 0, done.stderr
    assert len(site.refs()) == 301
    assert group.refs() == site.refs()
