"""What is written about piehole is true, as far as a program can tell."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks import pusher
from piehole.cli import parser
from piehole.cli.arguments import CommandParser
from piehole.group.config import Config, parse
from piehole.repository.git_settings import GitConfig
from piehole.repository.settings import SETTINGS
from piehole.transfer.watchdog import Limits

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")])
CONFIGURATION = ROOT / "docs" / "reference" / "settings.md"
ARCHITECTURE = ROOT / "docs" / "development" / "architecture.md"
FAILURE_MODES = ROOT / "docs" / "explanation" / "failure-modes.md"

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _commands() -> dict[str, CommandParser]:
    return {name: command.parser() for name, command in parser.COMMANDS.items()}


def _section(page: Path, heading: str) -> str:
    """The text below a heading, down to the next one of the same rank."""
    _, found, rest = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{page.name} has no {heading!r}"
    return re.split(rf"^{heading.split(' ')[0]} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def _first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in a text, without their heads."""
    lines = text.splitlines()
    rules = {number for number, line in enumerate(lines) if line.startswith("| ---")}
    assert rules, "there is no table"
    heads = {number - 1 for number in rules}
    rows = [line for number, line in enumerate(lines) if line.startswith("| ") and number not in rules | heads]
    return [row.split("|")[1].strip() for row in rows]


def _anchors(page: Path) -> set[str]:
    """As the usual renderers make them from headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            dead.append(target)
    assert dead == []


def test_every_page_is_in_a_list_of_contents() -> None:
    """The lists in docs/ are the navigation of the site (docs/conf.py)."""
    docs = ROOT / "docs"
    lists = [page for page in PAGES if docs in page.parents and page.stem in ("index", "README")]
    links = {(one.parent / link).resolve() for one in lists for link in re.findall(r"\]\(([^)#\s]+)", one.read_text())}
    assert [str(page) for page in PAGES if docs in page.parents and page not in {*links, docs / "index.md"}] == []


def _said(page: Path) -> Iterator[list[str]]:
    """Every ``piehole COMMAND …`` in a page's code, as words."""
    text = page.read_text().replace("\\\n", " ")
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    spans += [
        line for block in re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.S | re.M) for line in block.splitlines()
    ]
    for span in spans:
        for match in re.finditer(r"(?:^|\$ |-u git |; )piehole ((?:[a-z][a-z-]*)(?: [^#;|]*)?)", span):
            yield match[1].split()


@pages
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    commands = _commands()
    for command, *words in _said(page):
        assert command in commands, f"piehole {command}"
        parsers = [commands[command], *commands[command].actions.values()]
        known = "".join(parser.format_help() for parser in parsers)
        for option in (word for word in words if re.match(r"--?[a-zA-Z]", word)):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), f"piehole {command} {option}"


@pages
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets


def test_the_readme_names_the_demo_and_the_tests() -> None:
    text = (ROOT / "README.md").read_text()
    assert "`make demo`" in text
    assert "`make test`" in text


def test_the_change_log_names_every_command() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in _commands() if not re.search(rf"`(?:piehole )?{name}\b", text)] == []


def test_the_reference_of_settings_lists_exactly_those_that_are_read() -> None:
    source = (ROOT / "piehole" / "group" / "config.py").read_text()
    read = set(re.findall(r'\b(?:one|many|read)\("(\w+)"', source))
    read |= set(re.findall(r'"(etcd[A-Z]\w+)"', source))
    for module in (ROOT / "piehole").rglob("*.py"):
        read |= set(re.findall(r'\b(?:one|many|narrowest|every)\(\s*"piehole\.([a-z]+)"', module.read_text()))
    section = _section(CONFIGURATION, "## Settings")
    documented = {name for cell in _first_cells(section) for name in re.findall(r"`piehole\.(\w+)`", cell)}
    lower = {name.lower() for name in read} - {"site", "group"}
    assert {name.lower() for name in documented} - {"site", "group"} == lower


def test_the_defaults_of_settings_are_those_of_the_table() -> None:
    """In `Config`, in what a repository without any setting reads, and in the hook that reads no table."""
    row = SETTINGS["pusherFrom"]
    assert row.default == pusher.DEFAULT
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    read = parse(Path("/a.git"), GitConfig(None), {"group": "g", "site": "s", "etcd": "h:1"})
    for name in SETTINGS:
        field = re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", name)
        if field in fields and fields[field] is not dataclasses.MISSING:
            assert getattr(read, field) == fields[field], name


def test_the_limits_in_the_help_of_the_controller_are_the_defaults() -> None:
    helps = {action.option_strings[-1]: action.help or "" for action in _commands()["controller"]._actions}
    limits = Limits()
    for option, value in (
        ("--fetch-max-bytes", f"{limits.max_bytes >> 30}g"),
        ("--fetch-max-memory", f"{limits.max_memory >> 30}g"),
        ("--fetch-stall", f"{limits.stall:g}"),
        ("--fetch-timeout", f"{limits.total:g}"),
    ):
        assert f"(default: {value})" in helps[option]


def _mapped() -> list[str]:
    """The files that the module map names: a table for each folder."""
    _, *parts = re.split(r"^### `([\w/]+/)`$", _section(ARCHITECTURE, "## Module map"), flags=re.MULTILINE)
    return [
        f"{folder}{cell.strip('`')}"
        for folder, text in zip(parts[::2], parts[1::2], strict=True)
        for cell in _first_cells(text)
    ]


def _holds_code(path: Path) -> bool:
    """False for an ``__init__.py`` that only makes its folder a package, and says what the folder is for."""
    body = ast.parse(path.read_text()).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def test_every_module_in_the_module_map_exists() -> None:
    assert [name for name in _mapped() if not (ROOT / name).is_file()] == []


def test_every_module_is_in_the_module_map_once() -> None:
    modules = [path for top in ("piehole", "controller", "hooks") for path in (ROOT / top).rglob("*.py")]
    mapped = [name for name in _mapped() if name.endswith(".py")]
    assert sorted(mapped) == sorted(str(path.relative_to(ROOT)) for path in modules if _holds_code(path))


@pages
def test_every_module_that_is_named_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:piehole|controller|hooks|tests|tools|deploy)/[\w/.-]+\.(?:py|sh|pml))\b", page.read_text()
    )
    assert [name for name in named if "NAME" not in name and not (ROOT / name).is_file()] == []


def test_every_documented_failure_mode_has_its_test_and_the_other_way_round() -> None:
    documented = re.findall(r"^`(test_\w+)` ·", FAILURE_MODES.read_text(), re.MULTILINE)
    assert len(documented) == len(set(documented)) == 30
    sources = [path.read_text() for path in (ROOT / "tests" / "fault" / "modes").rglob("test_*.py")]
    written = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert [name for name in documented if not any(test.startswith(name) for test in written)] == []
    assert [test for test in sorted(written) if not any(test.startswith(name) for name in documented)] == []


def test_every_promise_has_a_test_that_exists() -> None:
    rows = _section(ROOT / "docs" / "explanation" / "promises.md", "## Promised").splitlines()
    promised = [set(re.findall(r"`(test_\w+)`", row)) for row in rows if row.startswith("| ")][2:]
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    written = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert promised
    assert [names for names in promised if not names or not names <= written] == []
