"""What a measurement is told in: rows beside their peers, as a table, as JSON, and compared with an earlier run.

Nothing here measures or asserts. Absolute figures belong to a machine; what is compared between runs are the ratios of rows
that took turns in one run.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

__all__ = ["NOISE", "Report", "Row", "Target", "TargetKind", "number"]

FORMAT: Final = 2
# The medians of two runs on one quiet machine differ by less than this.
NOISE: Final = 0.2

TargetKind = Literal["over beside", "times beside", "times faster than beside", "at most", "p95 at most"]
Target = tuple[TargetKind, float]


@dataclass(frozen=True)
class Row:
    """One thing that was measured, several times.

    :param unit: of the samples: "ms", "s", "MB", "count", …
    :param beside: the name of the row that it is fair to compare this one with
    :param limit: the name of the row that is the physical limit of this one, such as a raw transaction of etcd
    :param target: what must be reached: printed as reached or missed, never asserted. "over beside" and "at most" are in
        the row's unit; "over beside", "times beside" and "times faster than beside" are of medians
    :param note: what a reader must know to judge the row: its fsync setting, what was left out
    """

    name: str
    unit: str
    samples: list[float]
    beside: str | None = None
    limit: str | None = None
    target: Target | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"{self.name}: nothing was measured")

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The largest sample where there is but one."""
        if len(self.samples) == 1:
            return self.samples[0]
        return statistics.quantiles(self.samples, n=20, method="inclusive")[-1]

    def over(self, rows: Mapping[str, Row]) -> float | None:
        """By how much the median is over that of the row beside, in the row's unit; ``None`` without one."""
        peer = rows.get(self.beside or "")
        return None if peer is None else self.median - peer.median

    def ratio(self, rows: Mapping[str, Row]) -> float | None:
        """How many times the median of the row beside; ``None`` without one."""
        return _ratio(self, rows.get(self.beside or ""))

    def limit_ratio(self, rows: Mapping[str, Row]) -> float | None:
        """How many times the median of the physical limit; ``None`` without one."""
        return _ratio(self, rows.get(self.limit or ""))

    def reached(self, rows: Mapping[str, Row]) -> bool | None:
        """Whether the target is reached; ``None`` where there is no target, or not the row that it needs."""
        if self.target is None:
            return None
        kind, bound = self.target
        ratio = self.ratio(rows)
        value = {
            "over beside": self.over(rows),
            "times beside": ratio,
            "times faster than beside": None if ratio is None else -1 / ratio if ratio else -float("inf"),
            "at most": self.median,
            "p95 at most": self.p95,
        }[kind]
        return None if value is None else value <= (-bound if kind == "times faster than beside" else bound)

    def verdict(self, rows: Mapping[str, Row]) -> str:
        """The target with what became of it, ``""`` where there is none."""
        if self.target is None:
            return ""
        kind, bound = self.target
        wanted = {
            "over beside": f"+{number(bound)} {self.unit}",
            "times beside": f"{number(bound)} x",
            "times faster than beside": f"1/{number(bound)} x",
            "at most": f"{number(bound)} {self.unit}",
            "p95 at most": f"p95 {number(bound)} {self.unit}",
        }[kind]
        reached = self.reached(rows)
        return f"{wanted}: {'not known' if reached is None else 'reached' if reached else 'missed'}"


