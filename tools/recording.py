"""Record a real `make demo` as an animated picture, docs/images/demo.svg.   usage: make pictures

The demo runs in a fresh clone, and each line of the picture appears when the demo printed it; only pauses longer than
``_PAUSE`` are shortened. Where motion is not wanted (``prefers-reduced-motion``), the picture shows the end. Standard library only.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs" / "images" / "demo.svg"

_PAUSE: Final = 1.5  # seconds
_HOLD: Final = 6.0  # seconds for which the end is shown
_ROWS: Final = 26
_COLUMNS: Final = 110
_LINE, _LETTER, _MARGIN, _BAR = 19, 7.8, 16, 30  # in units of the picture


class Line(NamedTuple):
    """A line and the seconds after the start at which it was printed."""

    at: float
    text: str


def record(clone: Path) -> Iterator[Line]:
    """What ``make demo`` prints in a clone. The clone's path is shown as ``~/piehole``.

    Raises CalledProcessError if the demo did not end as expected.
    """
    command = ["make", "-s", "demo"]
    begin = time.monotonic()
    with subprocess.Popen(command, cwd=clone, stdout=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout or ():
            yield Line(time.monotonic() - begin, line.rstrip("\n").replace(str(clone), "~/piehole"))
    if demo.returncode:
        raise subprocess.CalledProcessError(demo.returncode, command)


def shortened(lines: Iterable[Line]) -> list[Line]:
    """The same lines without long pauses."""
    shown: list[Line] = []
    at = before = 0.0
    for line in lines:
        at += min(line.at - before, _PAUSE)
        before = line.at
        shown.append(Line(at, line.text))
    return shown


def picture(lines: Sequence[Line]) -> str:
    """An SVG of a terminal in which the lines appear in their time, over and over."""
    lines = [Line(0.0, "$ make demo"), *lines]
    whole = lines[-1].at + _HOLD
    width, height = round(_COLUMNS * _LETTER + 2 * _MARGIN), _BAR + _ROWS * _LINE + _MARGIN
    rows = [row for line in lines for row in _rows(line)]
    # A cover hides what was not printed yet, and both move by whole lines.
    printed = [(row.at, number + 1) for number, row in enumerate(rows)]
    cover = _steps("cover", [(at, number * _LINE) for at, number in printed], whole)
    scroll = _steps("scroll", [(at, -max(0, number - _ROWS) * _LINE) for at, number in printed], whole)
    top = _BAR + _LINE - 5
    texts = "\n".join(
        f'<text x="{_MARGIN}" y="{top + number * _LINE}"{_look(row.text)}>{escape(row.text)}</text>'
        for number, row in enumerate(rows)
        if row.text
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" \
aria-label="A recording of make demo">
<title>A recording of make demo</title>
<!-- Made from a real run by tools/recording.py: make pictures -->
<style>
text {{ font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d5dae1; white-space: pre }}
.story {{ fill: #8fd0ff; font-weight: bold }} .typed {{ fill: #ffffff; font-weight: bold }} .good {{ fill: #8bdc8b }}
.ground {{ fill: #15191f }} .bar {{ fill: #262c35 }} .dot {{ fill: #566070 }}
{cover}
{scroll}
@media (prefers-reduced-motion: reduce) {{ .cover, .scroll {{ animation-play-state: paused; animation-delay: -{whole - 0.1:.1f}s }} }}
</style>
<clipPath id="screen"><rect y="{_BAR}" width="{width}" height="{_ROWS * _LINE + 6}"/></clipPath>
<rect class="ground" width="{width}" height="{height}" rx="8"/>
<path class="bar" d="M0 {_BAR - 4}V8a8 8 0 0 1 8-8H{width - 8}a8 8 0 0 1 8 8V{_BAR - 4}z"/>
<circle class="dot" cx="18" cy="13" r="5"/><circle class="dot" cx="36" cy="13" r="5"/><circle class="dot" cx="54" cy="13" r="5"/>
<g clip-path="url(#screen)"><g class="scroll">
{texts}
<rect class="ground cover" y="{_BAR}" width="{width}" height="{(len(rows) + 1) * _LINE}"/>
</g></g>
</svg>
"""


def _rows(line: Line) -> Iterator[Line]:
    """A line as a terminal breaks it."""
    for start in range(0, max(len(line.text), 1), _COLUMNS):
        yield Line(line.at, line.text[start : start + _COLUMNS])


def _look(text: str) -> str:
    if text.startswith("$ "):
        return ' class="typed"'
    if text[:1].isdigit():
        return ' class="story"'
    if text.startswith(("   as expected", "Every story")):
        return ' class="good"'
    return ""


def _steps(name: str, places: Sequence[tuple[float, int]], whole: float) -> str:
    """An animation that jumps to each place at its time."""
    last = {"0.00": places[0][1]} | {f"{100 * at / whole:.2f}": place for at, place in places}
    frames = [next(iter(last.items()))] + [now for before, now in pairwise(last.items()) if now[1] != before[1]]
    text = " ".join(f"{percent}% {{ transform: translateY({place}px) }}" for percent, place in frames)
    end = f"100% {{ transform: translateY({frames[-1][1]}px) }}"
    return f".{name} {{ animation: {name} {whole:.1f}s step-end infinite }}\n@keyframes {name} {{ {text} {end} }}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "piehole"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "-s", "runtime"], cwd=clone, check=True)
        PICTURE.write_text(picture(shortened(record(clone))))


if __name__ == "__main__":
    main()
