"""Take damaged files out of a store of objects, once good copies of what refs need are there. Nothing is deleted: the files go to
``<repository>/piehole/damaged/``, and whatever can still be read of them and is nowhere else is copied into a new pack before.

Good copies beside a damaged pack are not enough: git copies the bytes of whichever pack it finds first, unread, into what it sends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.files import sync
from piehole.transfer.git_objects import GitObject, kind_of, oid_of
from piehole.transfer.keep_files import Hold
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.soundness import DERIVED, broken_history

FOLDER: Final = "piehole/damaged"
_PACKED: Final = (
    ".idx",
    ".pack",
    ".rev",
    ".bitmap",
    ".mtimes",
    ".promisor",
)  # the index first: then git does not see the pack
_MOST: Final = 256 << 20  # bytes of objects that are copied
_EACH: Final = 60.0  # seconds for one process


def only_derived(damaged: Collection[Path]) -> bool:
    """Whether git can do without all of these, and makes them anew."""
    return all(path.suffix in DERIVED and len(path.parent.name) != 2 for path in damaged)


def set_aside(
    git_dir: Path, damaged: Collection[Path], tips: Collection[str], object_format: str, hold: Hold, deadline: Deadline
) -> str:
    """Take these files out of the store; returns ``""``, or why they stay.

    :param tips: what must be complete without them
    :raises GitError: git failed where it must not
    :raises OSError: a file cannot be moved
    """
    if not damaged:
        return ""
    gone = _with_companions(git_dir, damaged)
    with _without(git_dir, gone) as view:
        for index in (path for path in gone if path.suffix == ".idx"):
            why = _salvage(git_dir, index, view, object_format, hold)
            if why:
                return why
    with _without(git_dir, gone) as view:  # with what was salvaged
        broken, complete = broken_history(git_dir, tips, deadline, view)
    if broken or not complete:
        return (
            f"without the damaged files the history is not complete: {broken or 'there was no time to walk through it'}"
        )
    target = git_dir / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for path in gone:
        if path.exists():
            put_aside(target, path)
    sync(git_dir / "objects" / "pack")
    return ""


def put_aside(target: Path, path: Path, *, leave: bool = False) -> None:
    """Move a file, or a folder of files, to this folder, beside what lies there already.

    :param leave: under its old name too: something takes its place
    """
    name = path.name if len(path.parent.name) != 2 else f"{path.parent.name}{path.name}"
    number, place = 0, target / name
    while os.path.lexists(place):
        number += 1
        place = target / f"{name}.{number}"
    if leave:
        place.hardlink_to(path)
    else:
        path.rename(place)


def delete_those_with(git_dir: Path, oids: Collection[str], object_format: str) -> list[str]:
    """Delete those of the files that were set aside as damaged that have one of these objects; returns the names of packs of which nobody
    can tell.
    """
    unread = []
    for path in [path for path in (git_dir / FOLDER).rglob("*") if path.is_file()]:
        # As put_aside names them: OID, pack-HASH.pack, and the same with a number.
        name, _, number = path.name.partition(".pack")
        if path.name.partition(".")[0] in oids:
            path.unlink()
        elif name != path.name and (not number or number[1:].isdigit()):
            try:
                with path.with_name(f"{name}.idx{number}").open("rb") as file:
                    shown = git.run(
                        git_dir, ["show-index", f"--object-format={object_format}"], stdin=file.read()
                    ).stdout
            except (GitError, OSError):
                unread.append(str(path.relative_to(git_dir)))
                continue
            if any(line.split(" ")[1] in oids for line in git.lines(shown)):
                for suffix in _PACKED:
                    path.with_name(f"{name}{suffix}{number}").unlink(missing_ok=True)
    return unread


def _with_companions(git_dir: Path, damaged: Collection[Path]) -> list[Path]:
    """The files to take out, in order: what names a damaged pack goes with it, and before it."""
    packs = git_dir / "objects" / "pack"
    stems = {path.stem for path in damaged if path.suffix in (".pack", ".idx", ".mtimes")}
    over_several = list(packs.glob("multi-pack-index*")) if stems else []
    companions = [packs / f"{stem}{suffix}" for suffix in _PACKED for stem in sorted(stems)]
    found = [*over_several, *companions, *damaged]
    graphs = any("commit-graph" in path.parent.name for path in damaged)
    if graphs:  # one file of a chain is no use without the others
        found += list((git_dir / "objects" / "info" / "commit-graphs").iterdir())
    return [path for path in dict.fromkeys(found) if os.path.lexists(path)]


@contextmanager
def _without(git_dir: Path, gone: Collection[Path]) -> Iterator[Path]:
    """A folder of objects that is the repository's without these files."""
    store, left = git_dir / "objects", set(gone)
    with tempfile.TemporaryDirectory(prefix="view-", dir=git_dir / "piehole") as made:
        view = Path(made)
        for folder in store.iterdir():
            if len(folder.name) == 2 or folder.name == "pack":
                (view / folder.name).mkdir()
                for path in folder.iterdir():
                    if path not in left and path.is_file():
                        (view / folder.name / path.name).symlink_to(path.resolve())
        alternates = store / "info" / "alternates"
        if alternates.exists():
            lines = [line for line in alternates.read_text().splitlines() if line and not line.startswith("#")]
            (view / "info").mkdir()
            (view / "info" / "alternates").write_text("".join(f"{(store / line).resolve()}\n" for line in lines))
        yield view


