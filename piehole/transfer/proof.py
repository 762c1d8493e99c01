"""Prove all that a repository holds, however long that takes; it can be stopped at any moment, and goes on where it was.

What is proven, in this order:

1. Each file with a checksum at its end (packs, indexes, commit-graphs, multi-pack-indexes, bitmaps, reverse indexes), and that an
   index is the one of its pack.
2. Loose objects: the name of each is that of its content.
3. ``deep``: each object in each pack is unpacked, and its name is that of its content. (A pack can have a right checksum over an object
   that was damaged before it was packed.)
4. The history of all tips: every commit and tree is read, and every blob exists.
5. What git derives from the objects agrees with them, as git's own ``verify`` of commit-graph and multi-pack-index says.

The cursor remembers what was proven of the first three. A pack never changes under its name, so what was proven of it counts while its
size and time stay the same; what vanished is forgotten, and what came since is proven before the end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from piehole import git
from piehole.files import replace_file
from piehole.refs import LENGTHS
from piehole.transfer import pack_objects, soundness
from piehole.transfer.pace import Pace
from piehole.transfer.process import streamed

FILE: Final = "piehole/verifying"
_SAVE_EVERY: Final = 5.0  # seconds
_NOTE: Final = 100  # objects of a pack after which the cursor moves
_KEPT_FOR: Final = 7 * 86400.0  # seconds after which an interrupted proof begins anew
_AGAIN: Final = 0.2  # seconds after which what failed is repeated: a repack may have moved the objects
_NAMED: Final = 1000
_CHUNK: Final = 1 << 16


@dataclass(slots=True)
class Proof:
    """What was found. ``damaged``: files that do not hold what was written to them; ``objects``: damaged objects, each with its file;
    ``walk``: what git said of a broken history, and ``missing``: the objects that are not there; ``derived``: files that do not agree
    with the objects.
    """

    damaged: list[Path] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)
    walk: str = ""
    missing: list[str] = field(default_factory=list)
    derived: list[Path] = field(default_factory=list)
    proven: int = 0  # bytes

    @property
    def sound(self) -> bool:
        return not (self.damaged or self.objects or self.walk or self.derived)

    def fault(self, git_dir: Path) -> str:
        """What is broken, in a few words; ``""`` where nothing is."""
        if self.walk:
            return self.walk
        files = [str(path.relative_to(git_dir)) for path in dict.fromkeys([*self.damaged, *self.derived])]
        if files:
            more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
            return f"{', '.join(files[:3])}{more} does not hold what was written to it"
        if self.objects:
            oid, where = next(iter(self.objects.items()))
            return f"the object {oid} is damaged in {where}"
        return ""


class Cursor:
    """What an unfinished proof of this repository has proven, on its disk."""

    def __init__(self, git_dir: Path, deep: bool) -> None:
        self._path = git_dir / FILE
        self._deep = deep
        self._saved = time.monotonic()
        self._done: dict[str, str] = {}
        self.resumed = False
        with suppress(OSError, ValueError, AttributeError, TypeError):
            value = json.loads(self._path.read_bytes())
            fresh = abs(time.time() - self._path.stat().st_mtime) < _KEPT_FOR
            if fresh and value["deep"] is deep:
                self._done = {str(name): str(seen) for name, seen in value["done"].items()}
                self.resumed = bool(self._done)

    def is_done(self, name: str, signature: str) -> bool:
        return self._done.get(name) == signature

    def objects(self, name: str, signature: str) -> int:
        """How many objects of this pack were proven."""
        seen, _, number = self._done.get(f"{name}#", "").rpartition(" ")
        return int(number) if seen == signature and number.isdigit() else 0

    def note(self, name: str, signature: str) -> None:
        self._done[name] = signature
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def note_objects(self, name: str, signature: str, number: int) -> None:
        self.note(f"{name}#", f"{signature} {number}")

    def save(self) -> None:
        """Write it; where the disk is full, the next proof repeats some of this one."""
        self._saved = time.monotonic()
        with suppress(OSError):
            replace_file(self._path, json.dumps({"deep": self._deep, "done": self._done}) + "\n", 0o644)

    def end(self) -> None:
        """The proof is complete."""
        self._path.unlink(missing_ok=True)


def prove(git_dir: Path, tips: Collection[str], object_format: str, pace: Pace, *, deep: bool) -> Proof:
    """Prove this repository.

    :param tips: whose histories must be complete
    :raises Stopped: by the pace; the cursor is saved
    :raises GitError: git cannot work on this repository at all
    """
    cursor, proof = Cursor(git_dir, deep), Proof()
    prover = _Prover(git_dir, object_format, pace, cursor, proof)
    try:
        prover.files()
        prover.loose()
        if deep:
            prover.packed()
        proof.walk = prover.history(tips)
        prover.derived()
    except BaseException:
        cursor.save()
        raise
    if proof.sound:
        cursor.end()
    else:
        cursor.save()  # what is damaged is not in it; after a repair the rest need not be proven again
    return proof


def total(git_dir: Path, *, deep: bool) -> int:
    """About how many bytes a proof reads."""
    store = git_dir / "objects"
    files = [path for path in soundness.with_checksum(store) if path.exists()]
    size = sum(path.stat().st_size * (2 if deep and path.suffix == ".pack" else 1) for path in files)
    return size + sum(path.stat().st_size for path in soundness.loose_objects(store) if path.exists())


class _Prover:
    def __init__(self, git_dir: Path, object_format: str, pace: Pace, cursor: Cursor, proof: Proof) -> None:
        self._git_dir = git_dir
        self._store = git_dir / "objects"
        self._format = object_format
        self._pace = pace
        self._cursor = cursor
        self._proof = proof

    def files(self) -> None:
        for path in soundness.newest_first(soundness.with_checksum(self._store)):
            name, signature = self._known(path)
            if self._cursor.is_done(name, signature):
                continue
            sound = soundness.ends_with_its_checksum(path, self._format, None, self._step(f"checksum of {path.name}"))
            if sound and path.suffix == ".idx":
                sound = self._names_its_pack(path)
            if sound:
                self._cursor.note(name, signature)
            elif sound is not None:
                self._proof.damaged.append(path)

    def loose(self) -> None:
        step = self._step("loose objects")
        for path in soundness.newest_first(soundness.loose_objects(self._store)):
            name, signature = self._known(path)
            if self._cursor.is_done(name, signature):
                continue
            if soundness.is_its_name(path, self._format):
                self._cursor.note(name, signature)
            else:
                self._proof.damaged.append(path)
                self._proof.objects[f"{path.parent.name}{path.name}"] = name
            step(int(signature.partition(" ")[0] or 0))

    def packed(self) -> None:
        for path in sorted((self._store / "pack").glob("*.pack")):
            name, signature = self._known(path)
            if not path.with_suffix(".idx").exists() or self._cursor.is_done(f"{name}#", f"{signature} all"):
                continue
            number = first = self._cursor.objects(name, signature)
            whole = True
            step = self._step(f"objects of {path.name}")
            for number, oid, size, sound in pack_objects.read(self._git_dir, path, self._format, first):
                if not sound:
                    self._proof.objects.setdefault(oid, name)
                    whole = False
                if whole and number % _NOTE == 0:
                    self._cursor.note_objects(name, signature, number)
                step(size)
            if whole and path.exists() and number != _count(path):
                self._proof.damaged.append(path.with_suffix(".idx"))  # it does not name all objects of the pack
            elif whole:
                self._cursor.note(f"{name}#", f"{signature} all")

    def history(self, tips: Collection[str]) -> str:
        """What git says where the history of a tip is broken, else ``""``."""
        if not tips:
            return ""
        for attempt in range(2):
            if attempt:
                time.sleep(_AGAIN)
            said = self._walk(tips)
            if not said:
                return ""
        git.run(
            self._git_dir, ["rev-parse", "--is-bare-repository"]
        )  # what git refuses altogether is no broken history
        self._proof.missing = self._missing(tips)
        return said

    def _missing(self, tips: Collection[str]) -> list[str]:
        """The names of the first objects that are not there, as far as git can go on without them: not without a commit."""
        command = [
            "--shallow-file",
            "",
            "-c",
            "core.commitGraph=false",
            "rev-list",
            "--objects",
            "--missing=print",
            "--stdin",
        ]
        asked = "".join(f"{tip}\n" for tip in tips).encode()
        done = git.run(self._git_dir, command, stdin=asked, extra_env={"GIT_NO_LAZY_FETCH": "1"}, ok=_ANY)
        return [line[1:] for line in git.lines(done.stdout) if line.startswith("?")][:_NAMED]

    def _walk(self, tips: Collection[str]) -> str:
        step = self._step("the history of the refs")
        command = ["--shallow-file", "", "-c", "core.commitGraph=false", "rev-list", "--objects", "--stdin"]
        asked = "".join(f"{tip}\n" for tip in tips).encode()
        # Not --quiet: while this does not read, git waits.
        with streamed(self._git_dir, command, asked, {"GIT_NO_LAZY_FETCH": "1"}) as walk:
            while walk.read(_CHUNK):
                step(0)
            return walk.end()

    def derived(self) -> None:
        """Have git compare what it derives from objects with them. What is damaged as a file is known already."""
        info, packs = self._store / "info", self._store / "pack"
        graphs = [path for path in (info / "commit-graph", info / "commit-graphs") if path.exists()]
        over = [path for path in (packs / "multi-pack-index",) if path.exists()]
        for command, files in ((["commit-graph", "verify"], graphs), (["multi-pack-index", "verify"], over)):
            self._step(f"git {' '.join(command)}")(0)
            if files and not self._agrees(command):
                self._proof.derived += files

    def _agrees(self, command: Sequence[str]) -> bool:
        for attempt in range(2):
            if attempt:
                time.sleep(_AGAIN)
            if git.run(self._git_dir, command, ok=_ANY).returncode == 0:
                return True
        return False

    def _names_its_pack(self, index: Path) -> bool | None:
        """Whether an index is of the pack beside it: it ends with the pack's checksum and its own."""
        length = LENGTHS[self._format] // 2
        try:
            return _last(index, 2 * length)[:length] == _last(index.with_suffix(".pack"), length)
        except FileNotFoundError:
            return None if not index.exists() else False
        except OSError:
            return False

    def _known(self, path: Path) -> tuple[str, str]:
        try:
            stat = path.stat()
        except OSError:
            return str(path.relative_to(self._git_dir)), ""
        return str(path.relative_to(self._git_dir)), f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"

    def _step(self, doing: str) -> Callable[[int], None]:
        def step(read: int) -> None:
            self._proof.proven += read
            self._pace.step(read, doing)

        return step


_ANY: Final = tuple(range(256))


def _count(pack: Path) -> int:
    """How many objects a pack says that it has."""
    with pack.open("rb") as file:
        return int.from_bytes(file.read(12)[8:])


def _last(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-size, os.SEEK_END)
        return file.read()
