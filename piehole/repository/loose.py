"""Commits that lie in files of their own, read without a process: what a push has just brought, as a rule.

A loose object is ``TYPE SIZE\\0CONTENT``, deflated (gitformat-pack(5), "Object storage format" of Git's book); the content of a commit
begins with lines ``tree OID`` and ``parent OID``. What is packed, damaged or of another type is none of this module's business: git
is asked about that.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Bytes of an inflated commit that are looked at: its parents come first. Some hundreds of them fit.
_LOOKED_AT: Final = 1 << 15


# Commits of one push that are read here; git is quicker with more.
_FEW: Final = 100


def adds(git_dir: Path, old: str | None, new: str) -> bool:
    """Whether ``new`` is a loose commit that, where there is an ``old`` one, descends from it through loose commits alone.

    False says nothing. In a shallow repository, whose history is cut, nothing descends from anything.
    """
    first = parents(git_dir, new)
    if first is None or (git_dir / "shallow").exists():
        return False
    pending, seen = list(first), {new}
    while old is not None and old not in pending:
        if not pending or len(seen) > _FEW:
            return False
        oid = pending.pop()
        if oid not in seen:
            seen.add(oid)
            pending += parents(git_dir, oid) or ()
    return True


def parents(git_dir: Path, oid: str) -> Sequence[str] | None:
    """The parents of a commit; None where it is no loose commit of this repository."""
    try:
        with git_dir.joinpath("objects", oid[:2], oid[2:]).open("rb") as file:
            content = zlib.decompressobj().decompress(file.read(_LOOKED_AT), _LOOKED_AT)
    except (OSError, zlib.error):
        return None
    kind, _, body = content.partition(b"\0")
    head, end, _ = body.partition(b"\nauthor ")
    lines = head.split(b"\n")
    if not kind.startswith(b"commit ") or not end or not lines[0].startswith(b"tree "):
        return None
    named = [line.removeprefix(b"parent ") for line in lines[1:] if line.startswith(b"parent ")]
    return [name.decode("ascii", "replace") for name in named] if len(named) == len(lines) - 1 else None
