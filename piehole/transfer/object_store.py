"""Single objects of the local store, read without a git process: a few, and small ones.

Looked for loose, then in the packs, the newest first: what a push builds upon came last. Alternates are not looked at. Every
object is hashed, so nothing that is damaged is relied upon.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left
from hashlib import new
from pathlib import Path
from stat import S_ISREG
from typing import Final, overload

from piehole.transfer.packfile import (
    KINDS,
    GitObject,
    InflateBudget,
    LeaveToGit,
    PackEntry,
    entry_at,
    oid_of,
    resolve_delta,
)

_INDEX: Final = b"\377tOc\0\0\0\2"
_NAMES: Final = 8 + 256 * 4
_FAR: Final = 1 << 31
_NUMBER: Final = {4: ">I", 8: ">Q"}
_OPEN: Final = 32  # indexes that stay open
_CHAIN: Final = 256  # deltas upon each other; git makes 50
_KINDS: Final = {name: kind for kind, name in KINDS.items()}


class ObjectStore:
    """Reads objects of ``git_dir`` for one transfer, and remembers them. What it opens is closed with it.

    :param budget: how much may be inflated on the way, over all reads
    """

    def __init__(self, git_dir: Path, object_format: str, budget: InflateBudget) -> None:
        self._objects = git_dir / "objects"
        self._format = object_format
        self._width = new(object_format).digest_size
        self._budget = budget
        self._read: dict[bytes, GitObject] = {}
        self._packs: list[Path] | None = None
        self._files: dict[Path, _File] = {}

    def read(self, oid: bytes) -> GitObject:
        """The object of this oid.

        :raises LeaveToGit: it is not here, or too large
        :raises OSError: a pack vanished, or something cannot be read
        :raises zlib.error: it is damaged, as IndexError, KeyError, ValueError and struct.error say, too
        """
        found = self._read.get(oid)
        if found is None:
            found = self._loose(oid) or self._packed(oid)
            if oid_of(found, self._format) != oid:
                raise LeaveToGit("a damaged object")
            self._read[oid] = found
        return found

    def _loose(self, oid: bytes) -> GitObject | None:
        name = oid.hex()
        try:
            file = _File(f"{self._objects}/{name[:2]}/{name[2:]}")
        except FileNotFoundError:
            return None
        self._budget.take(file.size)
        data = file[: file.size]
        stream = zlib.decompressobj()
        head = stream.decompress(data, 32)
        words, _, beginning = head.partition(b"\0")
        kind, _, length = words.partition(b" ")
        self._budget.take(int(length))
        content = beginning + stream.decompress(stream.unconsumed_tail, max(1, int(length) - len(beginning) + 1))
        if not stream.eof or len(content) != int(length):
            raise LeaveToGit("a damaged object")
        return GitObject(_KINDS[kind], content)

    def _packed(self, oid: bytes) -> GitObject:
        """Follows the deltas down to a whole object, and comes back up."""
        pack, offset = self._place(oid)
        deltas: list[bytes] = []
        while len(deltas) < _CHAIN:
            entry: PackEntry = entry_at(self._file(pack), offset, self._width, self._budget)
            if entry.base is None:
                obj = GitObject(entry.kind, entry.content)
                for delta in reversed(deltas):
                    obj = resolve_delta(obj, delta, self._budget)
                return obj
            deltas.append(entry.content)
            if isinstance(entry.base, int):
                offset = entry.base
            else:
                pack, offset = self._place(entry.base)
        raise LeaveToGit("too many deltas")

    def _place(self, oid: bytes) -> tuple[Path, int]:
        if self._packs is None:
            self._packs = self._listed()
        for number, index in enumerate(self._packs):
            offset = self._offset(self._file(index), oid)
            if offset is None and number >= _OPEN:
                del self._files[index]  # there may be very many
            if offset is not None:
                # What came together is asked for together.
                self._packs.insert(0, self._packs.pop(number))
                return index.with_suffix(".pack"), offset
        raise LeaveToGit("not here")

    def _listed(self) -> list[Path]:
        with os.scandir(self._objects / "pack") as found:
            dated = [(entry.stat().st_mtime_ns, entry.path) for entry in found if entry.name.endswith(".idx")]
        return [Path(path) for _, path in sorted(dated, reverse=True)]

    def _offset(self, index: _File, oid: bytes) -> int | None:
        """Where the pack of this index has the object (gitformat-pack, "Version 2 pack-*.idx files")."""
        if index[: len(_INDEX)] != _INDEX:
            raise LeaveToGit("an index of another version")
        first = oid[0]
        low = index.number(4 + 4 * first, 4) if first else 0
        high = index.number(8 + 4 * first, 4)
        total = index.number(8 + 4 * 255, 4)
        width = self._width

        def name(number: int) -> bytes:
            return index[_NAMES + number * width : _NAMES + (number + 1) * width]

        number = bisect_left(range(total), oid, low, high, key=name)
        if number >= high or name(number) != oid:
            return None
        near = _NAMES + total * (width + 4)
        offset = index.number(near + 4 * number, 4)
        return index.number(near + 4 * total + 8 * (offset ^ _FAR), 8) if offset & _FAR else offset

    def _file(self, path: Path) -> _File:
        found = self._files.get(path)
        if found is None:
            found = self._files[path] = _File(path)
        return found


class _File:
    """A file as a sequence of bytes. It is not mapped: who shortens a file that is mapped ends the process that reads it."""

    def __init__(self, path: Path | str) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._descriptor)
        if not S_ISREG(found.st_mode):
            raise LeaveToGit("no file")
        self.size = found.st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        if isinstance(place, slice):
            start = place.start or 0
            return os.pread(self._descriptor, place.stop - start, start)
        return os.pread(self._descriptor, 1, place)[0]

    def number(self, at: int, size: int) -> int:
        """:raises struct.error: the file ends before"""
        return int(struct.unpack(_NUMBER[size], self[at : at + size])[0])
