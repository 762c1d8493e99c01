"""Each promise of docs/explanation/security.md names the tests that hold it, and each security test is named there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
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
