"""`/metrics` of running controllers: what happens to a group is in the numbers."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import MakeGroup
from tests.support.metrics import Scraped
from tests.support.wait import PATIENCE, until
from tests.support.web import ready, start_with_web


def test_a_push_and_its_arrival_are_counted_once(make_group: MakeGroup) -> None:
    group = make_group(2, started=False)
    a, b = group
    at_a, at_b = start_with_web(a), start_with_web(b)
    ready(at_a)
    ready(at_b)
    work = a.clone()
    first = git.commit(work, "first")
    accepted(git.push(work, a.repository, "HEAD:main"))
    until(lambda: b.at() == first, PATIENCE, "the push is at b")
    here = Scraped.of(at_a)
    assert here.get("piehole_pushes_total", outcome="accepted", token="") == 1
    assert here["piehole_swap_seconds_count"] >= 1
    until(lambda: Scraped.of(at_b)["piehole_arrival_seconds_count"] >= 1, PATIENCE, "the arrival is counted")
    there = Scraped.of(at_b)
    assert there.series("piehole_pushes_total") == []
    assert there.get("piehole_fetches_total", peer="a", result="ok") == 1
    assert (there.get("piehole_fetch_bytes_total", peer="a") or 0) > 0
    assert there.get("piehole_etcd_connected", etcd=group.endpoints[0]) == 1
    until(lambda: Scraped.of(at_b).get("piehole_repositories", state="in_step") == 1, PATIENCE, "b is in step")


def test_promtool_finds_nothing_wrong_with_the_metrics(make_group: MakeGroup) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    group = make_group(1, started=False)
    port = start_with_web(group[0])
    ready(port)
    scraped = Scraped.of(port)
    ran = subprocess.run(
        [promtool, "check", "metrics"], input=scraped.text, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
