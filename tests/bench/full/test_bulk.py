"""Bulk: a first clone of 300,000 objects, and 100,000 refs adopted, looked over, brought to an empty site, and changed by ten thousand."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.bench.full import bulk
from tests.bench.full.bulk import Site
from tests.bench.full.kit import MAIN, machine, save, timed, write_history
from tests.bench.report import Report, Row
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.process import ManagedProcess
from tests.support.wait import until

_OBJECTS: Final = 300_000
_REFS: Final = 100_000
_CHANGED: Final = 10_000
_HISTORY: Final = 1_000
_CLONES: Final = 3
_LOOKS: Final = 5
_PATIENCE: Final = 300.0

_CLONE: Final = "first clone: git clone --mirror"
_SYNC: Final = "first clone: piehole reconcile --once"
_SERVED: Final = "first clone: piehole controller"
_OWN: Final = "first clone: memory of the controller itself"
_LIST: Final = "many refs: git for-each-ref"
_PUTS: Final = "many refs: etcd, bare puts"
_ADOPT: Final = "many refs: adopted by piehole install"
_NOOP: Final = "many refs: nothing to do, piehole reconcile --once"
_MIRROR: Final = "many refs: git clone --mirror of them"
_FETCH_ALL: Final = "many refs: git fetch of them into an empty repository"
_FIRST: Final = "many refs: into an empty site, piehole reconcile --once"
_FETCH: Final = "changed refs: git fetch by hand"
_FETCHES: Final = "changed refs: fetches"
_TRANSACTIONS: Final = "changed refs: git's transactions on refs"
_CHANGE: Final = "changed refs: piehole reconcile --once"


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_bulk(fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    about = machine(etcd_binary, tmp_path)
    report = Report(about)
    _first_clone(report, fsync_etcd, tmp_path)
    _many_refs(report, fsync_etcd, tmp_path)
    save(report, "bulk", pytestconfig.rootpath)


# ---- many objects


def _first_clone(report: Report, etcd: EtcdProcess, folder: Path) -> None:
    a = Site(folder / "a", "objects", etcd)
    tip = bulk.write_objects(a.repository, _OBJECTS)
    a.install()
    counted = git(a.repository, "rev-list", "--objects", "--all", "--count").stdout.strip()
    size = sum(path.stat().st_size for path in (a.repository / "objects" / "pack").iterdir()) / 1e6
    report.about["first clone"] = f"{counted} objects, {size:.0f} MB"
    clones, syncs = [], []
    for number in range(_CLONES):
        clones.append(bulk.mirror(a.repository, folder / f"mirror-{number}"))
        site = Site(folder / f"b{number}", "objects", etcd)
        site.install()
        syncs.append(site.reconcile())
        assert git(site.repository, "rev-parse", MAIN).stdout.strip() == tip
        _forget(site, folder / f"mirror-{number}")
    served, peak = _by_controller(Site(folder / "served", "objects", etcd), folder, tip)
    report.rows += [
        Row(_CLONE, "s", clones, note="file://"),
        Row(_SYNC, "s", syncs, beside=_CLONE, target=("times beside", 1.2), note="the start of Python included"),
        Row(_SERVED, "s", [served], beside=_CLONE, target=("times beside", 1.2), note="from the start of its process"),
        Row(_OWN, "MB", [peak.own], target=("at most", 150), note="VmHWM, without git's children"),
        *(Row(f"first clone: memory of {name}", "MB", [mb], note="VmHWM, pages of mapped packs included")
          for name, mb in sorted(peak.children.items()) if name),
    ]  # fmt: skip


def _by_controller(site: Site, folder: Path, tip: str) -> tuple[float, bulk.Peak]:
    """The seconds from a controller's start until the branch is there, and what memory it took."""
    site.install()
    started = time.monotonic()
    command = [sys.executable, "-m", "piehole.cli", "controller", "--root", str(site.repository.parent)]
    controller = ManagedProcess(command, folder / "controller.log")
    try:
        with bulk.watched(controller.pid) as peak:
            path = site.repository / MAIN
            until(lambda: path.exists() or not controller.alive, _PATIENCE, "the branch is there")
            took = time.monotonic() - started
            assert path.read_text().strip() == tip, controller.tail()
    finally:
        controller.end()
    return took, peak


def _forget(site: Site, *more: Path) -> None:
    site.piehole("leave", "--yes")
    for path in (site.repository, *more):
        shutil.rmtree(path)


# ---- many refs


def _many_refs(report: Report, etcd: EtcdProcess, folder: Path) -> None:
    a = Site(folder / "many-a", "many", etcd)
    commits = write_history(a.repository, _HISTORY)
    bulk.write_refs(a.repository, _REFS, commits)
    puts = bulk.put_refs(etcd, _REFS)
    adopted = a.install()
    a.reconcile()
    listed, looked = [], []
    for _ in range(_LOOKS):
        listed.append(timed(lambda: git(a.repository, "for-each-ref")))
        looked.append(a.reconcile())
    report.rows += [
        Row(_LIST, "s", listed),
        Row(_PUTS, "s", [puts], note="transactions of 4,000, no compares; fsync"),
        Row(_ADOPT, "s", [adopted], beside=_PUTS, target=("at most", 10), note="the whole command, --max-txn-ops=8192"),
        Row(_NOOP, "s", looked, beside=_LIST, target=("at most", 2), note="the whole command"),
    ]
    b = Site(folder / "many-b", "many", etcd)
    b.install()
    by_hand = make_bare(folder / "by-hand.git")
    git(by_hand, "config", "core.fsync", "all")
    git(by_hand, "config", "core.logAllRefUpdates", "always")
    mirrored = bulk.mirror(a.repository, folder / "many-mirror")
    fetched = bulk.fetch(a.repository, by_hand)
    first = b.reconcile()
    assert bulk.live_refs(b.repository) == bulk.live_refs(a.repository)
    report.rows += [
        Row(_MIRROR, "s", [mirrored], note="all refs go into one file"),
        Row(_FETCH_ALL, "s", [fetched], note="a file and a reflog for each ref"),
        Row(_FIRST, "s", [first], beside=_FETCH_ALL, note="under the locks of all of them, then all in one file"),
    ]
    bulk.advance(a.repository, _CHANGED)
    a.clobber()
    changed, fetches, transactions = b.reconcile_counted()
    assert bulk.live_refs(b.repository) == bulk.live_refs(a.repository)
    report.rows += [
        Row(_FETCH, "s", [bulk.fetch(a.repository, by_hand)]),
        Row(_CHANGE, "s", [changed], beside=_FETCH, note="the whole command; 100,000 refs looked over"),
        Row(_FETCHES, "count", [fetches], target=("at most", 1)),
        Row(_TRANSACTIONS, "count", [transactions], target=("at most", 1)),
    ]
