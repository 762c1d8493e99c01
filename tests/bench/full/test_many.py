"""2,000 repositories in one controller: until it is ready, what it costs while nothing happens, and what it does to a push.

The controller of the site b serves 10, 500 and then all of them; that of the site a serves the first ten, to which the pushes
go. Beside them one more controller of b serves a single repository, and takes turns. All of it is measured once more with the page and
the metrics (--http), which are scraped every second. Then 500 others have to catch up at b, first after a restart of its controller, then
after it was stopped for a while.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.bench.full.crowd import Crowd, Pair
from tests.bench.full.kit import MAIN, Usage, arrival, machine, push, save, shows
from tests.bench.report import Report, Row, Target
from tests.support.etcd import EtcdProcess
from tests.support.groups import Group
from tests.support.process import ManagedProcess
from tests.support.wait import until
from tests.support.web import ask

_STEPS: Final = (10, 500, 2000)
_PROBES: Final = 10
_BEHIND: Final = 500  # repositories that have to catch up
_PUSHES: Final = 30
_IDLE: Final = 30.0  # seconds
_PAUSE: Final = 0.2  # seconds between pushes while others catch up
_PATIENCE: Final = 300.0
_TARGETS: Final[dict[str, Target]] = {
    "until it is ready": ("at most", 30),
    "idle": ("at most", 1),
    "memory": ("at most", 150),
    "descriptors": ("times beside", 1.2),
    "push": ("times beside", 1.2),
    "arrival": ("times beside", 1.2),
    "scrape": ("at most", 200),
    "size of a scrape": ("at most", 1000),
}
_SCRAPE_EVERY: Final = 1.0  # seconds


@dataclass
class _Bed:
    """Both sites. ``serve`` starts the controller of b."""

    folder: Path
    crowd: Crowd
    group: Group  # for its runtime folder and environment
    ends: ExitStack
    commits: Iterator[str]
    lone: Pair
    pairs: list[Pair] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)
    started: int = 0

    @property
    def probes(self) -> list[Pair]:
        return self.pairs[:_PROBES]

    def grow(self, size: int) -> None:
        """Have so many repositories at both sites."""
        numbers = range(len(self.pairs), size)
        new = [Pair(f"g{n:05}", self._place("a", size, n), self._place("b", size, n)) for n in numbers]
        self.crowd.add(new)
        self.pairs += new
        self.roots.append(self.folder / "b" / str(size))

    def serve(self, *roots: Path, options: tuple[str, ...] = ()) -> tuple[ManagedProcess, Path]:
        """Launch a controller for these folders (all of b); it, and its log."""
        self.started += 1
        log = self.folder / f"controller{self.started}.log"
        command = [sys.executable, "-m", "piehole.cli", "controller", "--log-format", "json", *options]
        for root in roots or self.roots:
            root.mkdir(parents=True, exist_ok=True)
            command += ["--root", str(root)]
        process = ManagedProcess(command, log, env=self.group.environment)
        self.ends.callback(process.end)
        return process, log

    def push(self, repository: Path) -> tuple[str, float]:
        """One push of one commit; its oid, and the milliseconds that it took."""
        oid = next(self.commits)
        return oid, 1000 * push(self.crowd.origin, repository, f"+{oid}:{MAIN}")

    def _place(self, site: str, size: int, number: int) -> Path:
        return self.folder / site / str(size) / f"{number:05}.git"


@pytest.mark.bench_full
@pytest.mark.timeout(3600)
def test_many_repositories(
    fsync_etcd: EtcdProcess, etcd_binary: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    report = Report(about=machine(etcd_binary, tmp_path))
    with ExitStack() as ends:
        crowd = Crowd(tmp_path, fsync_etcd, commits=5000)
        ends.callback(crowd.close)
        group = Group(tmp_path / "run", [fsync_etcd.endpoint], crowd.prefix)
        ends.callback(group.end)
        lone = Pair("lone", tmp_path / "a" / "lone" / "one.git", tmp_path / "b" / "lone" / "one.git")
        crowd.add([lone])
        bed = _Bed(tmp_path, crowd, group, ends, iter(crowd.commits), lone)
        bed.serve(lone.a.parent, tmp_path / "a" / str(_PROBES))
        bed.serve(lone.b.parent)
        process = None
        for size in _STEPS:
            if process is not None:
                _end(process)
            bed.grow(size)
            process, log = bed.serve()
            _until_rest(report, process, log, size)
            _idle(report, process, size)
            _pushes(report, bed, size)
        assert process is not None
        _end(process)
        _with_http(report, bed)
        behind = bed.pairs[-_BEHIND:]
        crowd.move_at_a(behind, next(bed.commits))
        process, _ = bed.serve()
        _catch_up(report, bed, behind, "restarted")
        _settled(process)
        process.pause()
        crowd.move_at_a(behind, next(bed.commits))
        process.resume()
        _catch_up(report, bed, behind, "stopped for a while")
    save(report, "many", pytestconfig.rootpath)


def _end(process: ManagedProcess) -> None:
    process.signal(signal.SIGTERM)
    process.wait(60)


def _tell(
    report: Report, what: str, size: int, unit: str, samples: list[float], note: str = "", beside: str = ""
) -> None:
    """A row; that of all repositories has the target."""
    largest = size == _STEPS[-1]
    known = what.removesuffix(" with --http")
    if largest and not beside:
        beside = f"{known}, {_STEPS[-1 if known != what else -2]:,} served"
    target = _TARGETS.get(known) if largest else None
    report.rows.append(Row(f"{what}, {size:,} served", unit, samples, beside or None, target=target, note=note))
    report.series.setdefault(what, []).append((size, report.rows[-1].median))


def _until_rest(report: Report, process: ManagedProcess, log: Path, size: int) -> None:
    began = time.monotonic()
    until(lambda: '"controller.started"' in log.read_text() or not process.alive, _PATIENCE, "the controller is ready")
    assert process.alive, process.tail()
    _tell(report, "until it is ready", size, "s", [time.monotonic() - began], "all are served: hooks may ask")
    ended = _settled(process)
    _tell(
        report, "until it rests", size, "s", [max(ended - began, 0.0)], "all have been reconciled once; to one second"
    )
    used = Usage.of(process.pid)
    _tell(report, "processor until then", size, "s", [used.own + used.children])
    _tell(report, "of that, its own", size, "s", [used.own])


def _settled(process: ManagedProcess) -> float:
    """Wait until it has nothing more to do, two seconds with under a fifth of a processor; when that began."""
    last = Usage.of(process.pid)
    quiet, rests = 0, last.at
    while quiet < 2:
        time.sleep(1)
        now = Usage.of(process.pid)
        if now.percent_since(last) < 20:
            quiet += 1
        else:
            quiet, rests = 0, now.at
        last = now
    return rests


def _idle(report: Report, process: ManagedProcess, size: int, shown: str = "") -> None:
    before = Usage.of(process.pid)
    time.sleep(_IDLE)
    after = Usage.of(process.pid)
    _tell(report, f"idle{shown}", size, "% of a processor", [after.percent_since(before)], f"over {_IDLE:g} s")
    _tell(report, f"memory{shown}", size, "MB", [after.resident], "resident")
    _tell(report, f"memory at its most{shown}", size, "MB", [after.peak], "resident")
    _tell(report, f"descriptors{shown}", size, "count", [float(after.descriptors)])


def _pushes(report: Report, bed: _Bed, size: int, shown: str = "") -> None:
    """Pushes to the controller that serves so many, and pushes elsewhere until it has them; in turns with the lone one."""
    pairs = {"alone": bed.lone, "among others": bed.pairs[0]}
    # All controllers must have found theirs: what comes before is no push's cost.
    places = [at for pair in pairs.values() for at in (pair.a, pair.b)]
    until(lambda: all((at / "piehole" / "controller").exists() for at in places), 30, "both sites serve it")
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(_PUSHES + 2):
        for where, pair in pairs.items():
            oid, took = bed.push(pair.b)
            arrival([pair.a], MAIN, oid)
            oid, _ = bed.push(pair.a)
            came = 1000 * arrival([pair.b], MAIN, oid)
            if number >= 2:
                found.setdefault(("push", where), []).append(took)
                found.setdefault(("arrival", where), []).append(came)
    for what in ("push", "arrival"):
        lone = f"{what}, one served, in turns with {size:,}{shown}"
        report.rows.append(Row(lone, "ms", found[what, "alone"]))
        _tell(report, f"{what}{shown}", size, "ms", found[what, "among others"], beside=lone)


def _with_http(report: Report, bed: _Bed) -> None:
    """The same of a controller that shows what it does, while somebody looks."""
    process, log = bed.serve(options=("--http", "127.0.0.1:0"))
    size = len(bed.pairs)
    until(lambda: '"controller.started"' in log.read_text() or not process.alive, _PATIENCE, "the controller is ready")
    _settled(process)
    events = (json.loads(line) for line in log.read_text().splitlines() if "http.listening" in line)
    port = int(next(events)["http"].rpartition(":")[2])
    scrapes: list[tuple[float, int]] = []
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(_SCRAPE_EVERY):
            began = time.monotonic()
            size = len(ask(port, "/metrics").body)
            scrapes.append((1000 * (time.monotonic() - began), size))

    scraper = threading.Thread(target=scrape)
    _idle(report, process, size, shown=" with --http")
    scraper.start()
    _pushes(report, bed, size, shown=" with --http")
    stop.set()
    scraper.join()
    _tell(report, "scrape", size, "ms", [took for took, _ in scrapes], "one a second, during pushes, too")
    _tell(report, "size of a scrape", size, "kB", [length / 1000 for _, length in scrapes])
    _end(process)


def _catch_up(report: Report, bed: _Bed, behind: list[Pair], when: str) -> None:
    """Push to the probes until all who are behind have caught up; the pushes' arrival from when their repository is served."""
    began = time.monotonic()
    ref = bed.pairs[-1].a / MAIN
    target = ref.read_text().strip()
    waiting = list(behind)
    early: list[float] = []
    arrivals: list[float] = []
    number = 0
    while waiting:
        assert time.monotonic() - began < _PATIENCE, f"{len(waiting)} never catch up"
        probe = bed.probes[number % len(bed.probes)]
        number += 1
        served = (probe.b / "piehole" / "controller").exists()
        oid, _ = bed.push(probe.a)
        (arrivals if served else early).append(1000 * arrival([probe.b], MAIN, oid, _PATIENCE))
        waiting = [pair for pair in waiting if not shows(pair.b, MAIN, target)]
        time.sleep(_PAUSE)
    name = f"{len(behind)} catch up, {when}"
    report.rows.append(Row(f"{name}: until all have", "s", [time.monotonic() - began]))
    if early:
        report.rows.append(Row(f"{name}: a push before its repository is served", "ms", early))
    if arrivals:
        report.rows.append(
            Row(f"{name}: arrival of a fresh push elsewhere", "ms", arrivals, target=("p95 at most", 1000))
        )