def _salvage(git_dir: Path, index: Path, view: Path, object_format: str, hold: Hold) -> str:
    """Copy what can be read of one damaged pack, and is not in the view, into a new pack; returns ``""``, or why not all of it."""
    from piehole.transfer.packfile import packed, write_pack  # loads dulwich, and this is rarely needed

    try:
        with index.open("rb") as file:
            shown = git.run(git_dir, ["show-index", f"--object-format={object_format}"], stdin=file.read()).stdout
    except GitError:
        return ""  # git cannot see a single object of it either
    listed = [line.split(" ")[1] for line in git.lines(shown)]
    asked = "".join(f"{oid}\n" for oid in listed).encode()
    elsewhere = _run(git_dir, view, ["cat-file", "--batch-check=%(objectname)"], asked)
    only_here = [line.split(" ")[0] for line in git.lines(elsewhere) if " " in line]
    if not only_here:
        return ""
    with tempfile.TemporaryDirectory(prefix="view-", dir=git_dir / "piehole") as made:
        alone = Path(made)
        (alone / "pack").mkdir()
        for suffix in (".pack", ".idx"):
            (alone / "pack" / index.with_suffix(suffix).name).symlink_to(index.with_suffix(suffix).resolve())
        found: dict[bytes, bytes] = {}
        size = 0
        for obj in _readable(git_dir, alone, only_here):
            size += len(obj.content)
            if size > _MOST:
                return f"{index.with_suffix('.pack').name} has more than {_MOST >> 20} MB that are nowhere else"
            found[oid_of(obj, object_format)] = packed(obj)
    if found:
        with Quarantine(git_dir) as quarantine:
            pack, written = write_pack(found.items(), object_format)
            stem = quarantine.pack_directory / "pack-salvaged"
            stem.with_suffix(".pack").write_bytes(pack)
            stem.with_suffix(".idx").write_bytes(written)
            quarantine.publish(quarantine.received(), hold)
    return ""


def _readable(git_dir: Path, alone: Path, oids: Collection[str]) -> Iterator[GitObject]:
    """Those of the objects that can be read. Git ends at the first that cannot, so it is started again after it."""
    left = list(oids)
    while left:
        asked = "".join(f"{oid}\n" for oid in left).encode()
        out = _run(git_dir, alone, ["cat-file", "--batch"], asked)
        at, read, cut = 0, 0, False
        while at < len(out):
            end = out.index(b"\n", at)
            words = out[at:end].split(b" ")
            at, read = end + 1, read + 1
            if len(words) != 3:
                continue
            content = out[at : at + int(words[2])]
            if len(content) < int(words[2]):
                cut = True
                break
            at += len(content) + 1
            obj = GitObject(kind_of(words[1]), content)
            if oid_of(obj, "sha1" if len(words[0]) == 40 else "sha256").hex() == words[0].decode():
                yield obj
        left = left[read:] if cut else left[read + 1 :]


def _run(git_dir: Path, objects: Path, command: list[str], asked: bytes) -> bytes:
    env = {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_NO_LAZY_FETCH": "1"}
    return git.run(git_dir, command, stdin=asked, timeout=_EACH, extra_env=env, ok=(0, 1, 128)).stdout


def remove_views(git_dir: Path) -> None:
    """Remove what a killed process has left of its views."""
    for path in (git_dir / "piehole").glob("view-*"):
        shutil.rmtree(path, ignore_errors=True)
