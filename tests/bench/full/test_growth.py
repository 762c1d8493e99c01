"""Growth: what a push, its arrival and a reconcile with nothing to do cost against refs, history, sites and concurrent pushers.

(Against repositories: test_many.py has that series.) Each scenario makes its sizes anew and ends with a series for each line of its
plot, and with the exponent between neighbouring sizes: 0 is flat, 1 is proportional, 2 would be quadratic.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from controller.etcd_view import EtcdAddress, EtcdView
from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Put
from piehole.group.replica import Replica
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.reconcile import Reconciler
from tests.bench.full.kit import MAIN, arrival, machine, push, save, timed, write_history
from tests.bench.report import Report, Row
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site

_REFS: Final = (1, 10, 100, 1_000, 10_000, 100_000)
_HISTORY: Final = (1, 10, 100, 1_000, 10_000, 50_000)
_SITES: Final = (2, 3, 5, 7, 9)
_PUSHERS: Final = (1, 2, 4, 8, 16, 32, 64)
_ROUNDS: Final = 12
_WARM_UP: Final = 2
_PUSHES: Final = 192  # of all pushers together
_PUTS: Final = 4_000  # in one transaction


@contextmanager
def _fresh(make_group: MakeGroup, etcd: EtcdProcess, name: str) -> Iterator[tuple[Group, Path]]:
    """A group without sites yet, and the repository that they are copied from; nothing stays of either."""
    group = make_group(0, started=False, etcd=etcd, name=name)
    yield group, make_bare(group.folder / "origin.git")
    group.end()
    shutil.rmtree(group.folder)


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_growth_with_refs(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    report = Report(about=machine(etcd_binary, tmp_path))
    for size in _REFS:
        with _fresh(make_group, fsync_etcd, f"refs{size}") as (group, origin):
            tip = write_history(origin, 100)[-1]
            _install(group, origin, 2)
            _add_refs(group, fsync_etcd, size - 1, tip)
            _one_by_one(report, group, origin, "refs", size)
    _bends(report)
    save(report, "growth-refs", pytestconfig.rootpath)


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_growth_with_history(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    report = Report(about=machine(etcd_binary, tmp_path))
    for size in _HISTORY:
        with _fresh(make_group, fsync_etcd, f"history{size}") as (group, origin):
            write_history(origin, size)
            git(origin, "repack", "-adq")
            _install(group, origin, 2)
            _one_by_one(report, group, origin, "commits", size)
    _bends(report)
    save(report, "growth-history", pytestconfig.rootpath)


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_growth_with_sites(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Arrival is that at the last of all sites, which share this machine's processors."""
    report = Report(about=machine(etcd_binary, tmp_path))
    for size in _SITES:
        with _fresh(make_group, fsync_etcd, f"sites{size}") as (group, origin):
            write_history(origin, 100)
            _install(group, origin, size)
            _one_by_one(report, group, origin, "sites", size)
    _bends(report)
    save(report, "growth-sites", pytestconfig.rootpath)


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_growth_with_pushers(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """So many push at once, each to a branch of its own; beside them the same without hooks."""
    report = Report(about=machine(etcd_binary, tmp_path))
    group = make_group(0, started=False, etcd=fsync_etcd)
    origin = make_bare(group.folder / "origin.git")
    base = write_history(origin, 1)[-1]
    _install(group, origin, 2)
    plain = make_bare(tmp_path / "plain.git")
    git(plain, "config", "core.fsync", "all")
    group.start()
    for size in _PUSHERS:
        for what, repository in (("without hooks", plain), ("", group[0].repository)):
            branches = [f"refs/heads/{size}-{number}" for number in range(size)]
            each = max(2, _PUSHES // size)
            oids = {}
            for branch in branches:
                git(origin, "update-ref", branch, base)
                oids[branch] = write_history(origin, each, branch=branch)
            push(origin, repository, "--force", *(f"{base}:{branch}" for branch in branches))
            with ThreadPoolExecutor(size) as pool:
                began = time.monotonic()
                took = [
                    one
                    for of in pool.map(lambda b, to=repository, of=oids: _pushes(origin, to, b, of[b]), branches)
                    for one in of
                ]
                lasted = time.monotonic() - began
            name = f"push{', ' if what else ''}{what}"
            _tell(report, name, "ms", "pushers", size, took)
            _tell(report, f"{name}: pushes a second", "count", "pushers", size, [len(took) / lasted])
            if not what:
                last = [timed(arrival, [group[1].repository], branch, of[-1]) for branch, of in oids.items()]
                _tell(
                    report,
                    "until the other site has all, after the last push",
                    "ms",
                    "pushers",
                    size,
                    [1000 * sum(last)],
                )
            for where in (origin, repository):
                git(where, "pack-refs", "--all")
    _bends(report)
    save(report, "growth-pushers", pytestconfig.rootpath)


def _pushes(origin: Path, repository: Path, branch: str, oids: Sequence[str]) -> list[float]:
    return [1000 * push(origin, repository, f"{oid}:{branch}") for oid in oids]


def _install(group: Group, origin: Path, sites: int) -> None:
    """So many sites that have what the origin has."""
    for number in range(sites):
        site = group.add(chr(ord("a") + number))
        shutil.copytree(origin, site.repository)
        site.build()


def _add_refs(group: Group, etcd: EtcdProcess, count: int, oid: str) -> None:
    """So many refs more, everywhere, as if they had been there for long; how quickly they can be adopted is measured elsewhere."""
    names = [f"refs/heads/topic/{number:06}" for number in range(count)]
    for site in group:
        # As git pack-refs writes it. Made one by one they would be as many files, each with a reflog, and fsynced.
        git(site.repository, "pack-refs", "--all")
        packed = site.repository / "packed-refs"
        head, *known = packed.read_text().splitlines()
        lines = sorted([*known, *(f"{oid} {name}" for name in names)], key=lambda line: line.partition(" ")[2])
        packed.write_text("\n".join([head, *lines]) + "\n")
    client = Etcd([etcd.endpoint])
    for start in range(0, count, _PUTS):
        puts = [Put(group.key(name).encode(), oid.encode()) for name in names[start : start + _PUTS]]
        client.txn([], puts, deadline=Deadline(30))
    client.close()


def _one_by_one(report: Report, group: Group, origin: Path, axis: str, size: int) -> None:
    """Pushes of one commit, the arrival of each at all other sites, and reconciles of the last site with nothing to do."""
    with _reconciler(group.sites[-1]) as reconciler:
        reconciler.run()
        quiet = [1000 * timed(reconciler.run) for _ in range(5)]
    group.start()
    others = [site.repository for site in group.sites[1:]]
    pushes, arrivals = [], []
    for oid in write_history(origin, _ROUNDS + _WARM_UP):
        pushes.append(1000 * push(origin, group[0].repository, f"{oid}:{MAIN}"))
        arrivals.append(1000 * arrival(others, MAIN, oid))
    _tell(report, "push of one commit", "ms", axis, size, pushes[_WARM_UP:])
    _tell(report, "arrival", "ms", axis, size, arrivals[_WARM_UP:])
    _tell(report, "reconcile with nothing to do", "ms", axis, size, quiet)


@contextmanager
def _reconciler(site: Site) -> Iterator[Reconciler]:
    """What the controller runs, in this process."""
    with ExitStack() as ends:
        replica = Replica.open(site.repository)
        cluster = EtcdView(
            EtcdAddress.of(replica.config), lambda _groups, _fresh: None, lambda: None, lambda _error: None
        )
        ends.callback(cluster.join)
        ends.callback(cluster.stop)
        cluster.start()
        assert cluster.informer.synced.wait(60)
        group = replica.config.group
        yield Reconciler(
            replica,
            ObjectFetcher(replica, PeerHealth()),
            lambda: cluster.view(group),
            lambda: cluster.view(group).revision,
        )


def _tell(report: Report, what: str, unit: str, axis: str, size: int, samples: list[float]) -> None:
    report.rows.append(Row(f"{what}, {size:,} {axis}", unit, samples))
    report.series.setdefault(what, []).append((size, median(samples)))


def _bends(report: Report) -> None:
    """The exponents between neighbouring sizes."""
    for name, points in list(report.series.items()):
        report.series[f"exponent: {name}"] = [
            (x1, math.log(y1 / y0) / math.log(x1 / x0)) for (x0, y0), (x1, y1) in pairwise(points) if min(y0, y1) > 0
        ]
