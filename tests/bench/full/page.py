"""Put what the large measurements found last on their page, docs/explanation/performance/full.md, with the plots of what grows.

usage: python -m tests.bench.full.page
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.page import placed
from tests.bench.plots import save
from tests.bench.report import Report, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOT: Final = Path(__file__).parents[3]
_PAGE: Final = _ROOT / "docs" / "explanation" / "performance" / "full.md"
_FOUND: Final = _ROOT / ".cache" / "bench-full"
# The plots: which report's series whose names begin so are drawn, and against what.
_PLOTS: Final = {
    "growth-refs": ("", "refs"),
    "growth-history": ("", "commits of history"),
    "growth-sites": ("", "sites"),
    "growth-pushers": ("push", "pushers at once"),
    "many": ("until", "repositories in one controller"),
    "lag-steady": ("", "second of the run"),
    "replicas": ("packs", "replications"),
}
_PLAIN: Final = ("lag-steady", "replicas", "growth-sites")  # both axes from nothing; the others' are logarithmic


def table(report: Report) -> str:
    """Markdown: a line for each row, the columns that tell something."""
    rows = report.by_name
    head = ("", "unit", "median", "p95", "samples", "beside", "times", "target")
    lines = [head, ("---", "---", "---:", "---:", "---:", "---", "---:", "---")]
    for row in report.rows:
        ratio = row.ratio(rows)
        p95 = number(row.p95) if len(row.samples) > 1 else ""
        times = "" if ratio is None else number(ratio)
        count = str(len(row.samples))
        lines.append((row.name, row.unit, number(row.median), p95, count, row.beside or "", times, row.verdict(rows)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(report: Report) -> str:
    """What it was measured on, in one line."""
    return "; ".join(f"{name}: {value}" for name, value in report.about.items()) + "."


def _lines(report: Report, start: str, label: str, plain: bool, axes: Axes) -> bool:
    series = {
        name: of for name, of in report.series.items() if name.startswith(start) and not name.startswith("exponent")
    }
    for name, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", label=name, markersize=3)
    axes.set_xlabel(label)
    if not plain:
        axes.set_xscale("log")
        axes.set_yscale("log")
    if series:
        axes.legend(frameon=False)
    return bool(series)


def main(names: Sequence[str] = ()) -> int:
    page = _PAGE.read_text()
    for path in sorted(_FOUND.glob("*.json")):
        name = path.stem
        if f"<!-- {name} -->" not in page or (names and name not in names):
            continue
        report = Report.from_json(path.read_text())
        text = f"{told(report)}\n\n{table(report)}"
        if name in _PLOTS:
            start, label = _PLOTS[name]
            stem = _PAGE.parent / f"full-{name}"
            if save(stem, partial(_lines, report, start, label, name in _PLAIN), name):
                text += f"\n\n![{name.replace('-', ' ')} by {label}: the table above has the numbers]({stem.name}.svg)"
        page = placed(page, name, text)
    _PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
