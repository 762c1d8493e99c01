from __future__ import annotations

import fcntl
import json
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from piehole.group import ref_log
from piehole.group.ref_log import LogEntry
from tests.support.command_line import piehole
from tests.support.etcd import EtcdProcess
from tests.support.git import ZERO_SHA1, git
from tests.support.groups import Group
from tests.support.ports import free_ports
from tests.support.wait import until


@pytest.fixture
def etcd(compactable_etcd: EtcdProcess) -> EtcdProcess:
    """A test here compacts."""
    return compactable_etcd


def entry(revision: int, ref: str = "refs/heads/main", new: str = "1" * 40) -> LogEntry:
    return LogEntry(revision, ref, ZERO_SHA1, new, "a", "somebody", "2026-01-01T00:00:00+00:00")


def test_it_tells_who_moved_what_when_and_where_newest_first(pair: Group) -> None:
    one = pair["a"].at()
    topic = "refs/heads/topic"
    pair.push("a", f"HEAD:{topic}")
    two = pair.commit("two")
    pair.reconcile("b")
    pair.push("b", f"HEAD:{topic}")
    pair.etcd.put(pair.key(topic), one)
    pair.push("a", f":{topic}", "HEAD:refs/heads/next")
    changes = piehole("log", "-C", pair["a"].repository, topic, "--json").json["changes"]
    assert [(c["old"], c["new"], c["site"], c["kind"]) for c in changes] == [
        (one, ZERO_SHA1, "a", "push"),
        (two, one, "", "by hand"),
        (one, two, "b", "push"),
        (ZERO_SHA1, one, "a", "push"),
    ]
    assert changes[0]["revision"] > changes[-1]["revision"]
    assert changes[0]["pusher"] and changes[0]["time"]
    text = piehole("log", "-C", pair["b"].repository, "next")
    assert text.status == 0, text
    assert len(text.out.splitlines()) == 1
    assert f"refs/heads/next nothing -> {two[:12]} a " in text.out
    assert len(piehole("log", "-C", pair["a"].repository, "-n", "2").out.splitlines()) == 2


def test_refs_of_one_push_have_one_revision_and_one_pusher(pair: Group) -> None:
    pair.push("a", "--atomic", "HEAD:refs/heads/x", "HEAD:refs/heads/y")
    changes = piehole("log", "-C", pair["a"].repository, "--json").json["changes"][:2]
    assert len({(c["revision"], c["site"], c["time"]) for c in changes}) == 1
    assert {c["ref"] for c in changes} == {"refs/heads/x", "refs/heads/y"}


def test_after_a_compaction_the_local_log_tells_what_etcd_forgot(pair: Group) -> None:
    a = pair["a"].repository
    before = piehole("log", "-C", a, "--json").json["changes"]
    ref_log.append(a, [LogEntry(**{k: v for k, v in c.items() if k != "kind"}) for c in before if c["ref"] != "HEAD"])
    two = pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    pair.etcd.compact(pair.etcd.revision())
    after = piehole("log", "-C", a, "main", "--json").json["changes"]
    assert [(c["new"], c["kind"]) for c in after[1:]] == [(before[0]["new"], "push")]
    assert after[0]["new"] == two
    # Nobody kept who made HEAD what it is.
    assert piehole("log", "-C", a, "HEAD").line("HEAD").endswith("? ? forgotten")


@pytest.mark.slow
def test_without_etcd_the_local_log_is_shown_and_the_status_is_three(pair: Group) -> None:
    a = pair["a"].repository
    ref_log.append(a, [entry(7)])
    answer = piehole("log", "-C", a, "--etcd", f"127.0.0.1:{free_ports(1)[0]}")
    assert answer.status == 3
    assert answer.out.startswith("7 2026-01-01T00:00:00+00:00 refs/heads/main nothing -> 111111111111 a somebody")


