"""deploy/'s alert rules and dashboard: promtool runs them, and every series that they name is in a real scrape."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.groups import MakeGroup
from tests.support.ports import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "piehole.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "piehole.json"
CASES = Path(__file__).with_name("rules.test.yml")
# What Prometheus itself records of each target.
_OF_PROMETHEUS = {"up"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on this machine (Debian: prometheus)"
)


def _promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def _queries() -> Iterator[str]:
    for panel in _panels():
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")


def _names(expression: str) -> set[str]:
    """The series that an expression reads: all that is named as a series and is neither a function nor between braces."""
    bare = re.sub(r"\{[^{}]*\}", "", expression)
    words = re.findall(r"\b(?:(?:piehole|etcd|process)_[a-z_]+|up)\b", bare)
    return {re.sub(r"_bucket$", "", word) for word in words}


def _wanted() -> set[str]:
    """By the dashboard's queries, and by the rules: their expressions, and the queries in their annotations."""
    found = {name for query in _queries() for name in _names(query)}
    return found | set(re.findall(r"\b(?:piehole|etcd|process)_[a-z_]+(?=[\s{)])|\bup(?=\{)", RULES.read_text()))


def test_names_are_found_in_expressions() -> None:
    assert _names('max by (site) (piehole_site_lag_seconds{a="b_c"}) > 300 or up{job="x"} == 0') == {
        "piehole_site_lag_seconds",
        "up",
    }
    assert _names("histogram_quantile(0.9, sum by (le) (rate(piehole_swap_seconds_bucket[5m])))") == {
        "piehole_swap_seconds"
    }


@needs_promtool
def test_the_rules_are_valid_and_each_fires_when_it_should() -> None:
    _promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    _promtool("test", "rules", str(CASES))
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    cases = CASES.read_text()
    fired = set(re.findall(r"alertname: (\w+)\s*\n?,?\s*exp_alerts", cases))
    silent = set(re.findall(r"\{<<: \*at, alertname: (\w+)\}|&at \{eval_time: 60m, alertname: (\w+)\}", cases))
    assert alerts == fired
    assert alerts == {name for pair in silent for name in pair if name}


def test_each_alert_is_documented_with_its_severity() -> None:
    severities = dict(re.findall(r"- alert: (\w+)\n(?:.*\n)*?.*severity: (\w+)", RULES.read_text()))
    page = (DEPLOY.parent / "docs" / "guides" / "alerts.md").read_text()
    assert dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE)) == severities


def test_each_alert_says_what_to_do() -> None:
    for alert in re.split(r"- alert: ", RULES.read_text())[1:]:
        name = alert.split("\n", 1)[0]
        for part in ("expr:", "severity: ", "summary: ", "action: "):
            assert part in alert, f"{name} has no {part}"


def test_each_alert_leads_to_a_page_of_the_documentation() -> None:
    urls = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["urls"]
    docs = urls["Documentation"].removesuffix("index.md")
    pages = [url.removeprefix(docs) for url in re.findall(r"runbook_url: (.*)", RULES.read_text())]
    assert len(pages) == RULES.read_text().count("- alert: ")
    assert [page for page in pages if not (DEPLOY.parent / "docs" / page).is_file()] == []


@needs_promtool
def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(_queries())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    _promtool("check", "rules", str(file))


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in _panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((column, line), panel["title"])
                assert other == panel["title"], f"{panel['title']} covers {other}"
    assert len({panel["id"] for panel in _panels()}) == len(_panels())


def _scraped(url: str) -> set[str]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- http, on this machine
        text = answer.read().decode()
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def test_every_series_that_rules_and_dashboard_name_is_scraped(make_group: MakeGroup) -> None:
    (port,) = free_ports(1)
    group = make_group(1, started=False)
    group[0].start("--http", f"127.0.0.1:{port}")
    controllers = _scraped(f"http://127.0.0.1:{port}/metrics")
    etcd = _scraped(f"{group.endpoints[0]}/metrics")
    wanted = _wanted()
    assert len(wanted) > 30
    assert wanted - _OF_PROMETHEUS - controllers - etcd == set()
