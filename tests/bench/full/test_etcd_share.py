"""etcd's share: bytes, transactions and watch traffic per push and site, and how its database grows.

The traffic is measured with real pushes, a cluster of three members, and a counting proxy before each site. The growth is measured
with 10,000 times the very transactions of a push and of its progress records, since etcd cannot tell them from real ones.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from controller.etcd_view import EtcdAddress, EtcdView
from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.endpoint import Credentials
from piehole.etcd.model import Compare, Put, Range
from piehole.group.keys import Keyspace
from piehole.group.records import Progress, PushRecord
from tests.bench.full.kit import MAIN, Usage, arrival, careful_etcd, machine, push, save, timed, write_history
from tests.bench.full.meter import Meter, calls, metrics
from tests.bench.report import Report, Row
from tests.support.etcd import EtcdCluster, EtcdOptions, EtcdProcess
from tests.support.git import git, make_bare
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

_SITES: Final = (2, 3, 5, 9)
_PUSHES: Final = 20
_APART: Final = 1.5  # seconds: more than the second in which a site publishes its progress at most once
_QUIET: Final = 20.0  # seconds
_WRITES: Final = 10_000
_CALLERS: Final = 16
_KEYS: Final = 100_000


@pytest.mark.bench_full
@pytest.mark.timeout(1200)
def test_traffic(make_group: MakeGroup, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    report = Report(about=machine(etcd_binary, tmp_path) | {"cluster": "three members; pushes 1.5 s apart"})
    with ExitStack() as ends:
        cluster = EtcdCluster(etcd_binary, tmp_path / "etcd", options=EtcdOptions(progress_interval="5s"))
        ends.callback(cluster.kill)
        cluster.start()
        for size in _SITES:
            _traffic(report, make_group(size, started=False, endpoints=cluster.endpoints, name=f"g{size}"), cluster)
    save(report, "etcd-traffic", pytestconfig.rootpath)


def _traffic(report: Report, group: Group, cluster: EtcdCluster) -> None:
    with ExitStack() as ends:
        meters = [ends.enter_context(Meter(cluster.endpoints[n % 3])) for n in range(len(group.sites))]
        for site, meter in zip(group, meters, strict=True):
            git(site.repository, "config", "--replace-all", "piehole.etcd", meter.endpoint)
        ends.callback(group.end)
        group.start()
        origin = make_bare(group.folder / "origin.git")
        oids = write_history(origin, _PUSHES + 1)
        _push(group, origin, oids[0])
        before = [meter.now() for meter in meters]
        time.sleep(_QUIET)
        quiet = [_per(meter.since(old), _QUIET) for meter, old in zip(meters, before, strict=True)]
        before, called, told = [meter.now() for meter in meters], calls(cluster.members), _told(cluster)
        started = time.monotonic()
        for oid in oids[1:]:
            _push(group, origin, oid)
        lasted = time.monotonic() - started
        spent = [meter.since(old) for meter, old in zip(meters, before, strict=True)]
        asked = calls(cluster.members) - called
        grown = {name: value - told[name] for name, value in _told(cluster).items()}
    size = len(group.sites)
    net = [
        {name: (value - quiet[n].get(name, 0.0) * lasted) / _PUSHES for name, value in of.items()}
        for n, of in enumerate(spent)
    ]
    for where, of in (("the site that is pushed to", net[:1]), ("each other site", net[1:])):
        for kind, names in (("questions and answers", ("asked", "answered")), ("watch", ("watched",))):
            samples = [sum(one.get(name, 0.0) for name in names) for one in of]
            report.rows.append(Row(f"{size} sites: bytes a push, {where}, {kind}", "B", samples))
            report.series.setdefault(f"bytes a push, {where}, {kind}", []).append((size, report.rows[-1].median))
    everything = sum(sum(one.values()) for one in net)
    report.rows.append(Row(f"{size} sites: bytes a push, all sites", "B", [everything]))
    report.series.setdefault("bytes a push, all sites", []).append((size, everything))
    for method in ("Txn", "Range"):
        report.rows.append(Row(f"{size} sites: {method} a push, all sites", "count", [asked[method] / _PUSHES]))
        report.series.setdefault(f"{method} a push, all sites", []).append((size, asked[method] / _PUSHES))
    report.rows.append(Row(f"{size} sites: bytes a push between the members", "B", [grown["peers"] / _PUSHES]))
    report.rows.append(
        Row(f"{size} sites: bytes a second while nothing happens, each site", "B", [sum(one.values()) for one in quiet])
    )


def _push(group: Group, origin: Path, oid: str) -> None:
    began = time.monotonic()
    push(origin, group[0].repository, f"{oid}:{MAIN}")
    arrival([site.repository for site in group.sites[1:]], MAIN, oid)
    time.sleep(max(0.0, began + _APART - time.monotonic()))


def _per(counted: Counter[str], seconds: float) -> dict[str, float]:
    return {name: value / seconds for name, value in counted.items()}


def _told(cluster: EtcdCluster) -> dict[str, float]:
    found = [metrics(member) for member in cluster.members]
    return {"peers": sum(one.get("etcd_network_peer_sent_bytes_total", 0.0) for one in found)}


@pytest.mark.bench_full
@pytest.mark.timeout(1200)
def test_growth_of_the_database(etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Pushes to a hundred groups of three sites; in one run each brings three progress records, in the other none."""
    report = Report(
        about=machine(etcd_binary, tmp_path) | {"compaction": "as deploy/etcd.env has it: the last 24 hours stay"}
    )
    for sites in (0, 3):
        with ExitStack() as ends:
            member = EtcdProcess(etcd_binary, tmp_path / f"etcd{sites}")  # growth is the same without fsync
            ends.callback(member.kill)
            member.start()
            etcd = Etcd([member.endpoint])
            ends.callback(etcd.close)
            _write(etcd, 100, sites)
            at_first = metrics(member)["etcd_mvcc_db_total_size_in_use_in_bytes"]
            sizes: list[float] = []
            kind = f"{sites} progress records a push"
            for turn in range(3):
                revision = _write(etcd, _WRITES, sites)
                told = metrics(member)
                if turn == 0:
                    grown = (told["etcd_mvcc_db_total_size_in_use_in_bytes"] - at_first) / _WRITES * 1e6 / 1e9
                    report.rows.append(
                        Row(f"growth for a million pushes, {kind}", "GB", [grown], note="before compaction")
                    )
                sizes.append(told["etcd_mvcc_db_total_size_in_bytes"] / 1e6)
                member.raw.call("/kv/compaction", {"revision": str(revision), "physical": True}, timeout=60)
            told = until(lambda at=member: _compacted(at), 30, "the compaction is done")  # type: ignore[misc]
            left = told["etcd_mvcc_db_total_size_in_use_in_bytes"] / 1e6
            report.rows.append(Row(f"in use after compaction, {kind}", "MB", [left]))
            report.rows.append(Row(f"file after each 10,000 pushes, compacted in between, {kind}", "MB", sizes))
            report.series[f"file, {kind}"] = [((turn + 1) * _WRITES, size) for turn, size in enumerate(sizes)]
    save(report, "etcd-growth", pytestconfig.rootpath)


