"""docs/explanation/field-reports.md tells of each report what piehole does, and names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "field-reports.md").read_text()
SECTIONS = re.split(r"^## (\d+)\. ", PAGE, flags=re.MULTILINE)[1:]
REPORTS = dict(zip(map(int, SECTIONS[::2]), SECTIONS[1::2], strict=True))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?`")


def test_every_report_has_its_section() -> None:
    assert list(REPORTS) == list(range(1, 33))


@pytest.mark.parametrize("number", REPORTS)
def test_a_report_has_its_address_symptom_and_outcome(number: int) -> None:
    text = REPORTS[number]
    assert re.search(r"^Reports: .*<https://\S+>", text, re.MULTILINE)
    for part in ("Symptom", "What piehole does", "Test"):
        assert re.search(rf"^\*\*{part}\.\*\* \S", text, re.MULTILINE), part


@pytest.mark.parametrize("number", REPORTS)
def test_a_report_names_a_test_or_a_reason(number: int) -> None:
    outcome = REPORTS[number].partition("**Test.**")[2]
    named = _NAMED.findall(outcome)
    assert named or re.search(r"\bnone: \w+", outcome)
    for file, *names in named:
        path = ROOT / file
        assert path.exists(), file
        defined = {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        }
        assert [name for name in names if name and name not in defined] == [], file
