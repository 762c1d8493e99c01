"""What people push: many refs, deletions, tags, notes, forced updates. Site and group always say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdOptions
from tests.support.git import MAIN, ZERO_SHA1, clone, commit, git, push, refs, rev_parse
from tests.support.groups import Group
from tests.support.hook_socket import serving


def agree(world: Group, site: Path) -> None:
    live = {ref: value for ref, value in world.refs().items() if value.strip("0")}
    assert live == {ref: oid for ref, oid in refs(site).items() if not ref.startswith("refs/piehole/")}


def test_half_atomic(world: Group) -> None:
    """`git push --atomic` with one stale ref changes nothing anywhere."""
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:other"))
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    git(work, "reset", "-q", "--hard", first)
    commit(work, "ours")
    with world.unchanged():
        refused(push(work, b, "--atomic", "HEAD:main", "HEAD:other", "HEAD:brand-new"), "stale")
    assert refs(b) == {MAIN: refs(b)[MAIN], "refs/heads/other": first}
    assert refs(b)[MAIN] in (first, theirs)  # the site may have caught up, as the refusal has it


def test_an_atomic_push_is_one_revision_of_the_group(world: Group) -> None:
    site, work, _ = world.founded()
    accepted(push(work, site, "HEAD:gone"))
    commit(work)
    accepted(push(work, site, "--atomic", "HEAD:main", "HEAD:new", ":gone"))
    revisions = {world.changes(ref)[-1].revision for ref in (MAIN, "refs/heads/new", "refs/heads/gone")}
    assert len(revisions) == 1
    assert revisions.pop() in world.pushes()
    agree(world, site)


def test_the_refs_of_a_push_that_is_not_atomic_stand_for_themselves(world: Group) -> None:
    site, work, first = world.founded()
    world.etcd.put(world.key("refs/heads/locked"), "frozen")
    refused(push(work, site, "HEAD:locked", "HEAD:free"), "locked")
    assert world.value("refs/heads/free") == first == refs(site)["refs/heads/free"]
    assert world.value("refs/heads/locked") == "frozen"


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_a_deletion_becomes_a_tombstone(world: Group, packed: bool) -> None:
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:gone", "HEAD:stays"))
    if packed:
        git(site, "pack-refs", "--all", "--prune")
    accepted(push(work, site, ":gone"))
    assert world.history("refs/heads/gone") == [first, ZERO_SHA1]
    assert world.value("refs/heads/stays") == first
    agree(world, site)


def test_a_deletion_of_what_does_not_exist_is_accepted_and_changes_nothing(world: Group) -> None:
    site, work, _ = world.founded()
    before = world.refs()
    accepted(push(work, site, ":refs/heads/never-was"))
    assert world.refs() == before


@pytest.mark.parametrize("deletion", [False, True], ids=["forced", "deleted"])
def test_a_tip_that_a_push_leaves_behind_is_kept_and_hidden(world: Group, deletion: bool, tmp_path: Path) -> None:
    site, work, first = world.founded()
    tip = commit(work, "left behind")
    accepted(push(work, site, "HEAD:side"))
    git(work, "reset", "-q", "--hard", first)
    other = commit(work, "instead")
    accepted(push(work, site, ":side") if deletion else push(work, site, "--force", "HEAD:side"))
    assert world.value("refs/heads/side") == (ZERO_SHA1 if deletion else other)
    assert refs(site)[f"refs/piehole/kept/{tip}"] == tip
    assert "piehole" not in git(work, "ls-remote", str(site)).stdout
    assert "piehole" not in "".join(refs(clone(site, tmp_path / "mirror", "--mirror")))
    assert git(site, "log", "-g", "--format=%gs", f"refs/piehole/kept/{tip}").stdout.strip() == "piehole: kept"


def test_a_fast_forward_keeps_nothing(world: Group) -> None:
    site, work, _ = world.founded()
    for _ in range(2):
        commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert not [ref for ref in refs(site) if ref.startswith("refs/piehole/")]


def test_the_server_s_own_configuration_decides_about_forced_pushes_and_deletions(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "config", "receive.denyNonFastForwards", "true")
    git(site, "config", "receive.denyDeletes", "true")
    accepted(push(work, site, "HEAD:side"))
    git(work, "commit", "-q", "--amend", "-m", "otherwise")
    with world.unchanged():
        assert push(work, site, "--force", "HEAD:main").returncode != 0
        assert push(work, site, ":side").returncode != 0
    assert refs(site)[MAIN] == first


def test_tags_notes_and_names_of_any_bytes_are_replicated(world: Group) -> None:
    site, work, _ = world.founded()
    git(work, "tag", "-a", "v1", "-m", "one")
    git(work, "notes", "add", "-m", "a note")
    names = ["HEAD:refs/heads/änderung/größe", "HEAD:refs/heads/\u00a0strange", "HEAD:refs/heads/a'b\"c$d;e|f&g(h)"]
    accepted(push(work, site, "refs/tags/v1", "refs/notes/commits", "HEAD:refs/changes/01/1/1", *names))
    assert world.value("refs/tags/v1") == rev_parse(work, "refs/tags/v1") != rev_parse(work, "v1^{commit}")
    assert len(world.refs()) == 1 + 3 + len(names)
    agree(world, site)


def test_a_first_push_to_an_empty_group_creates_everything(world: Group) -> None:
    site = world["a"].build().repository
    work = world.clone(site)
    first = commit(work, "first")
    git(work, "branch", "dev")
    git(work, "tag", "v1")
    accepted(push(work, site, "--mirror"))
    assert set(world.refs()) == {MAIN, "refs/heads/dev", "refs/tags/v1"}
    assert world.value() == first
    assert world.etcd.get(world.key("HEAD")) == f"ref: {MAIN}"
    agree(world, site)


@pytest.mark.parametrize("atomic", [False, True])
def test_a_hundred_refs_in_one_push_fit_the_default_etcd(
    own_etcd: OwnEtcd, prefix: str, tmp_path: Path, atomic: bool
) -> None:
    world = Group(tmp_path, [own_etcd(options=EtcdOptions(max_txn_ops=128)).endpoint], prefix)
    site, work, first = world.founded()
    wanted = [f"HEAD:refs/heads/b{n}" for n in range(100)]
    with serving(site):
        accepted(push(work, site, *(["--atomic"] if atomic else []), *wanted))
        assert len(world.refs()) == 101
        agree(world, site)
        accepted(push(work, site, "--atomic", *(f":refs/heads/b{n}" for n in range(100))))
    assert [ref for ref, value in world.refs().items() if value == first] == [MAIN]
    agree(world, site)


def test_excluded_refs_pass_and_never_reach_the_group(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "config", "piehole.exclude", "refs/ci/*")
    git(site, "config", "--add", "piehole.exclude", "refs/heads/tmp/*")
    second = commit(work)
    accepted(push(work, site, "--atomic", "HEAD:refs/ci/42", "HEAD:refs/heads/tmp/x", "HEAD:main"))
    assert world.history() == [first, second]
    assert set(world.refs()) == {MAIN}
    assert refs(site)["refs/ci/42"] == refs(site)["refs/heads/tmp/x"] == second
    accepted(push(work, site, "--force", f"{first}:refs/ci/42", ":refs/heads/tmp/x"))
    assert refs(site)["refs/ci/42"] == first
    assert set(world.refs()) == {MAIN}


def test_pushing_to_the_branch_that_head_names_leaves_head_alone(world: Group) -> None:
    site, work, _ = world.founded()
    git(site, "symbolic-ref", "HEAD", "refs/heads/dev")
    tip = commit(work)
    accepted(push(work, site, "HEAD:dev"))
    assert rev_parse(site, "HEAD") == tip == world.value("refs/heads/dev")
    assert world.etcd.get(world.key("HEAD")) == f"ref: {MAIN}"


def test_a_sha256_repository_is_served_alike(world: Group) -> None:
    world.object_format = "sha256"
    site = world["a"].build().repository
    first, work = world.commit("first"), world.work
    accepted(push(work, site, "HEAD:main", "HEAD:side"))
    accepted(push(work, site, ":side"))
    assert len(first) == 64
    assert world.history() == [first]
    assert world.history("refs/heads/side") == [first, "0" * 64]
