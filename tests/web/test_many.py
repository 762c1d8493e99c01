"""2,000 repositories in one controller that shows them: its memory, and the size of a scrape."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.full.crowd import Crowd, Pair
from tests.bench.full.kit import MAIN, Usage
from tests.support.etcd import EtcdProcess
from tests.support.groups import Group
from tests.support.metrics import Scraped
from tests.support.process import ManagedProcess
from tests.support.wait import until
from tests.support.web import ask

MANY = 2000
BEHIND = 500
MEGABYTE = 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_2000_repositories_cost_little_memory_and_make_a_small_scrape(etcd: EtcdProcess, tmp_path: Path) -> None:
    with ExitStack() as ends:
        crowd = Crowd(tmp_path, etcd)
        ends.callback(crowd.close)
        group = Group(tmp_path / "run", [etcd.endpoint], crowd.prefix)
        ends.callback(group.end)
        pairs = [Pair(f"g{n:05}", tmp_path / "a" / f"{n}.git", tmp_path / "b" / f"{n}.git") for n in range(MANY)]
        crowd.add(pairs)
        log = tmp_path / "log"
        command = [sys.executable, "-m", "piehole.cli", "controller", "--log-format", "json"]
        command += ["--root", str(tmp_path / "b"), "--http", "127.0.0.1:0"]
        process = ManagedProcess(command, log, env=group.environment)
        ends.callback(process.end)
        until(lambda: '"controller.started"' in log.read_text() or not process.alive, 200, "the controller is ready")
        port = _port(log)
        until(lambda: Scraped.of(port).get("piehole_repositories", state="in_step") == MANY, 200, "all are in step")
        # The group has what no site has, so both sites lack it.
        for pair in pairs[-BEHIND:]:
            group.etcd.put(f"{crowd.prefix}/ref/{pair.name}/{MAIN}", crowd.commits[-1])
        in_step = MANY - BEHIND
        until(lambda: Scraped.of(port).get("piehole_repositories", state="in_step") == in_step, 200, "500 are late")
        until(lambda: Scraped.of(port).get("piehole_repositories", state="stuck") == BEHIND, 200, "they are stuck")
        answer = ask(port, "/metrics")
        assert len(answer.body) < MEGABYTE
        scraped = Scraped(answer.text)
        assert scraped.get("piehole_groups_in_trouble", kind="stuck") == BEHIND
        for name in ("piehole_group_lag_seconds", "piehole_stuck_refs"):
            assert len(scraped.series(name)) == 200, "series of single groups are bounded"
        took = []
        for _ in range(10):
            began = time.monotonic()
            ask(port, "/metrics")
            took.append(time.monotonic() - began)
        used = Usage.of(process.pid)
        print(  # noqa: T201 -- the figures, shown with -s
            f"scrape {len(answer.body) / 1000:.0f} kB in {1000 * sorted(took)[5]:.0f} ms; memory {used.resident:.0f} MB, {used.peak:.0f} at its most"
        )
        assert used.peak < 150


def _port(log: Path) -> int:
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return int(next(one["http"] for one in events if one["event"] == "http.listening").rpartition(":")[2])
