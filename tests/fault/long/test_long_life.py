"""Under mixed load for a long time, nothing that a controller or a repository occupies grows.

PIEHOLE_TEST_LONG_SECONDS sets how long (1200), PIEHOLE_TEST_LONG_PUSHES how many pushes must have been accepted (10000).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.fault.long.samples import Sample, plot, sample, table
from tests.support import git
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until

_PUSHERS: Final = 5
_EVERY: Final = 5.0  # seconds between two samples
_RSS_MB: Final = (
    6.0  # of all controllers: what the interpreter's own allocator may still settle after the first quarter
)


class Pusher:
    """One user: fast-forwards of a branch, and in turn a forced push, a creation and a deletion, at alternating sites."""

    def __init__(self, group: Group, number: int, commits: int) -> None:
        self.work = group[number % len(group.sites)].clone(f"pusher{number}")
        self.sites = list(group)
        self.branch = f"refs/heads/p{number}"
        self.commits = _chain(self.work, commits)
        self.last: Site | None = None
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []

    def run(self, stop: threading.Event) -> None:
        for number, oid in enumerate(self.commits):
            if stop.is_set():
                return
            # Own branches, and nobody goes to a site that has not got the branch yet: what is measured is a long life, not races.
            site = self.sites[0 if number < 2 else (number // 50) % len(self.sites)]
            if site is not self.last:
                self._wait_for(site)
            refspecs = [f"{oid}:{self.branch}"]
            if number % 10 == 4:
                refspecs.append(f"{oid}:{self.branch}-side")
            if number % 10 == 9:
                refspecs.append(f":{self.branch}-side")
            if number % 25 == 24:
                refspecs = [f"+{self.commits[number - 3]}:{self.branch}"]
            self._push(site.url, refspecs)
            self.last = site

    def _wait_for(self, site: Site) -> None:
        """Until the site shows of this pusher what the last one did."""
        last, names = self.last, (self.branch, f"{self.branch}-side")
        if last is not None:
            until(
                lambda: all(last.refs().get(name) == site.refs().get(name) for name in names), 60, "the branch arrives"
            )

    def _push(self, url: str, refspecs: Sequence[str]) -> None:
        done = subprocess.run(
            ["git", "push", "--quiet", "--atomic", "--force", url, *refspecs],
            cwd=self.work,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.outcomes["accepted" if done.returncode == 0 else "refused"] += 1
        if done.returncode:
            self.faults.append(done.stderr[-300:])


def _chain(work: Path, count: int) -> list[str]:
    """So many commits, one upon the other, made by one process."""
    lines = []
    for number in range(count):
        text = f"{number}"
        lines.append(
            f"commit refs/heads/chain\nmark :{number + 1}\ncommitter A <a@example.org> {1700000000 + number} +0000\n"
        )
        lines.append(f"data {len(text)}\n{text}\n")
        lines.append(f"M 100644 inline file\ndata {len(text)}\n{text}\n\n")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=work, input="".join(lines).encode(), check=True, timeout=120)
    return list(reversed(git.git(work, "rev-list", "refs/heads/chain").stdout.split()))


def _sampled(group: Group, pushers: Sequence[Pusher], seconds: float) -> list[Sample]:
    stop = threading.Event()
    threads = [threading.Thread(target=one.run, args=(stop,)) for one in pushers]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    samples = []
    try:
        while (now := time.monotonic() - began) < seconds and any(thread.is_alive() for thread in threads):
            samples.append(sample(group.sites, now, sum(one.outcomes["accepted"] for one in pushers)))
            time.sleep(_EVERY)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return samples


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_nothing_grows_with_the_pushes(make_group: MakeGroup, pytestconfig: pytest.Config) -> None:
    seconds = float(os.environ.get("PIEHOLE_TEST_LONG_SECONDS", "1200"))
    wanted = int(os.environ.get("PIEHOLE_TEST_LONG_PUSHES", "10000"))
    group = make_group(2)
    pushers = [Pusher(group, number, int(wanted / _PUSHERS * 4)) for number in range(_PUSHERS)]
    samples = _sampled(group, pushers, seconds)
    outcomes = sum((one.outcomes for one in pushers), Counter())

    def in_step() -> bool:
        return group[0].refs() == group[1].refs()

    until(in_step, 60, "both sites have the same refs")
    until(lambda: sample(group.sites, 0, 0).in_flight == 0, 90, "no in-flight record is left")
    last = sample(group.sites, samples[-1].seconds + _EVERY, outcomes["accepted"])
    folder = pytestconfig.rootpath / ".cache" / "faults"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "long-life.tsv").write_text(table([*samples, last]))
    (folder / "long-life.svg").write_text(plot([*samples, last]))
    shown = table([*samples[:: max(1, len(samples) // 12)], last])
    print(f"\n{dict(outcomes)} in {samples[-1].seconds:.0f} s\n{shown}")  # noqa: T201 -- what it is for

    assert outcomes["refused"] == 0, [one.faults for one in pushers]
    assert outcomes["accepted"] >= wanted
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[3 * quarter :]
    assert statistics.median(one.rss for one in late) <= statistics.median(one.rss for one in early) + _RSS_MB
    for name in ("descriptors", "threads", "packs", "temporary", "in_flight"):
        before, after = (statistics.median(getattr(one, name) for one in part) for part in (early, late))
        assert after <= before * 1.2 + 5, name
    assert last.temporary == 0
    for site in group:
        site.fsck()
