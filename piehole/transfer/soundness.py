"""Examine whether the objects of a repository are what was once written to its disk, within a time limit.

What is examined, in this order, as far as the time allows:

1. The history of the tips, by one walk: every commit and tree is read, and every blob must exist. Where there is no time for
   all of it, the newest commits with all their files.
2. The files that hold objects, the newest first: each pack, index and graph ends with a checksum of its content, and a loose
   object's name is that of its content. So a zeroed byte is found wherever it is, also inside a blob.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import new
from pathlib import Path
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitSilent

_NEWEST: Final = "100"  # commits that are walked where there is no time for all
_FOR_WALK: Final = 0.6  # of the time, for the walk through everything
_AGAIN: Final = 0.2  # seconds after which a walk that failed is repeated: a repack may have moved the objects
_LOOSE: Final = 20_000  # files
_PIECE: Final = 1 << 20  # bytes that are read at once
# Files below objects/ that end with a checksum; `info` holds the commit-graph.
_SUMMED: Final = {".pack", ".idx", ".rev", ".bitmap", ".graph", ".mtimes"}
_NAMES: Final = ("multi-pack-index", "commit-graph")
DERIVED: Final = {".rev", ".bitmap", ".graph", ""}  # git works without these and makes them anew; "": those of _NAMES


@dataclass(frozen=True, slots=True)
class Soundness:
    """What an examination found. ``fault``: the first thing that is broken, ``""`` where nothing is; ``complete``: there was time
    for everything; ``damaged``: files that do not hold what was written to them; ``walk``: what git said of a broken history.
    """

    fault: str = ""
    complete: bool = True
    damaged: tuple[Path, ...] = ()
    walk: str = ""


def examine(git_dir: Path, tips: Collection[str], object_format: str, seconds: float) -> Soundness:
    """Examine the histories of ``tips`` and the files that hold objects.

    :param seconds: roughly; one file more may be read
    :raises GitError: git cannot work on this repository at all
    """
    deadline = Deadline(seconds)
    walk, walked = broken_history(git_dir, tips, deadline)
    damaged, read = damaged_files(git_dir / "objects", object_format, deadline)
    named = ", ".join(str(path.relative_to(git_dir)) for path in damaged[:3])
    fault = walk or (f"{named} does not hold what was written to it" if damaged else "")
    return Soundness(fault, walked and read, tuple(damaged), walk)


def broken_history(
    git_dir: Path, tips: Collection[str], deadline: Deadline, objects: Path | None = None
) -> tuple[str, bool]:
    """What git says where the history of a tip is broken (else ``""``), and whether there was time to walk through all of it.

    :param objects: the folder of objects, if not the repository's
    :raises GitError: git cannot work on this repository at all
    """
    if not tips:
        return "", True
    try:
        return _walk(git_dir, tips, (), deadline.remaining() * _FOR_WALK, objects), True
    except GitSilent:
        pass
    try:
        return _walk(git_dir, tips, ("-n", _NEWEST), deadline.remaining() * _FOR_WALK, objects), False
    except GitSilent:
        return "", False


def _walk(git_dir: Path, tips: Collection[str], limits: tuple[str, ...], seconds: float, objects: Path | None) -> str:
    # Nothing but the objects themselves is asked: a commit-graph may list commits that are gone.
    command = ["--shallow-file", "", "-c", "core.commitGraph=false", "rev-list", "--objects", "--quiet", "--stdin"]
    asked = "".join(f"{tip}\n" for tip in tips).encode()
    env = {"GIT_NO_LAZY_FETCH": "1", **({"GIT_OBJECT_DIRECTORY": str(objects)} if objects else {})}
    said = ""
    for attempt in range(2):
        if attempt:
            time.sleep(_AGAIN)
        done = git.run(
            git_dir, [*command, *limits], stdin=asked, timeout=max(seconds, _AGAIN), extra_env=env, ok=(0, 1, 128)
        )
        if done.returncode == 0:
            return ""
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
    git.run(
        git_dir, ["rev-parse", "--is-bare-repository"]
    )  # an owner or a configuration that git refuses is no broken history
    return said or "git cannot walk through the history"


def damaged_files(store: Path, object_format: str, deadline: Deadline) -> tuple[list[Path], bool]:
    """The files of this folder of objects whose content is not what was written, and whether there was time to read all."""
    complete = True
    damaged = []
    for path in newest_first(with_checksum(store)):
        sound = ends_with_its_checksum(path, object_format, deadline)
        complete = complete and sound is not None
        if sound is False:
            damaged.append(path)
    loose = list(newest_first(loose_objects(store)))
    for number, path in enumerate(loose):
        if number >= _LOOSE or deadline.passed:
            return damaged, False
        if not is_its_name(path, object_format):
            damaged.append(path)
    return damaged, complete


def with_checksum(store: Path) -> Iterator[Path]:
    for folder in ("pack", "info", "info/commit-graphs", "pack/multi-pack-index.d"):
        for path in _children(store / folder):
            summed = (path.suffix in _SUMMED or path.name in _NAMES) and not path.name.startswith(("tmp_", ".tmp"))
            # A pack without an index is not there for git: it is just coming, or was left behind.
            if summed and (path.suffix != ".pack" or path.with_suffix(".idx").exists()):
                yield path


def loose_objects(store: Path) -> Iterator[Path]:
    for folder in _children(store):
        if len(folder.name) == 2:
            yield from (path for path in _children(folder) if len(path.name) in (38, 62) and path.suffix == "")


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def newest_first(paths: Iterator[Path]) -> list[Path]:
    aged = []
    for path in paths:
        try:
            aged.append((path.stat().st_mtime_ns, path))
        except OSError:  # gone meanwhile
            continue
    return [path for _, path in sorted(aged, reverse=True)]


def ends_with_its_checksum(
    path: Path, object_format: str, deadline: Deadline | None, step: Callable[[int], None] = lambda _bytes: None
) -> bool | None:
    """Whether a file holds what was written to it; None: there was no time, or the file is gone.

    :param step: called with the number of bytes that were read
    """
    total = new(object_format)
    try:
        with path.open("rb") as file:
            left = path.stat().st_size - total.digest_size
            while left > 0:
                if deadline is not None and deadline.passed:
                    return None
                piece = file.read(min(left, _PIECE))
                if not piece:
                    return False
                total.update(piece)
                step(len(piece))
                left -= len(piece)
            return left == 0 and file.read() == total.digest()
    except FileNotFoundError:
        return None
    except OSError:  # the disk cannot read it
        return False


def is_its_name(path: Path, object_format: str) -> bool:
    total, unpack = new(object_format), zlib.decompressobj()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                data = unpack.decompress(piece, _PIECE)
                while data:
                    total.update(data)
                    data = unpack.decompress(unpack.unconsumed_tail, _PIECE)
    except FileNotFoundError:
        return True
    except (OSError, zlib.error):
        return False
    return unpack.eof and total.hexdigest() == f"{path.parent.name}{path.name}"
