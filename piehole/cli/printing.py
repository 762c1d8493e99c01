"""Printing text that others wrote: ref names, records of other sites, output of git and of peers.

A terminal obeys control characters, and with a line feed a record could look like a line of piehole's.
"""

from __future__ import annotations

import sys
from typing import TextIO

# Control characters (C0, DEL, C1), what turns the direction of writing, and what is no character at all. Bytes that are no
# UTF-8 (U+DC80 to U+DCFF, surrogateescape) are printed unchanged.
_OBEYED = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_NONE = (*range(0xD800, 0xDC80), *range(0xDD00, 0xE000))
_ESCAPED = {number: ascii(chr(number))[1:-1] for number in (*_OBEYED, *_NONE)}


def shown(text: str) -> str:
    """The text as one line without control characters: ``\\x1b`` stands for an escape."""
    return text.translate(_ESCAPED)


def tell(line: str, file: TextIO | None = None) -> None:
    """Print one line."""
    from piehole import long_work  # which --help does without

    long_work.rest()
    print(shown(line), file=file or sys.stdout)


def complain(text: str) -> None:
    """Print to standard error what may have several lines."""
    for line in text.split("\n"):
        tell(line, sys.stderr)