def _compacted(member: EtcdProcess) -> dict[str, float] | None:
    before = metrics(member)
    time.sleep(0.5)
    after = metrics(member)
    name = "etcd_mvcc_db_total_size_in_use_in_bytes"
    return after if before[name] == after[name] else None


def _write(etcd: Etcd, count: int, sites: int) -> int:
    """What so many pushes write, to a hundred groups; the revision after it."""
    keyspace = Keyspace()

    def one(number: int) -> int:
        group = f"team/project-{number % 100:03}"
        record = PushRecord(uuid4().hex, "oslo", "A Pusher", "2026-01-01T00:00:00+00:00")
        ref, last = keyspace.ref(group, MAIN), keyspace.ref(group, "@push")
        compares = [Compare(keyspace.group(group)), Compare(keyspace.ref(group, "@fence"))]
        puts = [Put(ref, f"{number:040x}".encode()), Put(last, record.dump())]
        revision = etcd.txn(compares, puts, deadline=Deadline(30)).revision
        for site in range(sites):
            told = Progress(revision, str(uuid4()), "2026-01-01T00:00:00+00:00")
            etcd.txn([], [Put(keyspace.progress(group, f"site-{site}"), told.dump())], deadline=Deadline(30))
        return revision

    with ThreadPoolExecutor(8) as pool:
        return max(pool.map(one, range(count)))


