"""Tables and colours for a terminal. What others wrote (ref names, pushers) is shown as text that cannot move anything on the screen.

An own one, since it starts in 2 ms. The imports of the libraries take longer than all else that `piehole status` does before it asks etcd
(milliseconds, beside the same Python without them): rich 57, tabulate 61, wcwidth 41.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TextIO
from unicodedata import bidirectional, category, east_asian_width

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
BOLD: Final = "1"
DIM: Final = "2"

_GAP: Final = "  "
_MARKS: Final = 3  # combining marks on one character; more are used to draw over other lines
_NARROWEST: Final = 6  # columns that a cell keeps where there is no room
_LEFT_TO_RIGHT: Final = "\u200e"  # ends the reach of Hebrew and Arabic letters: what follows keeps its place


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one place in a table. ``right``: it is a number, and ends where its column ends."""

    text: str
    colour: str = ""
    right: bool = False


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches this stream at a terminal that obeys control sequences."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def wanted(chosen: str | None, stream: TextIO) -> bool:
    """Whether a command prints a table: ``--format`` says so, or somebody sits at a terminal."""
    return chosen == "table" if chosen else stream.isatty()


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def window() -> tuple[int, int]:
    """Columns and lines of the terminal; where there is none, those that ``COLUMNS`` and ``LINES`` say, or 80 and 24."""
    try:
        found = tuple(os.get_terminal_size(sys.stdout.fileno()))
    except (OSError, ValueError):
        found = (0, 0)
    said = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    otherwise = [int(text) if text.isdecimal() else least for text, least in zip(said, (80, 24), strict=True)]
    return max(20, found[0] or otherwise[0]), max(3, found[1] or otherwise[1])


def literal(text: str) -> str:
    """The text as one line in which each character takes the room that :func:`width` says, and obeys nothing.

    Control and format characters (also those that are invisible or turn the direction of writing), line separators, bytes that are no
    UTF-8, and what no font has are escaped: ``\\x1b``. So are combining marks where they would hang on a neighbour, or pile up.
    """
    return "".join(_literal(text))


def _literal(text: str) -> Iterator[str]:
    marks = _MARKS
    for char in text:
        kind = category(char)
        if kind in ("Mn", "Me"):
            marks += 1
            if marks > _MARKS or "\ufe00" <= char <= "\ufe0f":
                yield ascii(char)[1:-1]
                continue
        else:
            marks = 0
        if "\udc80" <= char <= "\udcff":
            yield f"\\x{ord(char) - 0xDC00:02x}"
        elif kind[0] == "C" or kind in ("Zl", "Zp"):
            yield ascii(char)[1:-1]
        else:
            yield char


def width(text: str) -> int:
    """The columns that a literal text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(char: str) -> int:
    # Vowels and final consonants of Hangul are drawn into the syllable before them.
    if (
        "\u1160" <= char <= "\u11ff"
        or "\ud7b0" <= char <= "\ud7ff"
        or category(char) in ("Mn", "Me")
        or char == _LEFT_TO_RIGHT
    ):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def clipped(text: str, most: int) -> str:
    """A literal text in at most so many columns; ``…`` stands for what was left out."""
    if width(text) <= most:
        return text
    taken, used = [], 1
    for char in text:
        used += _width(char)
        if used > most:
            break
        taken.append(char)
    return "".join(taken) + "…"


def wrapped(text: str, most: int, indent: str = "") -> list[str]:
    """A literal text in lines of at most so many columns, broken between words where that is possible; all but the first are indented."""
    lines, line = [], ""
    for word in text.split(" "):
        while True:
            longer = f"{line} {word}" if line.strip() else f"{line}{word}"
            if width(longer) <= most:
                line = longer
                break
            if line.strip():
                lines.append(line)
                line = indent
                continue
            head = clipped(longer, most + 1)[:-1] or longer[:1]
            lines.append(head)
            line, word = indent, longer[len(head) :]
    return [*lines, line]


def painted(text: str, colour: str, *, paint: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if paint and colour and text else text


def table(head: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, most: int, paint: bool) -> list[str]:
    """The rows below their heads, in lines of at most ``most`` columns. A column without any text is left out; the widest give way."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    kept = [number for number in range(len(head)) if any(row[number].text for row in cells)]
    right = [any(row[number].right for row in cells) for number in kept]
    heads = [Cell(head[number], BOLD, is_right) for number, is_right in zip(kept, right, strict=True)]
    cells = [heads, *([row[number] for number in kept] for row in cells)]
    widths = [max(width(row[place].text) for row in cells) for place in range(len(kept))]
    return [_line(row, _fitting(widths, most), most, paint=paint) for row in cells]


class GrowingTable:
    """A table whose rows come one after the other. Its columns keep their places as long as what comes fits into them."""

    def __init__(self, head: Sequence[str]) -> None:
        self._head = head
        self._widths = [width(name) for name in head]

    def add(self, rows: Sequence[Sequence[Cell | str]], *, most: int, paint: bool, headed: bool = False) -> list[str]:
        """The lines of these rows, and of the heads where the table begins."""
        cells = [[Cell(name, BOLD) for name in self._head]] if headed else []
        cells += [[_cell(cell) for cell in row] for row in rows]
        for row in cells:
            self._widths = [max(known, width(cell.text)) for known, cell in zip(self._widths, row, strict=True)]
        return [_line(row, _fitting(self._widths, most), most, paint=paint) for row in cells]


def _fitting(widths: Sequence[int], most: int) -> list[int]:
    fitting = [*widths]
    while sum(fitting) > most - len(_GAP) * (len(fitting) - 1) and max(fitting) > _NARROWEST:
        widest = max(
            range(len(fitting)), key=lambda place: (fitting[place], place)
        )  # names come first, and stay whole for longer
        fitting[widest] -= 1
    return fitting


def _cell(cell: Cell | str) -> Cell:
    found = cell if isinstance(cell, Cell) else Cell(cell)
    return Cell(literal(found.text), found.colour, found.right)


def _line(row: Sequence[Cell], widths: Sequence[int], most: int, *, paint: bool) -> str:
    shown, used = [], 0
    for cell, room in zip(row, widths, strict=True):
        room = min(room, most - used)
        if room <= 0:
            break
        text = clipped(cell.text, room)
        gap = " " * (room - width(text))
        if any(bidirectional(char) in ("R", "AL", "AN") for char in text):
            text += _LEFT_TO_RIGHT
        text = painted(text, cell.colour, paint=paint)
        shown.append(gap + text if cell.right else text + gap)
        used += room + len(_GAP)
    return _GAP.join(shown).rstrip(" ")


def local_time(stamp: str) -> str:
    """A time of a record by this machine's clock, without its fractions."""
    try:
        return datetime.datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return stamp
