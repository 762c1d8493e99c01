"""What a controller tells: its progress, its log for operators, its log for `piehole log`; and what it tidies up."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from piehole.group import ref_log
from tests.conftest import OwnEtcd
from tests.controller.crowd import prepare
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, until


def told_up_to(group: Group, ref: str = MAIN) -> int:
    """Wait until all sites have published that they have this ref's newest value; its revision."""
    found = group.etcd.look(group.key(ref))
    assert found is not None
    for site in group:
        until(lambda site=site: site.progress() >= found.mod_revision, 15, f"{site.name} has told of it")  # type: ignore[misc]
    return found.mod_revision


def test_progress_reaches_the_newest_revision_and_is_written_at_most_once_a_second(make_group: MakeGroup) -> None:
    group = make_group(2)
    keys = [f"{group.prefix}/progress/{group.name}/{site.name}" for site in group]
    before = group.etcd.revision()
    work = group[0].clone()
    began = time.monotonic()
    for n in range(12):
        git.commit(work, f"n{n}")
        accepted(git.push(work, "origin", "HEAD:main"))
    told_up_to(group)
    took = time.monotonic() - began
    for key in keys:
        written = [json.loads(change.value or "{}") for change in group.etcd.history(key, before)]
        assert 1 <= len(written) <= took + 2
        revisions = [record["revision"] for record in written]
        assert revisions == sorted(revisions)


def test_where_nothing_happens_nothing_is_written(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    # In an etcd that tests share, leases of an earlier one may end meanwhile.
    group = make_group(2, etcd=own_etcd())
    work = group[0].clone()
    git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    told_up_to(group)
    keys = [f"{group.prefix}/progress/{group.name}/{site.name}" for site in group]
    until(lambda: all('"digest"' in (group.etcd.get(key) or "") for key in keys), PATIENCE, "the digests are published")
    quiet = group.etcd.revision()
    for site in group:
        before = len(site.events("repository.served"))
        assert before == 1
    time.sleep(2.5)  # that nothing comes can only be seen by waiting
    assert {key: kv for key, kv in group.etcd.look_prefix("/").items() if kv.mod_revision > quiet} == {}
    assert group.etcd.revision() == quiet


@pytest.mark.slow
def test_a_tombstone_is_reaped_once_every_site_has_passed_it(make_group: MakeGroup) -> None:
    group = make_group(3)
    work = group[0].clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main", "HEAD:topic"))
    group.arrives("refs/heads/topic", oid)
    group[2].stop()
    accepted(git.push(work, "origin", ":topic"))
    group.arrives("refs/heads/topic", "", group.sites[:2])
    until(lambda: all(site.progress() >= _mod(group, "refs/heads/topic") for site in group.sites[:2]), 15)
    # One site has not heard of it: the tombstone must stay, whatever the others look at.
    time.sleep(4)  # the first attempt to reap it comes after 3 s; that it stays can only be seen by waiting
    assert group.value("refs/heads/topic") == "0" * 40
    group[2].start()
    until(lambda: group.value("refs/heads/topic") is None, 30, "the tombstone is reaped")
    assert group[2].at("refs/heads/topic") == ""
    assert group.value("@fence") is not None
    accepted(git.push(work, "origin", "HEAD:topic"))
    group.arrives("refs/heads/topic", oid)


def _mod(group: Group, ref: str) -> int:
    found = group.etcd.look(group.key(ref))
    assert found is not None
    return found.mod_revision


def test_every_site_notes_who_moved_what_where(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    oids = []
    for n in range(3):
        oids.append(git.commit(work, f"n{n}"))
        accepted(git.push(work, "origin", "HEAD:main", env={"REMOTE_USER": f"user{n}"}))
        group.arrives(MAIN, oids[-1])
    told_up_to(group)
    by_hand = group.put("refs/tags/by-hand", oids[0])
    group.arrives("refs/tags/by-hand", oids[0])
    none = "0" * 40
    for site in group:
        until(lambda site=site: len(ref_log.read(site.repository)) >= 4, 15, "the log is written")  # type: ignore[misc]
        entries = ref_log.read(site.repository)
        mains = [entry for entry in entries if entry.ref == MAIN]
        assert [(entry.old, entry.new) for entry in mains] == [(none, oids[0]), (oids[0], oids[1]), (oids[1], oids[2])]
        assert [(entry.site, entry.pusher) for entry in mains] == [("a", "user0"), ("a", "user1"), ("a", "user2")]
        assert all(entry.time for entry in mains)
        (hand,) = [entry for entry in entries if entry.ref == "refs/tags/by-hand"]
        assert (hand.revision, hand.site, hand.pusher) == (by_hand, "", "")
    assert "user1" in group[1].piehole("log").out


def test_what_a_site_missed_is_noted_when_it_is_back_and_nothing_twice(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    first = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, first)
    until(lambda: ref_log.read(group[1].repository), 15, "the log is written")
    group[1].stop()
    second = git.commit(work, "two")
    accepted(git.push(work, "origin", "HEAD:main", env={"REMOTE_USER": "somebody"}))
    accepted(git.push(work, "origin", "HEAD:topic", env={"REMOTE_USER": "somebody else"}))
    for _ in range(2):
        group[1].start()
        group.arrives(MAIN, second)
        told_up_to(group, "refs/heads/topic")
        until(lambda: len(ref_log.read(group[1].repository)) >= 3, 15, "the log is written")
        group[1].stop()
    entries = ref_log.read(group[1].repository)
    assert [(entry.ref, entry.new, entry.pusher) for entry in entries if entry.pusher.startswith("some")] == [
        (MAIN, second, "somebody"),
        ("refs/heads/topic", second, "somebody else"),
    ]


def test_many_small_packs_are_rolled_up_beside_the_work(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    prepare(group)
    site = group[1]
    packs = site.repository / "objects" / "pack"
    for n in range(60):
        oid = git.git(site.repository, "hash-object", "-w", "--stdin", stdin=f"blob {n}").stdout.strip()
        git.git(site.repository, "pack-objects", "--quiet", str(packs / "pack"), stdin=f"{oid}\n")
    before = len(list(packs.glob("*.pack")))
    assert before >= 50
    group.start()
    until(lambda: len(list(packs.glob("*.pack"))) < 10, 30, "the packs are rolled up")
    group.in_step()
    site.fsck()
    assert site.stop() == 0


def test_one_line_of_json_tells_all_of_one_reconcile(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)
    line = group[1].wait_event("reconcile", moved=1)
    assert line["repository"] == str(group[1].repository)
    assert line["revision"] >= _mod(group, MAIN)
    assert line["refs"] == [MAIN]
    assert line["peer"] == "a"
    assert line["bytes"] > 0
    assert 0 < line["ms"] < 20_000
    assert line["level"] == "info"
    assert line["group"] == "g" and line["site"] == "b"
    for text in group[1].log_text().splitlines():
        assert json.loads(text)["event"]


def test_on_a_terminal_the_log_is_for_people(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "piehole.cli", "controller", "--root", str(group[0].root)],
        stdin=subprocess.DEVNULL,
        stderr=theirs,
        env=group.environment,
        start_new_session=True,
    )
    os.close(theirs)
    said = ""
    try:
        while "controller.started" not in said:
            said += os.read(ours, 4096).decode()
    finally:
        process.terminate()
        assert process.wait(30) == 0
        os.close(ours)
    first = said.splitlines()[0]
    assert not first.startswith("{")
    assert re.match(r"(\x1b\[[0-9;]*m)*\d{4}-\d\d-\d\d", first)
