"""A group is renamed: whatever was accepted under the old name is there under the new one. A group is removed."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.life.bed import SITES, Life, begun, live, named
from tests.life.page import commands
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdProcess, find_etcdctl
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, meanwhile, until

RENAMED = "A group is renamed"
REMOVED = "A group is removed"


def _key(life: Life, name: str, ref: str = MAIN) -> str | None:
    return life.group.etcd.get(f"{life.group.prefix}/ref/{name}/{ref}")


def _join_the_new_one(life: Life, name: str) -> None:
    life.admin.run(life[name], commands(RENAMED, 1))
    life[name].wait_event("repository.served", PATIENCE, group="workshop")


@pytest.mark.slow
def test_a_group_is_renamed_with_a_push_at_each_step(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    work = begun(life)
    accepted(git.push(work, life["oslo"].repository, "HEAD:gone"))
    accepted(git.push(work, life["oslo"].repository, ":gone"))
    oid = git.commit(work, "before")
    accepted(git.push(work, life["kyoto"].repository, "HEAD:main"))
    life.admin.run(life["lima"], commands(RENAMED, 0))
    git.commit(work, "while it is closed")
    accepted_before = oid
    for name in SITES:
        assert "piehole install --group workshop" in refused(
            git.push(work, life[name].repository, "HEAD:main"), "wrong-group"
        )
        assert git.git(work, "ls-remote", str(life[name].repository)).stdout, "reading goes on"
    life.group.name = "workshop"
    for number, name in enumerate(SITES):
        _join_the_new_one(life, name)
        life.group.arrives(MAIN, oid, [life[name]], timeout=PATIENCE)
        oid = git.commit(work, f"{name} has joined")
        accepted(git.push(work, life[name].repository, "HEAD:main"))
        life.group.arrives(MAIN, oid, [life[one] for one in SITES[: number + 1]], timeout=PATIENCE)
        for waiting in SITES[number + 1 :]:
            refused(git.push(work, life[waiting].repository, "HEAD:main"), "wrong-group")
    life.group.in_step()
    assert git.git(work, "merge-base", "--is-ancestor", accepted_before, oid, check=False).returncode == 0
    assert len(life["oslo"].piehole("sites").out.splitlines()) == 3


@pytest.mark.slow
def test_no_push_that_was_accepted_while_a_group_is_renamed_is_lost(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    work = begun(life)
    done: list[tuple[str, str]] = []
    with ExitStack() as ends:
        for number, name in enumerate(SITES):
            clone = git.clone(work, life.group.fresh("pusher"))

            def push(clone: Path = clone, name: str = name, number: int = number) -> None:
                oid = git.commit(clone, f"to {name}")
                if git.push(clone, life[name].repository, f"HEAD:busy{number}").returncode == 0:
                    done.append((f"refs/heads/busy{number}", oid))

            ends.enter_context(meanwhile(push))

        def by_all(since: int) -> bool:
            return {ref for ref, _ in done[since:]} == {f"refs/heads/busy{number}" for number in range(len(SITES))}

        until(lambda: by_all(0), PATIENCE, "all have pushed")
        life.admin.run(life["oslo"], commands(RENAMED, 0))
        for name in SITES:
            _join_the_new_one(life, name)
        since = len(done)
        until(lambda: by_all(since), PATIENCE, "all push again")
    life.group.name = "workshop"
    life.group.in_step(timeout=PATIENCE)
    newest = dict(done)
    for ref, oid in done:
        for site in life.group:
            merged = git.git(site.repository, "merge-base", "--is-ancestor", oid, newest[ref], check=False)
            assert merged.returncode == 0, f"{oid} of {ref} is not in {site.name}"
    assert {ref: life.group.value(ref) for ref in newest} == newest


def test_what_had_reached_one_site_only_is_part_of_the_renamed_group(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path)
    work = begun(life)
    accepted(git.push(work, life["oslo"].repository, "HEAD:deleted", "HEAD:locked"))
    life.group.in_step()
    life.group.published("refs/heads/locked")
    life.group.put("refs/heads/locked", "closed for today")
    for name in ("oslo", "lima"):
        life[name].stop()
    oid = git.commit(work, "at kyoto only")
    accepted(git.push(work, life["kyoto"].repository, "HEAD:main", ":deleted"))
    life.admin.run(life["oslo"], commands(RENAMED, 0))
    life.group.name = "workshop"
    for name in ("oslo", "lima"):
        life.admin.run(life[name], commands(RENAMED, 1))
        life[name].start()
    life.group.arrives("refs/heads/deleted", "", [life["oslo"], life["lima"]], timeout=PATIENCE)
    assert life["oslo"].at() != oid, "nobody has its objects yet"
    life.admin.run(life["kyoto"], commands(RENAMED, 1))
    life.group.arrives(MAIN, oid, timeout=PATIENCE)
    assert life.group.value("refs/heads/locked") == "closed for today"


@pytest.mark.slow
@pytest.mark.parametrize("how_far", ["closed", "half copied"])
def test_a_rename_that_was_interrupted_goes_on_and_nobody_joins_half_of_it(
    make_group: MakeGroup, tmp_path: Path, how_far: str
) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"))
    work = begun(life)
    accepted(git.push(work, life["oslo"].repository, "HEAD:one", "HEAD:two"))
    life.group.in_step()
    etcd, group = life.group.etcd, f"{life.group.prefix}/group/"
    closed = {**json.loads(etcd.get(f"{group}tools") or ""), "renamed": "workshop", "renamed_id": "the new id"}
    etcd.put(f"{group}tools", json.dumps(closed))
    if how_far == "half copied":
        begun_record = {"id": "the new id", "object_format": "sha1", "copying": "tools"}
        etcd.put(f"{group}workshop", json.dumps(begun_record))
        etcd.put(f"{life.group.prefix}/ref/workshop/refs/heads/one", life["oslo"].at("refs/heads/one"))
        done = life.admin.run(life["lima"], commands(RENAMED, 1), check=False)
        assert done.returncode == 1, done.stdout
        assert "Run `piehole rename workshop` again" in done.stderr
    life.admin.run(life["lima"], commands(RENAMED, 0))
    said = life.admin.run(life["oslo"], commands(RENAMED, 0)).stdout
    assert "open already" in said
    assert json.loads(etcd.get(f"{group}workshop") or "")["id"] == "the new id"
    life.group.name = "workshop"
    for name in ("oslo", "lima"):
        _join_the_new_one(life, name)
    assert set(life.group.in_step()) == {MAIN, "refs/heads/one", "refs/heads/two"}


def test_a_group_does_not_take_another_ones_name(make_group: MakeGroup, tmp_path: Path) -> None:
    life = live(make_group, tmp_path, ("oslo",))
    work = begun(life)
    other = Group(life.group.folder, life.group.endpoints, life.group.prefix, name="workshop")
    named(other, "oslo", "workshop.git").build()
    records = f"{life.group.prefix}/group/"
    before = life.group.etcd.get_prefix(records)
    done = life.admin.run(life["oslo"], commands(RENAMED, 0), check=False)
    assert done.returncode == 1, done.stdout
    assert "already" in done.stderr
    assert life.group.etcd.get_prefix(records) == before
    git.commit(work, "it is open as before")
    accepted(git.push(work, life["oslo"].repository, "HEAD:main"))


@pytest.mark.slow
def test_a_group_is_removed_and_one_whose_name_begins_in_the_same_way_is_not(
    make_group: MakeGroup, tmp_path: Path, etcd: EtcdProcess
) -> None:
    etcdctl = find_etcdctl(etcd.binary)
    if etcdctl is None:
        pytest.skip("no etcdctl on this machine")
    life = live(make_group, tmp_path)
    life.admin.use_etcdctl(etcdctl, etcd.endpoint)
    work = begun(life)
    accepted(git.push(work, life["oslo"].repository, "HEAD:side"))
    life.group.in_step()
    refs = life["oslo"].refs()
    neighbours = []
    for name in ("tools/x", "tools-extra"):
        group = Group(life.group.folder, life.group.endpoints, life.group.prefix, name=name)
        group.environment = life.group.environment
        sites = [named(group, site, f"{name.replace('/', '-')}.git").build() for site in ("oslo", "lima")]
        neighbours.append((group, sites))
        clone = git.clone(sites[0].repository, life.group.fresh("neighbour"))
        git.commit(clone, name)
        accepted(git.push(clone, sites[0].repository, "HEAD:main"))
        group.arrives(MAIN, git.rev_parse(clone), sites)
    prefix = life.group.prefix

    def theirs() -> dict[str, str]:
        found = life.group.etcd.get_prefix(prefix)
        return {key: value for key, value in found.items() if "tools/x" in key or "tools-extra" in key}

    def controllers() -> set[str]:
        return set(life.group.etcd.get_prefix(f"{prefix}/alive/"))

    for group, _ in neighbours:
        told_all = life.group.etcd.get_prefix(f"{prefix}/progress/{group.name}/")
        assert len(told_all) == 2
    for name in SITES:
        life.admin.run(life[name], commands(REMOVED, 0))
    life.admin.run(life["oslo"], commands(REMOVED, 1))
    assert set(life.group.etcd.get_prefix(prefix)) - controllers() == set(theirs())
    for site in life.group:
        assert site.refs() == refs
        assert not (site.repository / "piehole").exists()
        oid = git.commit(work, f"an ordinary push to {site.name}")
        accepted(git.push(work, site.repository, "HEAD:main"))
        assert site.at() == oid
    for group, sites in neighbours:
        clone = git.clone(sites[1].repository, life.group.fresh("neighbour"))
        oid = git.commit(clone, "still here")
        accepted(git.push(clone, sites[1].repository, "HEAD:main"))
        group.arrives(MAIN, oid, sites)
        for site in sites:
            assert "revision" in group.piehole("sites", "-C", str(site.repository)).out
