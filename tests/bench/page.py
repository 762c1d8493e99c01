"""The tables of docs/explanation/performance.md, made from the accepted report.   usage: python -m tests.bench.page [--check]

``python -m tests.bench.page --accept`` takes what `make bench` found last: report, plots and table.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench import plots
from tests.bench.report import Report, Row, number

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "performance.md"
PLOTS: Final = ROOT / "docs" / "explanation" / "performance"
ACCEPTED: Final = ROOT / "tests" / "bench" / "accepted.json"
FOUND: Final = ROOT / ".cache" / "bench.json"
FOUND_PLOTS: Final = ROOT / ".cache" / "bench"


def blocks(report: Report) -> dict[str, str]:
    """What a page shows of a report, by the marker it goes to."""
    shares = plots.within(report.rows)
    rest = [row for row in report.rows if not row.name.startswith(plots.WITHIN)]
    return {
        "machine": _table([("", ""), *report.about.items()]),
        "table": _table(report.cells(rest), right=range(2, 6)),
        "notes": _notes(rest),
        "within": _shares(shares) if shares else "",
    }


def placed(page: str, marker: str, text: str) -> str:
    """The page with ``text`` between ``<!-- MARKER -->`` and ``<!-- end of MARKER -->``.

    :raises ValueError: the page does not have these two lines
    """
    begin, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    pattern = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no {begin}")
    middle = f"\n{text}\n\n" if text else ""
    return pattern.sub(lambda _: f"{begin}\n{middle}{end}", page, count=1)


def wanted(page: str, accepted: Path = ACCEPTED, shown: Path = PLOTS) -> str:
    """The page as it must be: each of its markers filled from what was accepted, or empty where nothing has been."""
    report = Report.from_json(accepted.read_text()) if accepted.exists() else Report()
    told = blocks(report) if report.rows else {}
    for name, title in plots.TITLES.items():
        if (shown / f"{name}.svg").exists():
            told[f"plot_{name}"] = f"![{title}]({shown.name}/{name}.svg)"
    for marker in re.findall(r"^<!-- end of (\w+) -->$", page, re.MULTILINE):
        page = placed(page, marker, told.get(marker, ""))
    return page


def accept(found: Path, drawn: Path, *, accepted: Path, shown: Path, page: Path) -> None:
    """Take a report and its plots as the ones that later runs are compared with, and put them on their page."""
    Report.from_json(found.read_text())  # what cannot be read is not taken
    shutil.copyfile(found, accepted)
    shown.mkdir(parents=True, exist_ok=True)
    for path in sorted(drawn.iterdir()):
        shutil.copyfile(path, shown / path.name)
    page.write_text(wanted(page.read_text(), accepted, shown))


def _notes(rows: Sequence[Row]) -> str:
    """Each note once, with the rows that it is of."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            names.setdefault(row.note, []).append(row.name)
    return "\n".join(f"* {note}: {'; '.join(of)}." for note, of in names.items())


def _shares(kinds: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each part, a column for each kind of push."""
    names = plots.parts_of(kinds)
    rows = [(name, *(number(parts[name]) if name in parts else "" for parts in kinds.values())) for name in names]
    total = ("together", *(number(sum(parts.values())) for parts in kinds.values()))
    return _table([("ms", *kinds), *rows, total], right=range(1, len(kinds) + 1))


def _table(rows: Sequence[Sequence[str]], right: range = range(0)) -> str:
    head, *rest = rows
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rest))


def main(arguments: list[str]) -> int:
    """1 where ``--check`` finds the page out of date."""
    if arguments == ["--accept"]:
        accept(FOUND, FOUND_PLOTS, accepted=ACCEPTED, shown=PLOTS, page=PAGE)
        return 0
    text = PAGE.read_text()
    if arguments == ["--check"]:
        return 0 if wanted(text) == text else 1
    PAGE.write_text(wanted(text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
