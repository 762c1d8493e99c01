"""Names that others have chosen, in a scrape: hostile, and too many."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from controller import overview
from controller.meters import Meters, label
from controller.overview import Overview, RepositoryView, SiteView
from controller.web.routes import WebRequest
from controller.web.scrape import Scrape
from piehole.fastpath.hook_messages import Answer, Question
from tests.support.metrics import Scraped

HOSTILE = [
    'a"b',
    "back\\slash",
    "{x}",
    "süß",
    "two\nlines",
    "nul\0",
    "\x1b[31m",
    "\udcff raw",
    "x" * 5000,
    "<script>",
    "a,b=c",
]


def scraped(seen: Overview, meters: Meters | None = None, accept: str = "") -> str:
    observer: Any = SimpleNamespace(overview=lambda: seen)
    registry: Any = SimpleNamespace(all_views=list, all_served=list)
    answer = Scrape(observer, registry, meters or Meters(), dict, "2.39.5").answer(
        WebRequest("/metrics", headers={"accept": accept})
    )
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


def test_openmetrics_which_prometheus_prefers_has_the_same_series() -> None:
    meters = Meters()
    meters.fetched("b", "ok", 1, 0.1)
    seen = Overview(1, {name: late(name, name) for name in HOSTILE})
    text = scraped(seen, meters, accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    parser: Any = openmetrics  # ships no types for this
    names = {
        (one.name, tuple(sorted(one.labels.items())))
        for family in parser.text_string_to_metric_families(text)
        for one in family.samples
        if one.name.startswith("piehole_")
    }
    assert names == {one for one in Scraped(scraped(seen, meters)).samples if one[0].startswith("piehole_")}


def late(group: str, site: str = "b", number: int = 0) -> RepositoryView:
    sites = (SiteView(site, False, overview.BEHIND, 1, 1.0 + number),)
    counts = {overview.STUCK: 1 + number, overview.UNADOPTED: 2}
    return RepositoryView(f"/{group}", group, "a", overview.STUCK, sites=sites, counts=counts)


def test_hostile_names_make_a_scrape_that_prometheus_reads() -> None:
    meters = Meters()
    for name in HOSTILE:
        meters.fetched(name, "ok", 1, 0.1)
    text = scraped(Overview(1, {name: late(name, name) for name in HOSTILE}), meters)
    found = Scraped(text)
    assert len(found.series("piehole_group_lag_seconds")) == len(HOSTILE)
    assert len(found.series("piehole_fetches_total")) == len(HOSTILE)
    names = {one["group"] for one in found.series("piehole_stuck_refs")}
    assert {'a"b', "back\\slash", "süß", "two?lines", "nul?", "?[31m", "? raw"} <= names
    assert max(map(len, names)) <= 200
    promtool = shutil.which("promtool")
    if promtool is not None:
        ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_two_long_names_stay_two() -> None:
    assert label("x" * 500 + "a") != label("x" * 500 + "b")


def test_series_of_single_groups_are_bounded_and_the_worst_are_shown() -> None:
    many = Overview(1, {str(n): late(f"g{n}", f"s{n}", n) for n in range(3000)})
    text = scraped(many)
    found = Scraped(text)
    assert len(text) < 1_000_000
    assert found.get("piehole_groups_in_trouble", kind="stuck") == 3000
    shown = {one["group"] for one in found.series("piehole_stuck_refs")}
    assert shown == {f"g{n}" for n in range(2800, 3000)}
    lags = {one["group"] for one in found.series("piehole_group_lag_seconds")}
    assert lags == {f"g{n}" for n in range(200)}, "those that are late for the longest time"
    assert len(found.series("piehole_site_lag_seconds")) == 500


def test_peers_are_bounded() -> None:
    meters = Meters()
    for number in range(1000):
        meters.fetched(f"site{number}", "failed", 0, 1.0)
    assert len(meters.fetch_seconds) == 201
    assert meters.fetches["(others)", "failed"] == 800


def test_two_repositories_of_one_group_here_make_one_series() -> None:
    two = Overview(1, {"/1": late("g", "b"), "/2": late("g", "b", 4)})
    found = Scraped(scraped(two))
    assert found.get("piehole_stuck_refs", group="g") == 1 + 5
    assert found.get("piehole_groups_in_trouble", kind="stuck") == 1


@pytest.mark.parametrize("kind", ["admit", "foresee", "propose"])
def test_a_push_counts_once_for_each_outcome_whichever_hook_was_told(kind: str) -> None:
    meters = Meters()
    question = Question(kind, [("refs/heads/a", "0" * 40, "1" * 40)])
    question.push_id = "p1"
    refusal = Answer("refuse", "stale", "words")
    for answer in (refusal, Answer("foreseen", each=[refusal, None, refusal]), Answer("refuse", "unknown", "w")):
        for _ in range(2):
            meters.answered(question, answer, 0.1)
    meters.answered(question, Answer("accepted", "7"), 0.1)
    assert meters.pushes == {("refused", "stale"): 1, ("unknown", "unknown"): 1, ("accepted", ""): 1}