@dataclass
class Report:
    """Everything that one run found.

    :param about: the machine, the versions, the settings; in the order that they are printed in
    :param series: the points of the plots, by the name of each line
    """

    about: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Row]:
        return {row.name: row for row in self.rows}

    def to_json(self) -> str:
        """A line for each row and series, so that two runs can be told apart with diff."""
        rows = [json.dumps(_row_to(row), ensure_ascii=False) for row in self.rows]
        series = [f"{json.dumps(name)}: {json.dumps(_rounded(points))}" for name, points in self.series.items()]
        about = json.dumps(self.about, indent=1, ensure_ascii=False)
        between = ",\n"
        return (
            f'{{"format": {FORMAT},\n"about": {about},\n"rows": [\n{between.join(rows)}\n],\n'
            f'"series": {{\n{between.join(series)}\n}}}}\n'
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote.

        :raises ValueError: it is of another format
        """
        found = json.loads(text)
        if found.get("format") != FORMAT:
            raise ValueError(f"a report of format {found.get('format')}, not {FORMAT}")
        series = {name: [(x, y) for x, y in points] for name, points in found["series"].items()}
        return cls(found["about"], [_row_from(one) for one in found["rows"]], series)

    def cells(self, chosen: Sequence[Row] | None = None) -> list[tuple[str, ...]]:
        """The table's rows, its head first; those of ``chosen`` where it is given."""
        rows = self.by_name
        found: list[tuple[str, ...]] = [
            ("", "unit", "median", "p95", "samples", "over", "beside", "to its limit", "target")
        ]
        for row in self.rows if chosen is None else chosen:
            over, ratio, limit = row.over(rows), row.ratio(rows), row.limit_ratio(rows)
            found.append(
                (
                    row.name,
                    row.unit,
                    number(row.median),
                    number(row.p95),
                    str(len(row.samples)),
                    "" if over is None else f"{'+' if over >= 0 else ''}{number(over)}",
                    "" if ratio is None else f"{number(ratio)} x {row.beside}",
                    "" if limit is None else f"{number(limit)} x {row.limit}",
                    row.verdict(rows),
                )
            )
        return found

    def table(self) -> str:
        """For a terminal: what it was measured on, then a line for each row."""
        wide = max((len(name) for name in self.about), default=0) + 2
        lines = [f"{name + ':':{wide}}{value}" for name, value in self.about.items()]
        cells = self.cells()
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        numeric = range(2, 6)
        for row in cells:
            parts = (
                f"{cell:>{width}}" if column in numeric else f"{cell:{width}}"
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(parts).rstrip())
        return "\n".join([*lines[: len(self.about)], "", *lines[len(self.about) :]])

    def compare(self, accepted: Report, noise: float = NOISE) -> list[str]:
        """What moved since ``accepted``, a sentence each: ratios by more than ``noise``, targets, rows that came or went."""
        mine, theirs = self.by_name, accepted.by_name
        said = []
        for name, row in mine.items():
            if (then := theirs.get(name)) is None:
                said.append(f"{name}: new.")
                continue
            said += _moved(name, row.beside, row.ratio(mine), then.ratio(theirs), noise)
            said += _moved(name, row.limit, row.limit_ratio(mine), then.limit_ratio(theirs), noise)
            if row.target == then.target and row.reached(mine) != then.reached(theirs):
                said.append(f"{name}: the target was {_word(then.reached(theirs))} and is {_word(row.reached(mine))}.")
        return said + [f"{name}: no longer measured." for name in theirs if name not in mine]


def number(value: float) -> str:
    """Three digits that tell something, and all of those before the point."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _ratio(row: Row, peer: Row | None) -> float | None:
    return row.median / peer.median if peer is not None and peer.median else None


def _moved(name: str, peer: str | None, now: float | None, then: float | None, noise: float) -> list[str]:
    if now is None or then is None or max(now, then) <= min(now, then) * (1 + noise):
        return []
    change = f"{abs(now / then - 1):.0%} {'more' if now > then else 'less'}" if then else "more"
    return [f"{name}: {number(now)} times {peer}, was {number(then)} ({change})."]


def _word(reached: bool | None) -> str:
    return "not known" if reached is None else "reached" if reached else "missed"


def _rounded(points: list[tuple[float, float]]) -> list[list[float]]:
    return [[round(x, 3), round(y, 3)] for x, y in points]


def _row_to(row: Row) -> dict[str, Any]:
    told = {"name": row.name, "unit": row.unit, "beside": row.beside, "limit": row.limit, "target": row.target}
    return {**told, "note": row.note, "samples": [round(sample, 4) for sample in row.samples]}


def _row_from(found: dict[str, Any]) -> Row:
    target = found["target"]
    return Row(
        found["name"], found["unit"], found["samples"], found["beside"], found["limit"],
        (target[0], target[1]) if target else None, found["note"],
    )  # fmt: skip
