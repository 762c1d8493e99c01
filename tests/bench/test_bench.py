"""``make bench``: what a push costs, and how soon the other sites have it. It measures and promises nothing.

All kinds of push take turns in one run, so that a busy minute of this machine is every kind's. The table goes to standard
output, the same numbers as JSON to .cache/bench.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Put
from tests.bench.bed import FSYNC, Bed
from tests.support.etcd import etcd_version
from tests.support.git import git

_ROUNDS: Final = 40
_WARM_UP: Final = 3
_SWAPS: Final = 10  # raw transactions in a round
_SECONDS: Final = 90.0  # a slow machine does fewer rounds

_PLAIN: Final = "push, no hooks"
_WITH: Final = "push, piehole and its controller"
_WITHOUT: Final = "push, piehole without a controller"
_FETCH: Final = "one git fetch by hand"
_LAG: Final = "arrival at both other sites, after the push returned"
_SWAP: Final = "etcd: one compare and one put, warm connection"
# Each row is told beside the one that it is fair to compare it with.
_BESIDE: Final = {_WITH: _PLAIN, _WITHOUT: _PLAIN, _LAG: _FETCH}
_ROWS: Final = (_PLAIN, _WITH, _WITHOUT, _FETCH, _LAG, _SWAP)


@pytest.fixture
def bed(etcd_binary: Path, tmp_path: Path) -> Iterator[Bed]:
    with ExitStack() as ends:
        yield Bed(tmp_path, etcd_binary, ends)


@pytest.mark.bench
@pytest.mark.timeout(150)
def test_bench(bed: Bed, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seconds = _measure(bed)
    rows = {name: _summary(seconds, name) for name in _ROWS}
    about = _about(etcd_binary, tmp_path) | _round_trips(bed)
    cache = pytestconfig.rootpath / ".cache"
    cache.mkdir(exist_ok=True)
    (cache / "bench.json").write_text(json.dumps({"format": 1, "about": about, "rows": rows}, indent=2) + "\n")
    _print(about, rows)


def _measure(bed: Bed) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in _ROWS}
    etcd = Etcd([bed.etcd.endpoint])
    started = time.monotonic()
    for number in range(_WARM_UP + _ROUNDS):
        if number == _WARM_UP:
            seconds = {name: [] for name in _ROWS}
        if number > _WARM_UP and time.monotonic() - started > _SECONDS:
            break
        for name in random.sample((_PLAIN, _WITH, _WITHOUT), 3):
            if name == _WITH:
                oid, took = bed.home.push_one_commit()
                seconds[_LAG].append(bed.arrival(oid))
                seconds[_FETCH].append(bed.fetch_by_hand())
            else:
                _, took = (bed.plain if name == _PLAIN else bed.alone).push_one_commit()
            seconds[name].append(took)
        seconds[_SWAP] += [_swap(etcd) for _ in range(_SWAPS)]
    etcd.close()
    return seconds


def _round_trips(bed: Bed) -> dict[str, str]:
    """What one push asks of etcd, as etcd counts it; the progress that is published once a second is held up meanwhile."""
    told = {}
    for name, site in (("with", bed.single), ("without", bed.alone)):
        with ExitStack() as held:
            if site is bed.single:
                lock = held.enter_context((site.repository / "piehole" / "state.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            before = Counter(bed.quiet_etcd.calls())
            site.push_one_commit()
            counted = Counter(bed.quiet_etcd.calls()) - before
        told[f"etcd, {name}"] = " + ".join(f"{count} {method}" for method, count in sorted(counted.items())) + " a push"
    return told


def _swap(etcd: Etcd) -> float:
    key = b"/bench/key"
    found = etcd.range(key, deadline=Deadline(5)).kvs
    compare = Compare(key, mod_revision=found[0].mod_revision if found else 0)
    started = time.monotonic()
    result = etcd.txn([compare], [Put(key, b"0" * 40)], deadline=Deadline(5))
    took = time.monotonic() - started
    assert result.succeeded
    return took


def _summary(seconds: dict[str, list[float]], name: str) -> dict[str, Any]:
    found = seconds[name]
    beside = _BESIDE.get(name)
    return {
        "median_ms": round(statistics.median(found) * 1000, 2),
        "p95_ms": round(statistics.quantiles(found, n=20, method="inclusive")[-1] * 1000, 2),
        "samples": len(found),
        "beside": beside,
        "ratio": round(statistics.median(found) / statistics.median(seconds[beside]), 2) if beside else None,
    }


def _about(etcd_binary: Path, folder: Path) -> dict[str, Any]:
    packages = ("piehole", "etcd3gw", "dulwich")
    return {
        "git": git(folder, "version").stdout.split()[-1],
        "etcd": etcd_version(etcd_binary),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "file_system": _file_system(folder),
        "core.fsync": f"{FSYNC} in every repository; etcd with fsync",
        "peers": "paths on this machine; one etcd member, over loopback",
    }


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def _print(about: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    lines = ["", *(f"{name + ':':14}{value}" for name, value in about.items()), ""]
    lines.append(f"{'milliseconds':54}{'median':>9}{'p95':>9}{'samples':>9}  ratio")
    for name, row in rows.items():
        ratio = f"{row['ratio']:.1f} x {row['beside']}" if row["beside"] else ""
        lines.append(f"{name:54}{row['median_ms']:9.1f}{row['p95_ms']:9.1f}{row['samples']:9}  {ratio}".rstrip())
    print("\n".join(lines))  # noqa: T201 -- this is what the measurement is for
