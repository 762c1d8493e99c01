"""The shape of the code that import contracts cannot tell: small modules, few at the top, one meaning for each class name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = [path for package in ("piehole", "controller", "hooks") for path in sorted((ROOT / package).rglob("*.py"))]
MOST_LINES = 320
MOST_OUTSIDE_FOLDERS = 8


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_exception_to_a_rule_of_security_says_why() -> None:
    files = (
        path for top in ("piehole", "controller", "hooks", "tests", "tools") for path in (ROOT / top).rglob("*.py")
    )
    lines = ((path, line) for path in files for line in path.read_text().splitlines())
    assert [(str(path), line) for path, line in lines if re.search(r"# noqa: [^-]*\bS\d+(?!.* -- \w)", line)] == []


def test_the_top_of_the_package_holds_folders_and_few_modules() -> None:
    assert len(list((ROOT / "piehole").glob("*.py"))) <= MOST_OUTSIDE_FOLDERS


def test_a_class_name_occurs_once() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
