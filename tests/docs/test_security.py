"""Each promise of docs/explanation/security.md names the tests that hold it, each security test is named there, and each threat of
docs/explanation/threat-model.md names the promises that answer it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
MODEL = PAGE.with_name("threat-model.md")
SECURITY_TESTS = (
    "tests/hooks/test_security.py",
    "tests/servers/test_security_accounts.py",
    "tests/servers/test_security_peers.py",
)
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def _claims() -> dict[int, str]:
    """The numbered lines with what belongs to them."""
    found = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^#|^\S)", PAGE.read_text() + "\n#", re.MULTILINE | re.DOTALL)
    return {int(number): text for number, text in found}


def _tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_promises_are_numbered_without_a_gap() -> None:
    assert list(_claims()) == list(range(1, len(_claims()) + 1))
    assert len(_claims()) == len(re.findall(r"^\d+\. ", PAGE.read_text(), re.MULTILINE))


def test_every_promise_names_tests_that_exist() -> None:
    for number, text in _claims().items():
        named = _NAMED.findall(text)
        assert named, f"line {number} names no test"
        for file, name in named:
            assert name in _tests(file), f"line {number}: {file} has no {name}"


def test_every_security_test_holds_a_promise() -> None:
    named = set(_NAMED.findall(PAGE.read_text()))
    written = {(file, name) for file in SECURITY_TESTS for name in _tests(file)}
    assert written - named == set()


def _threats() -> dict[str, str]:
    """Each threat, and the lines of the promises that answer it."""
    table = MODEL.read_text().partition("\n## Threats\n")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| .*$", table, re.MULTILINE)]
    return {threat: promises for threat, _, promises in rows[2:]}


def _lines(promises: str) -> set[int]:
    """``1-4, 6`` as numbers."""
    spans = (re.fullmatch(r"(\d+)(?:-(\d+))?", span.strip()) for span in promises.split(","))
    return {n for span in spans if span for n in range(int(span[1]), int(span[2] or span[1]) + 1)}


def test_every_threat_is_answered_and_every_promise_answers_one() -> None:
    threats = _threats()
    assert len(threats) > 10
    assert [threat for threat, promises in threats.items() if not _lines(promises) and "(#" not in promises] == []
    assert set().union(*map(_lines, threats.values())) == set(_claims())


def test_the_way_to_report_a_fault_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "SECURITY.md").read_text()
    assert project["urls"]["Source"] in text
    assert "docs/explanation/threat-model.md" in text
