"""A real scrape against the list of metrics, from which docs/reference/metrics.md is made."""

from __future__ import annotations

from controller.metrics import METRICS
from tests.support.groups import MakeGroup
from tests.support.web import ask, ready, start_with_web


def test_a_scrape_has_every_listed_metric_with_its_kind_and_no_other(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    port = start_with_web(group[0])
    ready(port)
    lines = ask(port, "/metrics").text.splitlines()
    kinds = {words[2]: words[3] for line in lines if (words := line.split(" "))[:2] == ["#", "TYPE"]}
    assert {name: kind for name, kind in kinds.items() if name.startswith("piehole_")} == {
        name: metric.kind for name, metric in METRICS.items()
    }
    for name in METRICS.keys() & kinds.keys():
        assert next(line for line in lines if line.startswith(f"# HELP {name} ")).split(" ", 3)[3] == METRICS[name].text
