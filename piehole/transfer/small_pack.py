"""Small packs are taken in without a git process: for a push of one commit, starting git costs more than all the rest.

What is large, unusual or wrong in any way is left to git, which then sees the same bytes and says what there is to say: nothing
is ever refused here. Git's index-pack looks for attempted collisions of SHA-1 in what it takes in. Here a plain hash does: each
object passed git's receive-pack at the site where it was pushed, and the consensus names its oid. An object whose oid is here
already is kept a second time, as a second copy, which git takes for the same one.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import new
from itertools import accumulate
from pathlib import Path
from typing import Final

from piehole.git import shared_mode
from piehole.transfer.closure import ClosureProof, parents_of
from piehole.transfer.object_store import ObjectStore
from piehole.transfer.packfile import COMMIT, GitObject, InflateBudget, LeaveToGit, entry_at, oid_of, resolve_delta
from piehole.transfer.quarantine import Quarantine

SMALL: Final = 64 << 10  # bytes of a pack that is taken in without git
_OBJECTS: Final = 200
_INFLATED: Final = 4 << 20
_LOCAL: Final = 8 << 20
_HEADER: Final = 12  # gitformat-pack: "PACK", version, number of objects, each four bytes, network order
_MODE: Final = 0o444
# Values of core.sharedRepository whose modes are known here (git-config(1)).
_SHARED: Final = re.compile(r"|umask|false|group|true|1|all|world|everybody|2|0[67][0-7]{2}")

# What the parsers raise for bytes that are no pack, no tree, no index ...; an OSError is a file that vanished, or a full disk.
_ODD: Final = (
    LeaveToGit,
    zlib.error,
    struct.error,
    ValueError,
    IndexError,
    KeyError,
    StopIteration,
    OverflowError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class _PackedObject:
    """An object as the new pack shall have it."""

    oid: bytes
    obj: GitObject
    packed: bytes


class SmallPackIntake:
    """Takes one small pack, as ``git index-pack --fix-thin`` would, and proves what ``git rev-list`` would find.

    :param shared: the value of core.sharedRepository, ``""`` where it is not set
    """

    def __init__(self, quarantine: Quarantine, object_format: str, shared: str) -> None:
        self._quarantine = quarantine
        self._format = object_format
        self._shared = shared
        self._store = ObjectStore(quarantine.git_dir, object_format, InflateBudget(_LOCAL))
        self._objects: Mapping[bytes, GitObject] = {}

    def take(self, data: bytes) -> bool:
        """Write the pack to the quarantine, whole objects only; false: nothing was written, and git shall take it."""
        try:
            parts = self._parts(data)
            self._write(parts)
        except _ODD:
            return False
        self._objects = {part.oid: part.obj for part in parts}
        return True

    def proves(self, wants: Collection[str], haves: Collection[str]) -> bool:
        """Whether it is certain that the closure of all wants is complete. False says nothing: ask git."""
        if (self._quarantine.git_dir / "shallow").exists():
            return False
        width = new(self._format).digest_size
        try:
            closure = ClosureProof(self._objects, [bytes.fromhex(have) for have in haves], self._store, width)
            closure.prove([bytes.fromhex(want) for want in wants])
        except _ODD:
            return False
        return True

    def parents(self) -> dict[str, tuple[str, ...]]:
        """The parents of each commit that came."""
        commits = ((oid, parents_of(obj, len(oid))) for oid, obj in self._objects.items() if obj.kind == COMMIT)
        return {oid.hex(): parents for oid, parents in commits if parents is not None}

    def _parts(self, data: bytes) -> list[_PackedObject]:
        width = new(self._format).digest_size
        body = data[:-width]
        magic, version, count = struct.unpack_from(">4sII", body)
        if magic != b"PACK" or version != 2 or not 0 < count <= _OBJECTS:
            raise LeaveToGit("no small pack")
        if new(self._format, body).digest() != data[-width:]:
            raise LeaveToGit("a damaged pack")
        budget = InflateBudget(_INFLATED)
        at = _HEADER
        places: dict[int, bytes] = {}
        parts: dict[bytes, _PackedObject] = {}
        for _ in range(count):
            entry = entry_at(body, at, width, budget)
            if entry.base is None:
                obj, packed = GitObject(entry.kind, entry.content), body[at : entry.end]
            else:
                # Git writes a base before what is against it.
                base = entry.base if isinstance(entry.base, bytes) else places[entry.base]
                older = parts[base].obj if base in parts else self._store.read(base)
                obj = resolve_delta(older, entry.content, budget)
                packed = _header(obj) + zlib.compress(obj.content)
            oid = places[at] = oid_of(obj, self._format)
            parts[oid] = _PackedObject(oid, obj, packed)
            at = entry.end
        if at != len(body) or len(parts) != count:
            raise LeaveToGit("more than its objects, or one of them twice")
        return list(parts.values())

    def _write(self, parts: list[_PackedObject]) -> None:
        """The pack, and after it the index, without which nobody sees it. They are synced when they are published."""
        if _SHARED.fullmatch(self._shared) is None:
            raise LeaveToGit("an unusual core.sharedRepository")
        pack, index = _written(parts, self._format)
        stem = self._quarantine.pack_directory / f"pack-{new(self._format, pack).hexdigest()}"
        try:
            self._create(stem.with_suffix(".pack"), pack)
            self._create(stem.with_suffix(".idx"), index)
        except OSError:
            for suffix in (".idx", ".pack"):
                stem.with_suffix(suffix).unlink(missing_ok=True)
            raise

    def _create(self, path: Path, content: bytes) -> None:
        """With the mode that git would give it: an octal value of core.sharedRepository is the mode, others add to the umask's."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            if self._shared:
                by_umask = 0 if self._shared.startswith("0") else os.fstat(descriptor).st_mode & _MODE
                os.fchmod(descriptor, by_umask | shared_mode(self._shared) & _MODE)
            file.write(content)


def _header(obj: GitObject) -> bytes:
    """The header of its entry in a pack: its kind in three bits, and its size."""
    byte, size = obj.kind << 4 | len(obj.content) & 15, len(obj.content) >> 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    return bytes([*header, byte])


def _written(parts: list[_PackedObject], object_format: str) -> tuple[bytes, bytes]:
    """The pack of these objects, and its index (gitformat-pack, "Version 2 pack-*.idx files")."""
    head = struct.pack(">4sII", b"PACK", 2, len(parts))
    body = head + b"".join(part.packed for part in parts)
    checksum = new(object_format, body).digest()
    starts = accumulate((len(part.packed) for part in parts), initial=len(head))
    rows = sorted((part.oid, zlib.crc32(part.packed), start) for part, start in zip(parts, starts, strict=False))
    counts = [0] * 256
    for oid, _, _ in rows:
        counts[oid[0]] += 1
    index = (
        b"\377tOc\0\0\0\2"
        + struct.pack(">256I", *accumulate(counts))
        + b"".join(oid for oid, _, _ in rows)
        + struct.pack(f">{len(rows)}I", *(crc for _, crc, _ in rows))
        + struct.pack(f">{len(rows)}I", *(start for _, _, start in rows))
        + checksum
    )
    return body + checksum, index + new(object_format, index).digest()
