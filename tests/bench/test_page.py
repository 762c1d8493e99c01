"""docs/explanation/performance.md shows what was accepted, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench import page, plots
from tests.bench.report import Report, Row

_PAGE = """\
Before.
<!-- plot_push -->
<!-- end of plot_push -->
<!-- table -->
<!-- end of table -->
<!-- notes -->
old
<!-- end of notes -->
After.
"""


def _accepted(folder: Path) -> Path:
    rows = [Row("a", "ms", [1.0], note="with fsync"), Row("b", "ms", [2.0], beside="a", target=("over beside", 3.0))]
    rows.append(Row("c", "ms", [4.0], note="with fsync"))
    rows += [Row(f"within a push, {kind}: the rest", "ms", [5.0]) for kind in ("no hooks", "piehole")]
    path = folder / "accepted.json"
    path.write_text(Report({"git": "2.39"}, rows).to_json())
    return path


def test_the_page_shows_the_accepted_report_and_what_was_never_accepted_leaves_it_empty() -> None:
    text = page.PAGE.read_text()
    assert page.wanted(text) == text, "run python -m tests.bench.page"


def test_the_page_has_a_place_for_every_plot_and_every_part_of_the_report() -> None:
    markers = set(re.findall(r"^<!-- end of (\w+) -->$", page.PAGE.read_text(), re.MULTILINE))
    assert markers == {f"plot_{name}" for name in plots.TITLES} | set(page.blocks(Report(rows=[Row("a", "ms", [1.0])])))


def test_each_marker_of_a_page_is_filled_with_its_part(tmp_path: Path) -> None:
    text = page.wanted(_PAGE, _accepted(tmp_path), tmp_path)
    assert "| b | ms | 2.00 | 2.00 | 1 | +1.00 | 2.00 x a |  | +3.00 ms: reached |" in text
    assert "within a push" not in text
    assert "* with fsync: a; c.\n" in text
    assert "old" not in text
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert page.wanted(text, _accepted(tmp_path), tmp_path) == text


def test_without_an_accepted_report_the_markers_are_empty(tmp_path: Path) -> None:
    assert page.wanted(_PAGE, tmp_path / "none.json", tmp_path) == _PAGE.replace("old\n", "")


def test_the_parts_of_a_push_are_a_table_of_their_own(tmp_path: Path) -> None:
    text = page.wanted("<!-- within -->\n<!-- end of within -->\n", _accepted(tmp_path))
    assert "| ms | no hooks | piehole |" in text
    assert "| the rest | 5.00 | 5.00 |" in text


def test_a_page_without_the_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- table -->"):
        page.placed("nothing", "table", "text")


def test_accepting_copies_the_report_and_the_plots_and_writes_the_page(tmp_path: Path) -> None:
    found, drawn = _accepted(tmp_path), tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "push.svg").write_text("<svg/>")
    shown = tmp_path / "page.md"
    shown.write_text(_PAGE)
    accepted = tmp_path / "kept.json"
    page.accept(found, drawn, accepted=accepted, shown=tmp_path / "plots", page=shown)
    assert accepted.read_text() == found.read_text()
    assert (tmp_path / "plots" / "push.svg").exists()
    assert "(plots/push.svg)" in shown.read_text()
    assert shown.read_text() == page.wanted(_PAGE, found, tmp_path / "plots")


def test_a_report_that_cannot_be_read_is_not_accepted(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    found.write_text('{"format": 1}')
    with pytest.raises(ValueError, match="format 1"):
        page.accept(found, tmp_path, accepted=tmp_path / "kept.json", shown=tmp_path / "plots", page=tmp_path / "p")
    assert not (tmp_path / "kept.json").exists()
