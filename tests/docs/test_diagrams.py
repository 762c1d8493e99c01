"""Each diagram is drawn from its source, stands in a page with a text for those who do not see it, and is readable in light and dark."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.reference import diagrams
from tools.reference.diagrams import IMAGES, checksum

ROOT = Path(__file__).parents[2]
SOURCES = sorted(IMAGES.glob("*.dot"))
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@each
def test_a_diagram_is_drawn_from_its_source(source: Path) -> None:
    assert checksum(source.read_text()) in source.with_suffix(".svg").read_text(), "run `make docs`"


@each
def test_a_diagram_stands_in_a_page(source: Path) -> None:
    assert any(re.search(rf"!\[[^\]]*\]\([^)]*{source.stem}\.svg\)", page.read_text()) for page in PAGES)


def test_each_picture_in_a_page_has_a_text() -> None:
    shown = [one for page in PAGES for one in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text())]
    assert [link for text, link in shown if len(text.split()) < 4] == []


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@each
def test_its_colours_are_readable_in_light_and_dark(source: Path) -> None:
    schemes = re.findall(r"svg \{ (.*?) \}", source.with_suffix(".svg").read_text())
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        for ground in ("paper", "box"):
            assert _contrast(colours["ink"], colours[ground]) >= 7
            assert min(_contrast(colours[line], colours[ground]) for line in ("line", "main", "good", "bad")) >= 4.5


def test_only_a_changed_diagram_is_drawn_and_without_graphviz_its_lack_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (SOURCES[0], SOURCES[0].with_suffix(".svg")):
        shutil.copyfile(file, tmp_path / file.name)
    monkeypatch.setattr(diagrams, "IMAGES", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert diagrams.draw() == []
    (tmp_path / SOURCES[0].name).write_text("digraph { a -> b }")
    assert diagrams.draw() == [
        f"{SOURCES[0].stem}.svg is older than {SOURCES[0].name}, and there is no dot to draw it (Debian: apt-get install graphviz)"
    ]


@pytest.mark.skipif(not shutil.which("dot"), reason="graphviz is not installed")
def test_a_changed_diagram_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new.dot").write_text('digraph { a [label="<&>"]; a -> b }')
    monkeypatch.setattr(diagrams, "IMAGES", tmp_path)
    assert diagrams.draw() == []
    drawn = (tmp_path / "new.svg").read_text()
    assert checksum((tmp_path / "new.dot").read_text()) in drawn
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 -- our own
