"""What is shown of a repository and lies on its disk alone: read now and then, without git."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.group.config import Config
from piehole.refs import KEPT_REFS
from piehole.repository import verification

Stamp = tuple[int, int, int, int]
_LINE: Final = f" {KEPT_REFS}".encode()


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """``kept``: how many kept tips there are; ``proven``: when all objects were last proven, ``""`` where they never were; ``overdue``: that
    is too long ago. ``stamp``: the state of the refs when they were counted.
    """

    kept: int
    proven: str
    overdue: bool
    stamp: Stamp

    @classmethod
    def read(cls, config: Config, before: DiskFacts | None) -> DiskFacts:
        """:param before: what was read last"""
        git_dir = config.git_dir
        stamp = _stamp(git_dir)
        kept = before.kept if before is not None and before.stamp == stamp else _kept(git_dir)
        overdue = bool(verification.waits_too_long(git_dir, config.verify_every))
        return cls(kept, verification.last(git_dir).proven, overdue, stamp)


def _stamp(git_dir: Path) -> Stamp:
    def of(path: Path) -> tuple[int, int]:
        try:
            found = path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size

    return (*of(git_dir / "packed-refs"), *of(git_dir / KEPT_REFS))


def _kept(git_dir: Path) -> int:
    """Loose and packed refs of kept tips; one that is both counts once."""
    try:
        loose = {name for name in os.listdir(git_dir / KEPT_REFS) if not name.endswith(".lock")}  # noqa: PTH208
    except OSError:
        loose = set()
    names = set(loose)
    try:
        with (git_dir / "packed-refs").open("rb") as lines:
            for line in lines:
                _, found, name = line.rstrip(b"\n").partition(_LINE)
                if found:
                    names.add(name.decode(errors="replace"))
    except OSError:
        pass
    return len(names)