def test_the_local_log_reads_back_what_was_appended(tmp_path: Path) -> None:
    odd = b"refs/heads/caf\xe9".decode(errors="surrogateescape")
    entries = [entry(1), entry(2, odd)]
    ref_log.append(tmp_path, entries[:1])
    ref_log.append(tmp_path, entries[1:])
    assert ref_log.read(tmp_path) == entries


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    ref_log.append(tmp_path, [entry(1)])
    with (tmp_path / ref_log.FILE).open("ab") as file:
        file.write(b'{"revision":2,"ref":"refs/he')
    ref_log.append(tmp_path, [entry(3)])
    assert [one.revision for one in ref_log.read(tmp_path)] == [1, 3]


def test_the_local_log_stays_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    at_once = 20_000
    for start in range(0, 5 * at_once, at_once):
        ref_log.append(tmp_path, [entry(start + number) for number in range(at_once)])
    files = {path.name: path.stat().st_size for path in (tmp_path / "piehole").iterdir()}
    assert set(files) == {"log", "log.1"}
    assert sum(files.values()) < 3 * ref_log.LARGEST
    kept = [one.revision for one in ref_log.read(tmp_path)]
    assert kept == list(range(kept[0], 5 * at_once))


def test_several_writers_lose_nothing_also_while_the_log_is_rotated(tmp_path: Path) -> None:
    size = len((json.dumps(asdict(entry(100_000)), separators=(",", ":")) + "\n").encode())
    full = [entry(100_000 + number) for number in range(ref_log.LARGEST // size - 20)]
    ref_log.append(tmp_path, full)
    at_once = threading.Barrier(8)

    def write(first: int) -> None:
        at_once.wait()
        for number in range(20):
            ref_log.append(tmp_path, [entry(first + number)])

    threads = [threading.Thread(target=write, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ref_log.read(tmp_path)) == len(full) + 160
    assert (tmp_path / "piehole" / "log.1").exists()


def test_whoever_waits_for_a_rotation_writes_to_the_new_log(tmp_path: Path) -> None:
    ref_log.append(tmp_path, [entry(1)])
    path = tmp_path / ref_log.FILE
    with path.open("rb") as rotating:
        fcntl.flock(rotating, fcntl.LOCK_EX)
        waiting = threading.Thread(target=ref_log.append, args=(tmp_path, [entry(2)]))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive(), "it waits for the lock"
        path.rename(path.with_name("log.1"))
    waiting.join()
    assert b'"revision":2' in path.read_bytes()
    assert [one.revision for one in ref_log.read(tmp_path)] == [1, 2]


def test_a_clobber_is_no_push_after_the_compaction_either(pair: Group) -> None:
    a = pair["a"]
    a.start()
    tip = pair.commit("two")
    git(a.repository, "fetch", "--quiet", str(pair.work), f"{tip}:refs/heads/made-here")
    assert piehole("clobber", "-C", a.repository, "refs/heads/made-here", "--yes").status == 0
    until(lambda: any(one.ref == "refs/heads/made-here" for one in ref_log.read(a.repository)), 10, "the log has it")
    pair.etcd.put(pair.key("refs/heads/made-here"), pair.value() or "")
    pair.etcd.compact(pair.etcd.revision())
    lines = piehole("log", "-C", a.repository, "made-here").out.splitlines()
    assert " clobber " in lines[-1]
    assert not lines[0].endswith(" clobber")


def test_the_history_of_another_group_is_not_told_as_ours(pair: Group) -> None:
    pair.etcd.put(f"{pair.prefix}/group/g", json.dumps({"format": 1, "id": "another", "object_format": "sha1"}))
    answer = piehole("log", "-C", pair["a"].repository)
    assert answer.status == 1
    assert "is not the history of this repository's group" in answer.err


def test_what_sites_ask_each_other_is_no_change_of_a_ref(pair: Group) -> None:
    before = pair["a"].piehole("log").out
    for request in ("@copies/0123", "@drop/0123"):
        pair.put(request, "{}")
        pair.etcd.delete(pair.key(request))
    assert pair["a"].piehole("log").out == before
