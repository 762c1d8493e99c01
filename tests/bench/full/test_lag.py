"""Replication lag: on a large repository beside `git fetch` by hand, and at ten pushes a second for a minute."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.bench.bed import INSTALLED
from tests.bench.full.kit import FSYNC, MAIN, arrival, machine, push, save, timed, write_history
from tests.bench.report import Report, Row
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.groups import MakeGroup

_COMMITS: Final = 62_500  # of four objects each
_REFS: Final = 16_000
_ROUNDS: Final = 20
_WARM_UP: Final = 2

_RATE: Final = 10.0  # pushes a second
_SECONDS: Final = 60.0
_BRANCHES: Final = 5  # pushed to in turns, since one pusher alone is not that quick
_PATIENCE: Final = 15.0

Done = tuple[str, str, float, float]  # branch, oid, when a push of it returned, how long it took


@pytest.mark.bench_full
@pytest.mark.timeout(1800)
def test_lag_on_a_large_repository(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    origin = make_bare(tmp_path / "origin.git")
    commits = write_history(origin, _COMMITS)
    chosen = [commits[n * len(commits) // _REFS] for n in range(_REFS - 1)]
    lines = (f"create refs/heads/topic/{n:05} {oid}\n" for n, oid in enumerate(chosen))
    git(origin, "update-ref", "--stdin", stdin="".join(lines))
    git(origin, "config", "core.fsync", FSYNC)
    reverse = "pack.writeReverseIndex"
    git(origin, "config", reverse, INSTALLED[reverse])  # as if all was packed after `piehole install`
    for upkeep in (
        ["pack-refs", "--all"],
        ["repack", "-adq"],
        ["commit-graph", "write", "--reachable", "--no-progress"],
    ):
        git(origin, *upkeep)
    mirror, single, bare = (tmp_path / f"{name}.git" for name in ("mirror", "single", "bare"))
    group = make_group(0, started=False, etcd=fsync_etcd)
    for name in "ab":
        shutil.copytree(origin, group.add(name).repository)
    for fetcher in (mirror, single, bare):
        shutil.copytree(origin, fetcher)
    shutil.rmtree(bare / "objects" / "info")
    took = {site.name: timed(site.build) for site in group}
    group.start()
    oids = write_history(origin, _ROUNDS + _WARM_UP)
    found: dict[str, list[float]] = {name: [] for name in ("push", "arrival", "mirror", "single", "bare")}
    every, one = "+refs/*:refs/*", f"+{MAIN}:{MAIN}"
    kinds = ((mirror, "mirror", every), (single, "single", one), (bare, "bare", every))
    for oid in oids:
        found["push"].append(1000 * push(origin, group[0].repository, f"{oid}:{MAIN}"))
        found["arrival"].append(1000 * arrival([group[1].repository], MAIN, oid))
        source = str(group[0].repository)
        for fetcher, name, spec in kinds:
            found[name].append(1000 * timed(git, fetcher, "fetch", "--quiet", source, spec))
    counted = git(group[1].repository, "count-objects", "-v").stdout.split()
    size = f"{counted[counted.index('in-pack:') + 1]} objects, {_REFS:,} refs"
    report = Report(about=machine(etcd_binary, tmp_path) | {"repository": size})
    samples = {name: of[_WARM_UP:] for name, of in found.items()}
    beside = {
        "mirror": "git fetch of all refs by hand",
        "single": "git fetch of the one branch by hand",
        "bare": "git fetch of all refs by hand, no commit-graph",
    }
    report.rows = [
        *(Row(name, "ms", samples[kind]) for kind, name in beside.items()),
        *(
            Row(f"arrival, after the push returned{more}", "ms", samples["arrival"], beside[kind],
                target=("times faster than beside", 12), note="at one other site")
            for kind, more in (("mirror", ""), ("single", ", once more"), ("bare", ", and again"))
        ),
        Row("push of one commit to the large repository", "ms", samples["push"]),
        Row("founding install, adopting all refs", "s", [took["a"]]),
        Row("joining install of a copy", "s", [took["b"]]),
    ]  # fmt: skip
    save(report, "lag-large", pytestconfig.rootpath)


@pytest.mark.bench_full
@pytest.mark.timeout(600)
def test_lag_at_a_steady_rate(
    make_group: MakeGroup, fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    origin = make_bare(tmp_path / "origin.git")
    write_history(origin, 1)
    group = make_group(3, etcd=fsync_etcd)
    branches = [f"refs/heads/b{number}" for number in range(_BRANCHES)]
    for branch in branches:
        git(origin, "branch", branch.removeprefix("refs/heads/"), MAIN)
    count = int(_RATE * _SECONDS)
    oids = {branch: write_history(origin, count // _BRANCHES, branch=branch) for branch in branches}
    push(origin, group[0].repository, *(f"{oids[branch][0]}^:{branch}" for branch in branches))
    group.in_step()
    others = [site.repository for site in group.sites[1:]]
    returned: list[Done] = []
    with ThreadPoolExecutor(_BRANCHES) as pool:
        started = time.monotonic()
        pushing = [
            pool.submit(_push, origin, group[0].repository, branch, oids[branch], started + number / _RATE)
            for number, branch in enumerate(branches)
        ]
        seen = _watch(others, {branch: of[-1] for branch, of in oids.items()}, pushing)
        for one in pushing:
            returned += one.result()
    lags = sorted((at - started, 1000 * lag) for at, lag in _lags(returned, oids, seen))
    ended = max(at for at, _ in lags)
    report = Report(
        about=machine(etcd_binary, tmp_path) | {"rate": f"{len(lags) / ended:.1f} pushes a second, for {ended:.0f} s"}
    )
    third = ended / 3
    parts = {
        part: [lag for at, lag in lags if n * third <= at < (n + 1) * third + 0.001]
        for n, part in enumerate(("first", "second", "last"))
    }
    report.rows = [Row("push, at ten a second", "ms", [1000 * took for *_, took in returned])]
    report.rows.append(Row("arrival at both other sites, after the push returned", "ms", [lag for _, lag in lags]))
    for part, of in parts.items():
        beside = "the same, first third" if part == "last" else None
        report.rows.append(
            Row(f"the same, {part} third", "ms", of, beside, target=("times beside", 1.2) if beside else None)
        )
    report.series = {
        "median lag of each second": [
            (float(second), median(of))
            for second in range(int(ended) + 1)
            if (of := [lag for at, lag in lags if second <= at < second + 1])
        ]
    }
    save(report, "lag-steady", pytestconfig.rootpath)


def _push(origin: Path, site: Path, branch: str, oids: Sequence[str], begin: float) -> list[Done]:
    done = []
    for number, oid in enumerate(oids):
        time.sleep(max(0.0, begin + number * _BRANCHES / _RATE - time.monotonic()))
        took = push(origin, site, f"{oid}:{branch}")
        done.append((branch, oid, time.monotonic(), took))
    return done


def _watch(
    repositories: Sequence[Path], last: dict[str, str], pushing: Sequence[Future[list[Done]]]
) -> list[dict[str, float]]:
    """For each repository, when it first showed each oid; ends when all show the last ones."""
    seen: list[dict[str, float]] = [{} for _ in repositories]
    until = float("inf")
    while time.monotonic() < until and not all(set(last.values()) <= known.keys() for known in seen):
        for known, repository in zip(seen, repositories, strict=True):
            for branch in last:
                try:
                    known.setdefault((repository / branch).read_text().strip(), time.monotonic())
                except FileNotFoundError:
                    continue
        if all(one.done() for one in pushing):
            until = min(until, time.monotonic() + _PATIENCE)
        time.sleep(0.001)
    return seen


def _lags(
    returned: Sequence[Done], oids: dict[str, list[str]], seen: Sequence[dict[str, float]]
) -> list[tuple[float, float]]:
    """When each push returned, and how long after that all others had it or a later one of its branch."""
    ended = {oid: at for _, oid, at, _ in returned}
    found = []
    for of in oids.values():
        soonest = [float("inf")] * len(seen)
        for oid in reversed(of):
            soonest = [min(best, known.get(oid, best)) for best, known in zip(soonest, seen, strict=True)]
            assert max(soonest) < float("inf"), f"{oid} never arrived"
            found.append((ended[oid], max(0.0, max(soonest) - ended[oid])))
    return found