@pytest.mark.bench_full
@pytest.mark.timeout(1200)
def test_what_etcd_and_one_informer_bear(etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The other inputs of docs/explanation/performance/thousand-sites.md: writes a second, and what each key costs an informer and etcd."""
    report = Report(about=machine(etcd_binary, tmp_path))
    with ExitStack() as ends:
        member = careful_etcd(etcd_binary, tmp_path / "etcd", "--quota-backend-bytes=4294967296")
        ends.callback(member.kill)
        etcd = Etcd([member.endpoint])
        ends.callback(etcd.close)
        for what, operation in (("writes", Put), ("reads", Range)):
            report.rows.append(
                Row(f"{what} a second at one member, {_CALLERS} at once", "count", _rates(etcd, operation))
            )
        before = Usage.of(member.pid).resident
        keyspace = Keyspace()
        keys = [keyspace.ref(f"team/project-{n // 10:06}", f"refs/heads/topic-{n % 10}") for n in range(_KEYS)]
        for start in range(0, _KEYS, 4000):
            etcd.txn([], [Put(key, b"0" * 40) for key in keys[start : start + 4000]], deadline=Deadline(30))
        grown = Usage.of(member.pid).resident - before
        report.rows.append(Row("etcd's memory for each ref", "kB", [grown * 1024 / _KEYS]))
        report.rows.append(
            Row(
                "etcd's database for each ref",
                "kB",
                [metrics(member)["etcd_mvcc_db_total_size_in_use_in_bytes"] / 1024 / _KEYS],
            )
        )
        report.rows += _informer(member, ends)
    save(report, "etcd-bears", pytestconfig.rootpath)


def _rates(etcd: Etcd, operation: type[Put | Range]) -> list[float]:
    def one(number: int) -> None:
        key = f"/rate/{number}".encode()
        etcd.txn([], [Put(key, b"0" * 40) if operation is Put else Range(key)], deadline=Deadline(30))

    found = []
    with ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(one, range(_CALLERS * 4)))
        for _ in range(3):
            found.append(2000 / timed(lambda: list(pool.map(one, range(2000)))))
    return found


def _informer(member: EtcdProcess, ends: ExitStack) -> list[Row]:
    import os

    before = Usage.of(os.getpid())
    with Meter(member.endpoint) as meter:
        address = EtcdAddress((meter.endpoint,), Credentials(), "/piehole")
        cluster = EtcdView(address, lambda _groups, _fresh: None, lambda: None, lambda _error: None)
        ends.callback(cluster.stop)
        cluster.start()
        assert cluster.informer.synced.wait(120)
        after = Usage.of(os.getpid())
        listed = sum(meter.now().values())
        cluster.stop()
        cluster.join()
    return [
        Row("informer: bytes of a listing, for each ref", "B", [listed / _KEYS]),
        Row("informer: memory for each ref", "kB", [(after.resident - before.resident) * 1024 / _KEYS]),
        Row("informer: seconds of a listing, for 100,000 refs", "s", [after.at - before.at]),
    ]
