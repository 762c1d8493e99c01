"""The plots of the quick measurements, as PNG and as SVG. matplotlib comes with the extra ``bench``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.report import Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What each plot shows, by the name of its files.
TITLES: Final = {
    "push": "a push of one commit",
    "within": "where the time of a push goes",
    "refs": "new refs in one push",
    "lag": "from the push's return until the others show it",
    "steady": "10 pushes a second on one branch",
}
# The rows of the parts of a push begin with this, the kind of push and ": ".
WITHIN: Final = "within a push, "
_LIMIT: Final = "#9aa5b1"
_OURS: Final = "#c2410c"
_OTHERS: Final = "#51687e"


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw what the report holds; the files that were made. A plot whose rows are missing is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Axes], bool]] = {
        "push": lambda axes: _bars(axes, report, "push: "),
        "within": lambda axes: _stacks(axes, report),
        "refs": lambda axes: _bars(axes, report, "new refs, "),
        "lag": lambda axes: _bars(axes, report, "lag: ", scale="log"),
        "steady": lambda axes: _lines(axes, report, "steady: ", "lag, ms"),
    }
    return [path for name, plot in plots.items() for path in save(folder / name, plot, TITLES[name])]


def save(stem: Path, plot: Callable[[Axes], bool], title: str, size: tuple[float, float] = (8.0, 3.6)) -> list[Path]:
    """Draw one plot as STEM.svg; nothing where ``plot`` has nothing to draw and says so with False.

    The same numbers give the same SVG, so that an accepted plot changes when they do.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": stem.name, "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    try:
        if not plot(axes):
            return []
        axes.set_title(title, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        path = stem.with_suffix(".svg")
        figure.savefig(path, metadata={"Date": None})
        return [path]
    finally:
        pyplot.close(figure)


def _bars(axes: Axes, report: Report, part: str, scale: str = "linear") -> bool:
    """Medians as bars, p95 as a mark at the end of a line."""
    rows = [row for row in report.rows if part in row.name]
    if not rows:
        return False
    places = range(len(rows))
    medians = [row.median for row in rows]
    axes.barh(places, medians, color=[_color(row) for row in rows], height=0.6)
    axes.hlines(places, medians, [row.p95 for row in rows], color="#222", linewidth=1)
    axes.plot([row.p95 for row in rows], places, "|", color="#222", markersize=8)
    axes.set_yticks(places, [row.name.partition(part)[2] for row in rows])
    axes.invert_yaxis()
    if scale == "log":
        axes.set_xscale("log")
        axes.set_xlim(left=1)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"{rows[0].unit}: median (bar) and p95 (mark)")
    return True


def _lines(axes: Axes, report: Report, prefix: str, unit: str) -> bool:
    series = {name.removeprefix(prefix): points for name, points in report.series.items() if name.startswith(prefix)}
    for name, points in series.items():
        color = _OURS if "piehole" in name else _OTHERS
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", color=color, label=name, markersize=3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("second of the run")
    axes.set_ylabel(unit)
    if series:
        axes.legend(frameon=False)
    return bool(series)


def _stacks(axes: Axes, report: Report) -> bool:
    """One bar for each kind of push, its parts side by side."""
    kinds = within(report.rows)
    names = parts_of(kinds)
    left = dict.fromkeys(kinds, 0.0)
    colors = _colors(names)
    for name, color in zip(names, colors, strict=True):
        values = [parts.get(name, 0.0) for parts in kinds.values()]
        axes.barh(list(kinds), values, left=list(left.values()), color=color, label=name, height=0.5)
        left = {kind: left[kind] + value for kind, value in zip(kinds, values, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("ms, medians of traced pushes")
    if kinds:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return bool(kinds)


def within(rows: Sequence[Row]) -> Mapping[str, Mapping[str, float]]:
    """Median milliseconds of the parts of a push, by kind of push and part."""
    kinds: dict[str, dict[str, float]] = {}
    for row in rows:
        head, found, name = row.name.partition(": ")
        if found and head.startswith(WITHIN) and row.unit == "ms":
            kinds.setdefault(head.removeprefix(WITHIN), {})[name] = max(0.0, row.median)
    return kinds


def parts_of(kinds: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of all parts, in the order of the push that has most of them."""
    return list(dict.fromkeys(name for parts in sorted(kinds.values(), key=len, reverse=True) for name in parts))


def _color(row: Row) -> str:
    return _OURS if "piehole" in row.name else _LIMIT if row.beside is None else _OTHERS


def _colors(names: Sequence[str]) -> list[tuple[float, float, float, float]]:
    """What is git's own in greys and blues, the hooks in reds."""
    from matplotlib import colormaps

    hooks = [name for name in names if name.startswith("hook")]
    others = [name for name in names if name not in hooks]
    found: dict[str, tuple[float, float, float, float]] = {}
    for wheel, group in ((colormaps["YlOrRd"], hooks), (colormaps["GnBu"], others)):
        found |= {name: wheel(0.3 + 0.6 * place / max(1, len(group) - 1)) for place, name in enumerate(group)}
    return [found[name] for name in names]
