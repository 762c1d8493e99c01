"""Replicas stay quick: after 1,000 replications of one commit each, beside repositories that were pushed to directly.

Two of those: one with git's defaults, where the objects of small pushes stay loose, and one that keeps each push as a pack
(``receive.unpackLimit=1``). git maintains both as it always does: ``git gc --auto`` at the end of each push.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.bench.full.kit import FSYNC, MAIN, arrival, disk, loose, machine, packs, push, save, timed, write_history
from tests.bench.report import Report, Row, Target
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.groups import MakeGroup

_COMMITS: Final = 1000
_BEFORE: Final = 2000  # commits that were there before, in one pack
_LOOKS: Final = 9
_WANTED: Final[Target] = ("times beside", 1.5)
_KINDS: Final = ("git's defaults", "packs kept", "replica")


def _direct(folder: Path, origin: Path, unpack_limit: int) -> Path:
    """A repository that is pushed to directly, without hooks; git's own maintenance, in the foreground."""
    repository = folder / f"direct{unpack_limit}.git"
    shutil.copytree(origin, repository)
    settings = {
        "core.fsync": FSYNC, "gc.auto": "6700", "maintenance.auto": "true", "gc.autoDetach": "false",
        "receive.unpackLimit": str(unpack_limit),
    }  # fmt: skip
    for name, value in settings.items():
        git(repository, "config", name, value)
    return repository


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_replicas_stay_quick(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    origin = make_bare(tmp_path / "origin.git")
    write_history(origin, _BEFORE)
    git(origin, "repack", "-adq")
    group = make_group(2, started=False, etcd=fsync_etcd)
    direct = [_direct(tmp_path, origin, limit) for limit in (100, 1)]
    git(origin, "push", "--quiet", str(group[0].repository), MAIN)
    group.start()
    group.in_step(timeout=60)
    oids = write_history(origin, _COMMITS)
    repositories = dict(zip(_KINDS, [*direct, group[1].repository], strict=True))
    counted: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for oid in oids:
        push(origin, group[0].repository, f"{oid}:{MAIN}")
        for repository in direct:
            push(origin, repository, f"{oid}:{MAIN}")
        arrival([group[1].repository], MAIN, oid)
        for kind, repository in repositories.items():
            counted[kind].append(float(packs(repository)))
    group[1].stop()  # it ends its maintenance first
    report = Report(about=machine(etcd_binary, tmp_path) | {"commits": f"{_COMMITS} on top of {_BEFORE}"})
    for kind in _KINDS:
        name, beside = f"packs while they came, {kind}", f"packs while they came, {_KINDS[1]}"
        target: tuple[str | None, Target | None] = (beside, _WANTED) if kind == _KINDS[-1] else (None, None)
        report.rows.append(Row(name, "count", counted[kind], target[0], target=target[1], note="after each push"))
    report.series = {f"packs, {kind}": list(enumerate(counted[kind])) for kind in _KINDS}
    _look(report, repositories, tmp_path)
    save(report, "replicas", pytestconfig.rootpath)


def _look(report: Report, repositories: dict[str, Path], folder: Path) -> None:
    """What they are like in the end; the kinds take turns."""
    found: dict[str, dict[str, list[float]]] = {}

    def add(what: str, kind: str, value: float) -> None:
        found.setdefault(what, {}).setdefault(kind, []).append(value)

    for kind, repository in repositories.items():
        add("packs at the end", kind, float(packs(repository)))
        add("files of objects", kind, float(packs(repository) + loose(repository)))
        add("disk", kind, disk(repository / "objects"))
    for number in range(_LOOKS):
        for kind, repository in repositories.items():
            add("git log --all", kind, 1000 * timed(git, repository, "log", "--all", "--oneline"))
            target = folder / f"clone{number}.git"
            asked = ("clone", "--quiet", "--mirror", f"file://{repository}", str(target))
            add("fresh clone", kind, 1000 * timed(git, folder, *asked))
            shutil.rmtree(target)
    units = {"packs at the end": "count", "files of objects": "count", "disk": "MB"}
    for what, kinds in found.items():
        for kind, samples in kinds.items():
            mine = kind == _KINDS[-1]
            row = Row(f"{what}, {kind}", units.get(what, "ms"), samples)
            if mine:
                # Of the two it is the one with packs that git has tidied up just now, as it does every 50 pushes: its best.
                wanted = None if units.get(what) == "count" else _WANTED
                row = replace(row, beside=f"{what}, {_KINDS[1]}", target=wanted)
            report.rows.append(row)
