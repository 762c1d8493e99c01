"""Nothing in the documents is shown as a command that no test has run."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.guide.markdown import ROOT, blocks, differs_from_file, fences

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")])
# What is shown and not typed: excerpts of files, and messages.
_NOT_TYPED = {"text", "ini", "json", "nginx", "toml", "yaml", "python", "dot", "promql", "gitconfig"}
_TYPED = re.compile(
    r"(?:[a-z]\S*@\S+)?[$#] \S|(?:sudo|git|piehole|etcd|etcdctl|make|pip|pipx|apt-get|systemctl|curl|sh|cd|export) [\w./$~\"'-]"
)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def _run_by_tests() -> dict[str, set[str]]:
    """The sections of each page that a test runs by its mark; "" for all."""
    found = defaultdict[str, set[str]](set)
    for file in (ROOT / "tests").rglob("test_*.py"):
        if "mark.page(" in file.read_text():
            module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for name, test in vars(module).items():
                if name.startswith("test_"):
                    for mark in getattr(test, "pytestmark", ()):
                        if mark.name == "page":
                            found[mark.args[0]] |= set(mark.args[1:]) or {""}
    return found


@pages
def test_every_command_of_a_page_is_run_by_a_test(page: Path) -> None:
    run = _run_by_tests()[str(page.relative_to(ROOT))]
    left = [f"line {block.line} ({block.section})" for block in blocks(page) if not run & {"", block.section}]
    assert left == [], "no test has a mark page() that names these"


@pages
def test_commands_stand_in_console_fences_and_nowhere_else(page: Path) -> None:
    wrong = []
    for fence in fences(page):
        if fence.language not in {"console", *_NOT_TYPED}:
            wrong.append(f"line {fence.line}: a fence of language {fence.language!r}")
        if fence.language == "text":
            wrong += [f"line {fence.line}: {line!r}" for line in fence.lines if _TYPED.match(line)]
    assert wrong == []


@pages
def test_excerpts_are_what_stands_in_their_files(page: Path) -> None:
    said = [(fence.line, differs_from_file(fence)) for fence in fences(page) if fence.language != "console"]
    assert [fault for fault in said if fault[1]] == []
