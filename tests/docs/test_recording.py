"""The README's picture of the demo: a real run, and each line in its time."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from piehole.demo.stories import Stories
from tools.recording import PICTURE, Line, picture, shortened


def _places(svg: str, name: str) -> list[tuple[float, int]]:
    """When the animation jumps (in seconds), and to which row."""
    (seconds,) = re.findall(rf"\.{name} {{ animation: {name} ([\d.]+)s ", svg)
    (frames,) = re.findall(rf"@keyframes {name} {{ (.*) }}$", svg, re.MULTILINE)
    steps = re.findall(r"([\d.]+)% { transform: translateY\((-?\d+)px\) }", frames)
    return [(float(percent) * float(seconds) / 100, int(place) // 19) for percent, place in steps]


def _at(svg: str, name: str, seconds: float) -> int:
    return [row for at, row in _places(svg, name) if at <= seconds][-1]


def test_a_line_is_uncovered_when_it_was_printed_and_not_before() -> None:
    svg = picture([Line(2.0, "one"), Line(2.0, "two"), Line(5.0, "three")])
    assert [_at(svg, "cover", seconds) for seconds in (0.0, 1.9, 2.1, 4.9, 5.1, 10.9)] == [1, 1, 3, 3, 4, 4]
    assert _at(svg, "scroll", 10.9) == 0
    assert "&lt;" in picture([Line(1.0, "<b>")])


def test_the_last_rows_are_in_sight_where_there_are_more_than_fit() -> None:
    svg = picture([Line(float(number), "x" * 200) for number in range(20)])
    assert _at(svg, "cover", 25) == 41
    assert _at(svg, "scroll", 25) == -(41 - 26)


def test_only_long_pauses_are_shortened() -> None:
    shown = shortened([Line(1.0, "a"), Line(31.0, "b"), Line(31.5, "c")])
    assert [line.at for line in shown] == [1.0, 2.5, 3.0]


def test_the_picture_shows_the_stories_that_the_demo_tells_now() -> None:
    titles = re.findall(r'\("([^"]+)", self\.\w+\)', inspect.getsource(Stories.play))
    shown = re.findall(r"<text [^>]*>\d+\. ([^<]+)</text>", PICTURE.read_text())
    assert [title.lower() for title in titles] == [title.lower() for title in shown]
    assert len(titles) > 5
    assert "Every story ended as expected" in PICTURE.read_text()


def test_the_picture_loads_nothing() -> None:
    assert not re.search(r"href|url\((?!#)|<script|@import", Path(PICTURE).read_text())
