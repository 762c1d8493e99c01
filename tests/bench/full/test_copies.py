"""What the promise of copies costs a push: five sites on this machine, and three servers with slow links between them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.bench.full.kit import MAIN, arrival, machine, push, save, timed, write_history
from tests.bench.report import Report, Row
from tests.servers.bed.links import Links
from tests.servers.bed.missing import what_is_missing
from tests.servers.bed.three import REPOSITORY, ThreeServers
from tests.support.assertions import accepted
from tests.support.etcd import EtcdProcess
from tests.support.git import make_bare
from tests.support.groups import MakeGroup

_PROMISES: Final = ("1", "2", "majority", "all")
_NEAR_ROUNDS: Final = 4  # each promise's turn of _IN_A_ROW pushes, in an order that is drawn anew
_IN_A_ROW: Final = 8
_FAR_PUSHES: Final = 6
_LINKS: Final = (0, 20, 100)  # milliseconds of a round trip


def _name(promise: str) -> str:
    return f"push, copies {promise}"


@pytest.mark.bench_full
@pytest.mark.timeout(600)
def test_copies_near(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    origin = make_bare(tmp_path / "origin.git")
    write_history(origin, 1)
    group = make_group(5, etcd=fsync_etcd)
    home, *others = (site.repository for site in group)
    push(origin, home, f"{MAIN}:{MAIN}")
    group.in_step()
    pushes: dict[str, list[float]] = {promise: [] for promise in _PROMISES}
    arrivals: dict[str, list[float]] = {promise: [] for promise in _PROMISES}
    calls: dict[str, Counter[str]] = {}

    def one(promise: str, *, counted: bool) -> None:
        (oid,) = write_history(origin, 1)
        before = Counter(fsync_etcd.calls())
        took = push(origin, home, f"{oid}:{MAIN}")
        asked = Counter(fsync_etcd.calls()) - before
        there = arrival(others, MAIN, oid)
        if counted:
            pushes[promise].append(1000 * took)
            arrivals[promise].append(1000 * there)
            calls[promise] = min(calls.get(promise, asked), asked, key=Counter.total)

    for _ in range(_NEAR_ROUNDS):
        for promise in random.sample(_PROMISES, len(_PROMISES)):
            group.piehole("group", "set", "copies", promise, "-C", str(home), "--yes")
            for number in range(_IN_A_ROW + 1):
                one(promise, counted=number > 0)
    report = Report(about=machine(etcd_binary, tmp_path) | {"sites": "five, by path; one etcd member, over loopback"})
    for promise, counted in calls.items():
        told = " + ".join(f"{count} {method}" for method, count in sorted(counted.items()))
        report.about[f"etcd calls, copies {promise}"] = f"{told} a push, the other sites' calls included"
    report.rows = _rows(pushes)
    report.rows += [
        Row(f"arrival at all four, copies {promise}", "ms", found, _beside("arrival at all four, copies 1", promise))
        for promise, found in arrivals.items()
    ]
    save(report, "copies-near", pytestconfig.rootpath)


@pytest.mark.bench_full
@pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())
@pytest.mark.timeout(900)
def test_copies_far(etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    bed = ThreeServers(tmp_path / "servers")
    report = Report(about=machine(etcd_binary, tmp_path))
    report.about["sites"] = "three servers, each with its member of etcd; the laptop is beside oslo, whose member leads"
    try:
        bed.begin()
        clone = bed.laptop.clone(bed.servers[0].https)
        bed.laptop.commit(clone, "the first one")
        accepted(bed.laptop.push(clone, bed.servers[0].https))
        bed.in_step()
        _lead(bed)
        for milliseconds in _LINKS:
            links = Links()
            for one, other in ((0, 1), (0, 2), (1, 2)) if milliseconds else ():
                links.slow(bed.servers[one].host, bed.servers[other].host, milliseconds / 2000)
            report.rows += _pushes_over(bed, clone, milliseconds)
            links.heal_all(*(server.host for server in bed.servers))
    finally:
        bed.end()
    save(report, "copies-far", pytestconfig.rootpath)


def _lead(bed: ThreeServers) -> None:
    """Have the member of the first server lead: else it is a matter of luck which site's pushes pay for one more link."""
    status = bed.servers[0].etcdctl("endpoint", "status", "--write-out=fields").stdout
    own = next(int(line.split(":")[1]) for line in status.splitlines() if line.startswith('"MemberID"'))
    for server in bed.servers:
        server.etcdctl("move-leader", f"{own:x}", root=True, check=False)


def _pushes_over(bed: ThreeServers, clone: str, milliseconds: int) -> list[Row]:
    home = bed.servers[0]
    found: dict[str, list[float]] = {}
    fetches: list[float] = []
    over = f", {milliseconds} ms" if milliseconds else ""
    for promise in _PROMISES:
        home.piehole("group", "set", "copies", promise, "-C", REPOSITORY, "--yes")
        samples = []
        for number in range(_FAR_PUSHES + 1):
            oid = bed.laptop.commit(clone, f"{promise}{over} {number}")
            took = timed(lambda: accepted(bed.laptop.push(clone, home.https)))
            bed.arrives(MAIN, oid)
            fetched = timed(_fetch_by_hand, bed)
            if number:
                samples.append(1000 * took)
                fetches.append(1000 * fetched)
        found[promise] = samples
    by_hand = Row(f"git fetch by hand from the other server{over}", "ms", fetches, note="one commit, as peers fetch it")
    return [by_hand, *_rows(found, over)]


def _fetch_by_hand(bed: ThreeServers) -> None:
    """What the network and git's protocol take, as the site beside the first one fetches from it."""
    home, other = bed.servers[:2]
    made = "test -d /tmp/by-hand.git || git init -q --bare /tmp/by-hand.git"
    script = f"{made}; git --git-dir=/tmp/by-hand.git fetch -q {home.https} {MAIN}:{MAIN}"
    other.host.sh(script, user="git")


def _rows(found: dict[str, list[float]], over: str = "") -> list[Row]:
    first = f"{_name('1')}{over}"
    return [
        Row(f"{_name(promise)}{over}", "ms", samples, _beside(first, promise)) for promise, samples in found.items()
    ]


def _beside(first: str, promise: str) -> str | None:
    return None if promise == "1" else first
