"""``make bench``: what piehole costs beside what it is fair to compare it with. It measures and promises nothing.

The table goes to standard output, the same numbers as JSON to .cache/bench.json, the plots to .cache/bench/.
PIEHOLE_TEST_BENCH_SHARE=0.1 plays a tenth of it, to see that it works.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from tests.bench import many_refs, page, plots, reads, starting, steady, turns, within
from tests.bench.bed import FSYNC, Bed
from tests.bench.fetchers import Grokmirror
from tests.bench.report import Report, Row
from tests.support.etcd import etcd_version
from tests.support.git import git

SHARE: Final = float(os.environ.get("PIEHOLE_TEST_BENCH_SHARE", "1"))
_ROUNDS: Final = 80
_MOST_SECONDS: Final = 150.0
_REFS: Final = 1000
_REFS_REPETITIONS: Final = 3
_STEADY_SECONDS: Final = 20.0
_STEADY_RATE: Final = 10.0
_TRACED: Final = 15
_STARTS: Final = 20
_GROK_REPETITIONS: Final = 3


@pytest.fixture
def bed(etcd_binary: Path, tmp_path: Path) -> Iterator[Bed]:
    with ExitStack() as ends:
        yield Bed(tmp_path, etcd_binary, ends)


@pytest.mark.bench
@pytest.mark.timeout(1200)
def test_bench(bed: Bed, etcd_binary: Path, tmp_path: Path) -> None:
    report = Report(_about(etcd_binary, tmp_path))
    report.rows += turns.measure(bed, _share(_ROUNDS), _MOST_SECONDS)
    report.about |= _round_trips(bed)
    report.rows += within.measure(bed, _share(_TRACED))
    report.rows += starting.measure(bed, _share(_STARTS))
    with ExitStack() as ends:
        report.rows += reads.measure(bed, _share(_ROUNDS), ends)
    _measure_grokmirror(report, tmp_path)
    _measure_steady(report, bed)
    rows, given_up = many_refs.measure(bed, _share(_REFS), _REFS_REPETITIONS)
    report.rows += rows
    report.rows.sort(key=_group)
    page.FOUND.parent.mkdir(exist_ok=True)
    page.FOUND.write_text(report.to_json())
    plots.draw(report, page.FOUND_PLOTS)
    _print(report, given_up)


def _group(row: Row) -> int:
    """Rows of one kind stand together; within a kind they stay in the order of their making."""
    kinds = ("push: ", "lag: ", "lag at ", "fetch of nothing: ", "start: ", " new refs, ", plots.WITHIN, "")
    return next(number for number, kind in enumerate(kinds) if kind in row.name)


def _share(count: int) -> int:
    return max(2, round(count * SHARE))


def _measure_grokmirror(report: Report, folder: Path) -> None:
    if not Grokmirror.is_there():
        report.about["grokmirror"] = "not installed, so not measured"
        return
    mirror = Grokmirror(folder / "grokmirror")
    lags = [1000 * mirror.lag() for _ in range(_GROK_REPETITIONS)]
    note = f"grok-manifest and grok-pull, run at once by hand; core.fsync={FSYNC}"
    report.rows.append(Row("lag: grokmirror, 1 site", "ms", lags, beside=turns.BY_HAND, note=note))
    report.about["grokmirror"] = version("grokmirror")


def _measure_steady(report: Report, bed: Bed) -> None:
    mirror = "mirror hook in the background"
    found = {
        name: steady.run(server, others, _STEADY_SECONDS * SHARE, _STEADY_RATE)
        for name, server, others in (
            ("piehole", bed.home, bed.others),
            (mirror, bed.background, bed.background.others),
        )
    }
    for name, run in found.items():
        note = f"{run.rate:.1f} pushes a second were made; {run.missing} of {len(run.lags)} had not arrived in 10 s"
        beside = f"lag at {_STEADY_RATE:.0f} pushes a second: {mirror}" if name != mirror else None
        lags = [1000 * lag for _, lag in run.lags]
        report.rows.append(
            Row(f"lag at {_STEADY_RATE:.0f} pushes a second: {name}", "ms", lags, beside=beside, note=note)
        )
        report.series[f"steady: {name}"] = run.by_second()


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
        calls = " + ".join(f"{count} {method}" for method, count in sorted(counted.items()))
        told[f"etcd calls, {name} controller"] = f"{calls} a push"
    return told


def _about(etcd_binary: Path, folder: Path) -> dict[str, str]:
    return {
        "git": git(folder, "version").stdout.split()[-1],
        "etcd": etcd_version(etcd_binary),
        "python": platform.python_version(),
        **{name: version(name) for name in ("piehole", "etcd3gw", "dulwich")},
        "kernel": platform.release(),
        "processors": str(os.cpu_count()),
        "file system": _file_system(folder),
        "core.fsync": f"{FSYNC} in every bare repository; etcd with fsync",
        "peers": "paths on this machine; one etcd member, over loopback",
    }


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def _print(report: Report, given_up: list[str]) -> None:
    lines = ["", report.table(), *given_up, ""]
    if page.ACCEPTED.exists():
        moved = report.compare(Report.from_json(page.ACCEPTED.read_text()))
        lines += ["Since the accepted run:", *(moved or ["nothing moved by more than the noise."])]
    else:
        lines.append("There is no accepted run to compare it with (make bench ACCEPT=1 takes this one).")
    print("\n".join(lines))  # noqa: T201 -- this is what the measurement is for
