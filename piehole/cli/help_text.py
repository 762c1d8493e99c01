"""The text of help, in the width of the terminal.

Docstrings of commands have two kinds of blocks: paragraphs, and indented rows of a term and its meaning, at least two spaces apart. A line
that begins where the meaning above it began continues it.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

_WIDEST: Final = 100  # columns: longer lines are hard to read
_NARROWEST: Final = 40
_TERM: Final = 26  # columns of terms; a longer one has its meaning below it
_MEANING: Final = 30  # columns that a meaning needs at least beside its term
_ROW: Final = re.compile(r"( +)(\S.*?)(?: {2,}(\S.*))?")


class HelpRow(NamedTuple):
    """A term and what it means (empty: a line that stands alone)."""

    indent: int
    term: str
    meaning: str


Block: TypeAlias = str | list[HelpRow]
Examples: TypeAlias = Sequence[tuple[str, str]]  # a command line, and what it does


def columns() -> int:
    """The columns of the terminal, within the limits of what can be read."""
    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))


def blocks(text: str) -> list[Block]:
    """The paragraphs, each in one line, and the tables of a docstring."""
    found: list[Block] = []
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        current: Block | None = None
        begins = -1  # the column of the last meaning
        for line in part.splitlines():
            row = _ROW.fullmatch(line.rstrip())
            if row is None and isinstance(current, str):
                found[-1] = current = f"{current} {line.strip()}"
            elif row is None:
                found.append(current := line.strip())
            elif isinstance(current, list) and begins == len(row[1]):
                current[-1] = current[-1]._replace(meaning=f"{current[-1].meaning} {line.strip()}")
            else:
                if not isinstance(current, list):
                    found.append(current := [])
                current.append(HelpRow(len(row[1]), row[2], row[3] or ""))
                begins = row.start(3)
    return found


def render(text: str, width: int) -> str:
    """The text of a docstring, in lines of at most ``width`` columns."""
    return "\n\n".join(
        _fill(block, width) if isinstance(block, str) else "\n".join(_table(block, width)) for block in blocks(text)
    )


def render_examples(examples: Examples, width: int) -> str:
    lines = ["examples:"]
    for command, meaning in examples:
        lines += (f"  {line}" for line in _command_lines(command, width - 2))
        lines.append(_fill(meaning, width, " " * 6))
    return "\n".join(lines)


def listing(rows: Sequence[tuple[str, str]], column: int, width: int) -> str:
    """Lines of a name and its meaning, which begins in this column."""
    return "\n".join(_fill(meaning, width, " " * column, f"  {name}".ljust(column)) for name, meaning in rows)


def _fill(text: str, width: int, indent: str = "", first: str | None = None) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(rows: Iterable[HelpRow], width: int) -> Iterator[str]:
    rows = list(rows)
    for row in rows:
        alike = [len(one.term) for one in rows if one.indent == row.indent and one.meaning]
        column = row.indent + 2 + min(max(alike, default=0), _TERM)
        lead = " " * row.indent + row.term
        if width - column < _MEANING:
            column = row.indent + 4
        if not row.meaning:
            yield _fill(row.term, width, " " * (row.indent + 4), " " * row.indent)
        elif len(lead) + 2 <= column:
            yield _fill(row.meaning, width, " " * column, lead.ljust(column))
        else:
            yield _fill(row.term, width, " " * (row.indent + 4), " " * row.indent)
            yield _fill(row.meaning, width, " " * column)


def _command_lines(command: str, width: int) -> list[str]:
    """The command line, broken between words as a shell reads it."""
    lines = textwrap.wrap(command, width - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
