"""Copies before the answer: what a pusher's site asks, counts and says. Most of the other sites answer by hand here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import OwnEtcd
from tests.support.assertions import accepted, refused
from tests.support.copying import answer, holding, keys, patience, promise, requests, site_id
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group, MakeGroup
from tests.support.wait import meanwhile, until


def test_a_push_is_accepted_when_another_site_holds_it(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    with holding(world, "b") as seen:
        accepted(push(work, a, "HEAD:main"))
    (asked,) = seen
    assert asked["site"] == "a" and asked["oids"] == [world.value()]
    assert keys(world) == []  # the swap has removed them


def test_a_push_that_nobody_holds_is_refused_and_changes_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    with world.unchanged(a):
        sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert "b: no controller there has given a sign of life" in sentence and "group set copies" in sentence
    assert keys(world) == [] and world.value() is None


def test_a_push_passes_with_a_warning_where_the_group_wants_it_so(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    promise(world, 2, "warn")
    said = accepted(push(work, a, "HEAD:main")).stderr
    assert said.count("piehole: copies: ") == 1 and "goes on all the same" in said
    assert world.value() is not None and keys(world) == []


def test_what_needs_no_copies_asks_for_none(world: Group, site: tuple[Path, Path]) -> None:
    """Deletions, a push that is repeated, and refs to what enough other sites have published that they have."""
    a, work = site
    second = commit(work, "second")
    with holding(world, "b"):
        accepted(push(work, a, "HEAD:main", "HEAD:gone"))
    newest = max(change.revision for ref in (MAIN, "refs/heads/gone") for change in world.changes(ref))
    world["b"].start()
    until(lambda: world["b"].progress() >= newest, 20, "b has published main")
    world["b"].kill()
    before = world.changes("@push")
    accepted(push(work, a, ":gone"))
    accepted(push(work, a, "HEAD:main"))
    accepted(push(work, a, "HEAD:refs/heads/same"))
    accepted(push(work, a, "HEAD~1:refs/heads/older"))
    accepted(push(work, a, "--force", "HEAD~1:main"))
    assert len(world.changes("@push")) == len(before) + 4
    # Nobody has published this one.
    commit(work, "third")
    refused(push(work, a, "HEAD:refs/heads/newer"), "copies")
    assert world.refs()["refs/heads/same"] == second


def test_a_push_of_many_refs_asks_once(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    oids = [commit(work, f"change {number}") for number in range(5)]
    with holding(world, "b") as seen:
        accepted(push(work, a, *(f"{oid}:refs/heads/branch-{number}" for number, oid in enumerate(oids))))
    asked = [oid for request in seen for oid in request["oids"]]
    assert sorted(asked) == sorted(oids)
    if (a / "piehole" / "controller").exists():
        assert len(seen) == 1
    assert set(world.refs().values()) == set(oids) and keys(world) == []


def test_a_push_that_is_refused_for_another_reason_asks_for_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.put(MAIN, "frozen")
    with holding(world, "b") as seen:
        refused(push(work, a, "HEAD:main"), "locked")
    assert seen == []


def test_only_enough_sites_that_answered_are_awaited(world: Group, pair: tuple[Path, Path]) -> None:
    """Of four sites, two others must hold it, and it does not matter which."""
    a, work = pair
    patience(world, 30)
    for name in ("c", "d"):
        world[name].build()
    promise(world, 3)
    world["a"].start()
    with holding(world, "b", "d"):
        began = monotonic()
        accepted(push(work, a, "HEAD:main"))
        assert monotonic() - began < 15


@pytest.mark.parametrize("copies", [2, "majority", "all"])
def test_a_number_of_copies_is_counted_over_the_sites_that_have_not_left(
    world: Group, pair: tuple[Path, Path], copies: int | str
) -> None:
    a, work = pair
    world["c"].build()
    world["c"].piehole("leave", "--yes")
    promise(world, copies)
    world["a"].start()
    with holding(world, "c"):
        refused(push(work, a, "HEAD:main"), "copies")
    with holding(world, "b"):
        accepted(push(work, a, "HEAD:main"))


def test_a_group_that_is_too_small_for_its_promise_says_so_at_once(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    patience(world, 60)
    promise(world, 3)
    began = monotonic()
    sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert monotonic() - began < 30
    assert "the group promises 3 copies and has 2 sites: a, b" in sentence
    assert keys(world) == []


def test_keys_that_somebody_wrote_by_hand_count_for_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.etcd.put(world.key("@copies/garbage"), "{")
    world.etcd.put(world.key("@copies/garbage/b"), "garbage")
    world.etcd.put(world.key("@copies/"), "")
    seen: set[str] = set()

    def write() -> None:
        for name, request in requests(world).items():
            if name not in seen:
                seen.add(name)
                answer(world, name, "a", request["lease"])  # this site itself
                answer(world, name, "b", request["lease"], identity="another machine")
                answer(world, name, "nobody", request["lease"], identity="x")
                answer(world, name, "b/b", request["lease"], identity=site_id(world, "b"))
                world.etcd.put(world.key(f"@copies/{name}/c"), "[]")

    with meanwhile(write):
        refused(push(work, a, "HEAD:main"), "copies")
    assert seen and world.value() is None


def test_without_a_promise_nothing_of_it_is_loaded(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    # An etcd of its own: it lists the leases of all who use it, and not what they are for.
    world = make_group(2, started=False, etcd=own_etcd())
    promise(world, 2)
    promise(world, 1)
    a, work = world["a"].repository, world["a"].clone()
    commit(work, "first")
    accepted(push(work, a, "HEAD:main"))
    assert world.etcd.call("/lease/leases", {}).get("leases", []) == []
    script = (
        "import sys, pathlib; from piehole.group.replica import Replica; from piehole.push.admission import Admission;"
        "from piehole.push.consensus_source import LinearizableSource; from piehole.push import hook_protocol;"
        "from piehole.deadline import Deadline; from piehole.refs import Command, zero;"
        f"r = Replica.open(pathlib.Path({str(a)!r})); found = Admission(r, LinearizableSource(r, print));"
        "print(found.admit(Command('refs/heads/x', zero('sha1'), '1' * 40), Deadline(5)));"
        "assert not [name for name in sys.modules if name.startswith(('piehole.push.cop', 'piehole.group.promise')) and 'gate' not in name]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Basis" in done.stdout, done.stderr


def test_the_record_of_a_site_that_cannot_be_read_is_named(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.etcd.put(f"{world.prefix}/site/g/b", "garbage")
    sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert "b: its records cannot be used" in sentence
    world.etcd.put(f"{world.prefix}/site/g/b", '{"id": "x", "url": "/", "format": 9}')
    assert "Upgrade piehole" in refused(push(work, a, "HEAD:main"), "copies")


def test_a_push_of_many_refs_to_one_commit_asks_once_and_keeps_its_keys_to_the_last(
    world: Group, pair: tuple[Path, Path]
) -> None:
    """git 2.49 and older move one ref after the other, each by a swap of its own."""
    a, work = pair
    patience(world, 20)
    world["a"].start()
    with holding(world, "b") as seen:
        accepted(push(work, a, *(f"HEAD:refs/heads/b{number}" for number in range(40))))
    assert len(seen) == 1 and len(world.refs()) == 40 and keys(world) == []


# ---- with the other sites' own controllers


def _holders(world: Group, oid: str) -> list[str]:
    """The sites that have the object now."""
    return [str(site) for site in world if git(site.repository, "cat-file", "-e", oid, check=False).returncode == 0]


def test_what_a_push_brings_is_at_another_site_when_it_is_answered(make_group: MakeGroup) -> None:
    """Another one hangs, which holds nothing up."""
    world = make_group(3, settings={"piehole.copiesTimeout": "20"})
    work, _ = world.begun()
    promise(world, 2)
    world["c"].pause()
    oid = commit(work, "two copies")
    began = monotonic()
    accepted(push(work, world["a"].repository, "HEAD:main", "HEAD:refs/tags/new"))
    assert _holders(world, oid) == ["a", "b"] and monotonic() - began < 15
    world["b"].pause()
    oid = commit(work, "one copy")
    git(world["a"].repository, "config", "piehole.copiesTimeout", "1")
    world["a"].kill()
    refused(push(work, world["a"].repository, "HEAD:main"), "copies")
    world["b"].resume()
    world["c"].resume()
    accepted(push(work, world["a"].repository, "HEAD:main"))
    assert len(_holders(world, oid)) >= 2
    world["a"].start()
    world.in_step()
    until(lambda: not any("refs/piehole/held/" in ref for site in world for ref in refs(site.repository)), 20, "held")


def test_all_sites_have_what_all_promised(make_group: MakeGroup) -> None:
    world = make_group(3, settings={"piehole.copiesTimeout": "20"})
    work, _ = world.begun()
    promise(world, "all")
    for number in range(5):
        oid = commit(work, f"change {number}")
        world.in_step()  # else the reconcile of a site may come between what git shows the pusher and the push
        accepted(push(work, world[number % 3].repository, "HEAD:main", f"HEAD:refs/tags/t{number}"))
        assert _holders(world, oid) == ["a", "b", "c"]
