"""Copies for pushes to other sites: fetched, proven, held and told."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from piehole.etcd.client import Etcd
from piehole.etcd.endpoint import Credentials
from piehole.etcd.model import KeyValue, TxnResult
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.hold_copies import CopyHolder, read_request
from piehole.replicate.holdings import Holdings
from piehole.replicate.peers import PeerHealth
from piehole.repository import verification
from tests.controller.test_fairness import silent_server
from tests.support import git
from tests.support.assertions import accepted, arrives
from tests.support.copies import HELD, CopiesAsked, ask, ask_from, held, pair, put_objects, released, slow_pair
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.wait import until


def test_what_a_site_asks_for_is_held_by_the_others_and_told(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group, 3)
    asked = ask(group, work, first).wait("b", "c")
    assert asked.holders() == ["b", "c"]
    for site in group.sites[1:]:
        assert asked.refs(site) == asked.oids
        record = json.loads(group.etcd.get(f"{asked.key}/{site}") or "")
        assert record["id"] == json.loads(group.etcd.get(f"{group.prefix}/site/g/{site}") or "")["id"]
        git.git(site.repository, "gc", "--quiet", "--prune=now")
        git.git(site.repository, "fsck", "--strict", "--connectivity-only")
        assert site.at() == first
        assert HELD not in git.git(work, "ls-remote", str(site.repository)).stdout
        assert f"held {asked.id} objects=1" in site.piehole("status", check=False).out
        assert HELD not in site.piehole("check", check=False).out
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    released(*group.sites[1:])
    assert not any(site.kept() for site in group)


def test_a_request_without_its_push_is_not_answered(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    group[0].start()
    work, first = group.begun()
    asked = ask(group, work, first)
    asked.end()
    group[1].start()
    group.arrives(MAIN, first)
    assert (held(group[1]), asked.holders()) == ({}, [])


def test_what_is_held_is_not_fetched_again(make_group: MakeGroup) -> None:
    """The receiving site burns down right after the swap."""
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    group[0].kill()
    group[0].repository.rename(group.folder / "burnt.git")
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:], timeout=5)
    released(group[1])


def test_what_is_held_is_not_checked_again(make_group: MakeGroup, tmp_path: Path) -> None:
    """An arrival after a held push needs neither a fetch nor a walk."""
    group = make_group(2, started=False)
    group[0].start()
    work = group.clone(group[0].repository)
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    commands = 'rev-list "*|*" cat-file "*|*" upload-pack'
    with group.git_that(tmp_path / "bin", commands, 'echo "$*" >> "$seen"; exec "$git" "$@"') as seen:
        group[1].start()
    group.arrives(MAIN, first)
    asked = ask(group, work, first).wait("b")
    assert "upload-pack" in seen.read_text()
    seen.unlink()
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    released(group[1])
    assert not seen.exists(), seen.read_text()


def test_a_site_that_holds_a_copy_is_a_source_for_the_others(make_group: MakeGroup) -> None:
    """Both before the swap, and after it, when its progress has not come so far."""
    group = make_group(4, started=False)
    group[0].start()
    group[1].start()
    work = group.clone(group[0].repository)
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    group.arrives(MAIN, first, group.sites[:2])
    asked = ask(group, work, first).wait("b")
    group[0].kill()
    group[0].repository.rename(group.folder / "burnt.git")
    group[2].start()
    asked.wait("b", "c")
    (group[1].repository / f"{MAIN}.lock").touch()
    (group[2].repository / f"{MAIN}.lock").touch()
    asked.swap({MAIN: asked.oids[0]})
    group[3].start()
    arrives([group[3]], MAIN, asked.oids[0])


SENSELESS = {
    "garbage": "no json at all",
    "a list": "[1, 2]",
    "nested": "[" * 100_000,
    "no oids": '{"site": "a", "oids": [], "lease": "%(lease)s"}',
    "an oid that is none": '{"site": "a", "oids": ["HEAD"], "lease": "%(lease)s"}',
    "an option": '{"site": "a", "oids": ["--upload-pack=touch x"], "lease": "%(lease)s"}',
    "zero": '{"site": "a", "oids": ["' + "0" * 40 + '"], "lease": "%(lease)s"}',
    "another format": '{"site": "a", "oids": ["' + "a" * 64 + '"], "lease": "%(lease)s"}',
    "no lease": '{"site": "a", "oids": ["' + "a" * 40 + '"]}',
    "a lease that is none": '{"site": "a", "oids": ["' + "a" * 40 + '"], "lease": "-1"}',
    "an unknown site": '{"site": "nowhere", "oids": ["' + "a" * 40 + '"], "lease": "%(lease)s"}',
    "no site's name": '{"site": "../a b\\n", "oids": ["' + "a" * 40 + '"], "lease": "%(lease)s"}',
    "itself": '{"site": "b", "oids": ["' + "a" * 40 + '"], "lease": "%(lease)s"}',
    "far too many": json.dumps({"site": "a", "oids": [f"{n:040x}" for n in range(1, 5000)], "lease": "%(lease)s"}),
    "far too large": json.dumps({"site": "a", "oids": ["a" * 40], "lease": "%(lease)s", "x": "y" * 600_000}),
    "what nobody has": '{"site": "a", "oids": ["'
    + "a" * 40
    + '"], "bases": ["'
    + "b" * 64
    + '"], "lease": "%(lease)s"}',
}


NAMES = ["..", "a b", "x.lock", "-x", "é" * 60, "a/b/c", ""]


def test_requests_that_make_no_sense_are_not_answered_and_do_no_harm(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    strange = [
        CopiesAsked(group, "a", [], text=text, push_id=f"id{number}") for number, text in enumerate(SENSELESS.values())
    ]
    strange += [CopiesAsked(group, "a", ["a" * 40], push_id=name) for name in NAMES]
    group.etcd.put(group.key("@copies/nobody/b"), "{}")
    asked = ask(group, work, first).wait("b")
    logged = len(SENSELESS) - 1 + len(NAMES) - 2  # its own requests are none to answer, two names are of no request
    until(lambda: len(group[1].events("copy.not_held")) >= logged, 15, "each is logged")
    assert [one.holders() for one in strange] == [[]] * len(strange)
    assert sorted(held(group[1])) == [asked.id]
    said = group[1].piehole("status", check=False).out
    assert "JSON" in group[1].wait_event("copy.not_held", push="id0")["reason"]
    assert "not-held id10 nowhere is no site of the group" in said
    assert not group[1].events("turn.crashed")
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    assert group[1].stop() == 0


def test_a_site_that_cannot_be_reached_delays_no_other_request(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group, 3)
    with silent_server() as (url, taken):
        group[2].stop()
        record = json.loads(group.etcd.get(f"{group.prefix}/site/g/c") or "")
        group.etcd.put(f"{group.prefix}/site/g/c", json.dumps({**record, "url": url}))
        group.etcd.put(group.key("@fence"), "{}")
        hung = [CopiesAsked(group, "c", [f"{n:040x}"]) for n in range(1, 20)]
        until(lambda: len(taken) >= 12, 15, "all workers wait for the silent site")
        ask(group, work, first).wait("b", timeout=6)
        assert [one.holders() for one in hung] == [[]] * len(hung)
        assert group[1].stop() == 0


def test_while_the_site_that_asks_is_silent_another_one_comes_to_hold_it(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group, 3)
    for site in group.sites[1:]:
        site.kill()
    with silent_server() as (url, taken):
        where = f"{group.prefix}/site/g/a"
        group.etcd.put(where, json.dumps({**json.loads(group.etcd.get(where) or ""), "url": url}))
        group.etcd.put(group.key("@fence"), "{}")
        asked = ask(group, work, first)
        put_objects(group[1], work)
        group[2].start()
        until(lambda: taken, 15, "the silent site is asked")
        identity = json.loads(group.etcd.get(f"{group.prefix}/site/g/b") or "")["id"]
        group.etcd.put(f"{asked.key}/b", json.dumps({"id": identity, "time": ""}), lease=asked.lease)
        asked.wait("b", "c", timeout=10)
        assert group[2].stop() == 0


def test_a_site_that_must_not_move_or_is_corrupt_does_not_answer(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group, 3)
    verification.record(group[1].repository, verification.CORRUPT, "by this test")
    record = f"{group.prefix}/group/g"
    value = group.etcd.get(record) or ""
    group[2].stop()
    asked = ask(group, work, first)
    why = group[1].wait_event("copy.not_held", push=asked.id)["reason"]
    assert "corrupt: by this test" in why
    asked.end()
    group.etcd.put(record, json.dumps({**json.loads(value), "id": "another"}))
    group[2].start()
    group[2].wait_event("site.halted")
    asked = ask(group, work, asked.oids[0], "third")
    group[2].wait_event("copy.not_held", push=asked.id)
    assert asked.holders() == []
    assert held(group[2]) == {}


@pytest.mark.slow
def test_a_burst_of_requests_of_several_sites_is_answered(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group, 3)
    base, asked = first, []
    for number in range(50):
        git.commit(work, f"number {number}")
        site = group[number % 2]
        asked.append(CopiesAsked(group, site.name, put_objects(site, work), bases=[base]))
        base = asked[-1].oids[0]
    for number, one in enumerate(asked):
        one.wait("c", "b" if number % 2 == 0 else "a")
    for one in asked[:25]:
        one.swap({MAIN: one.oids[0]})
    for one in asked[25:]:
        one.end()
    group.arrives(MAIN, asked[24].oids[0])
    released(*group)
    assert not any(site.kept() for site in group)


def test_nested_groups_and_several_sites_of_one_controller_do_not_mix(make_group: MakeGroup) -> None:
    """One controller has the site b of two groups, one nested in the other, and one more site of the outer one."""
    outer, inner = make_group(1, name="tools", started=False), make_group(1, name="tools/x", started=False)
    root = outer.folder / "b"
    outer.add("b", root=root).build()
    outer.add("c", root=root / "c").build()
    inner.add("b", root=root / "inner").build()
    asked = []
    outer[0].start()
    inner[0].start()
    outer[1].start()
    for group in (outer, inner):
        work = group.clone(group[0].repository)
        first = git.commit(work, f"first of {group.name}")
        accepted(git.push(work, group[0].repository, "HEAD:main"))
        group.arrives(MAIN, first)
        asked.append(ask(group, work, first))
    asked[0].wait("b", "c")
    asked[1].wait("b")
    assert [sorted(held(site)) for site in (*outer.sites[1:], inner[1])] == [[asked[0].id]] * 2 + [[asked[1].id]]
    asked[0].swap({MAIN: asked[0].oids[0]})
    asked[1].end()
    outer.arrives(MAIN, asked[0].oids[0], outer.sites[1:])
    # One site of this controller asks the other one, and that of another controller.
    inside = ask_from(outer[2], outer.clone(outer[0].repository), asked[0].oids[0]).wait("a", "b")
    inside.end()
    released(*outer, inner[1])
    assert not git.has_object(inner[1].repository, asked[0].oids[0])


def test_nothing_is_told_before_it_is_on_the_disk(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack and its index, the folder that has their names, the held ref, and each folder above it."""
    group, work, first = pair(make_group)
    group[1].kill()
    asked = ask(group, work, first)
    done: list[str] = []
    fsync = os.fsync

    def noted_fsync(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    class NotedEtcd(Etcd):
        def txn(self, *arguments: Any, **options: Any) -> TxnResult:
            done.append("told" if arguments[0] else "asked")
            return super().txn(*arguments, **options)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    replica = replace(group[1].replica(), etcd=NotedEtcd(group.endpoints, Credentials()))
    holdings = Holdings()
    holder = CopyHolder(replica, ObjectFetcher(replica, PeerHealth(), holdings=holdings), holdings, dict)
    raw = group.etcd.look(asked.key)
    assert raw is not None
    kv = KeyValue(asked.key.encode(), raw.value.encode(), raw.mod_revision, raw.create_revision, raw.version)
    holder.use_tips([first])

    def hold() -> bool:
        request = read_request(replica, asked.id, kv)
        done.clear()
        return holder.hold(
            asked.id, kv, request, tuple, lambda: None, threading.Event(), held=lambda: done.append("held")
        )

    assert hold()
    folder = group[1].repository
    objects = [Path(one).suffix for one in done if "/objects/" in one and Path(one).suffix]
    assert sorted(objects) == [".idx", ".pack"]
    order = [
        done.index(str(folder / name))
        for name in ("objects/pack", f"{HELD}{asked.id}", f"{HELD}{asked.id}/{asked.oids[0]}")
    ]
    assert order == sorted(order)
    assert {str(folder / name) for name in ("refs/piehole/held", "refs/piehole", "refs")} <= set(done)
    assert done[-2:] == ["held", "told"]
    answer = group.etcd.look(f"{asked.key}/b")
    assert hold()
    assert group.etcd.look(f"{asked.key}/b") == answer, "the swap compares this answer, so it stays as it is"
    asked.end()
    assert not hold()


def test_a_reconcile_waits_for_a_copy_that_is_under_way(make_group: MakeGroup, tmp_path: Path) -> None:
    """Others were quicker, so the swap comes while this site still fetches."""
    group, work, first, seen = slow_pair(make_group, tmp_path)
    asked = ask(group, work, first)
    until(seen.exists, 10, "the copy is being fetched")
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    assert seen.read_text().split() == ["once"]
    released(group[1])


def test_a_request_waits_for_no_first_clone_of_the_same_repository(make_group: MakeGroup, tmp_path: Path) -> None:
    group = make_group(2, started=False)
    group[0].start()
    work = group.clone(group[0].repository)
    first = git.commit(work, "first")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    script = 'if mkdir "$seen" 2>/dev/null; then sleep 30; fi; exec "$git" "$@"'
    with group.git_that(tmp_path / "bin", "upload-pack", script) as seen:
        group[1].start()
        until(seen.exists, 10, "the first clone has begun, and hangs")
        asked = ask(group, work, first).wait("b", timeout=5)
    assert group[1].at() == ""
    assert git.git(group[1].repository, "rev-list", "--objects", "--quiet", asked.oids[0]).returncode == 0
    assert group[1].stop() == 0


@pytest.mark.parametrize("object_format", ["sha256"])
def test_copies_in_other_formats(make_group: MakeGroup, object_format: str) -> None:
    group = make_group(2, object_format=object_format)
    first = group.commit("first")
    group.push("a")
    group.arrives(MAIN, first)
    asked = ask(group, group.work, first).wait("b")
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    released(group[1])


# ---- after the end of a controller
