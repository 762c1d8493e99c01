"""Small packs are stored without a git process: for a push of one commit, starting git costs more than all the rest.

Nothing is refused here. A pack that is large, unusual or wrong in any way is left to git, which gets the same bytes and reports
what is wrong. Git's index-pack detects attempted SHA-1 collisions; here a plain hash is enough, because each object passed
git's receive-pack at the site where it was pushed, and the consensus names its oid. An object that is here already is stored a
second time, which git allows.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Collection, Mapping
from hashlib import new
from pathlib import Path
from typing import Final

from piehole.git import shared_mode
from piehole.transfer.closure import ClosureProof
from piehole.transfer.git_objects import GitObject, InflateBudget, LeaveToGit, oid_of, tree_and_parents
from piehole.transfer.object_store import ObjectStore
from piehole.transfer.packfile import HEADER, entry_at, packed, resolve_delta, write_pack
from piehole.transfer.quarantine import Quarantine

SMALL: Final = 64 << 10  # bytes of a pack that is stored without git
_OBJECTS: Final = 200
_INFLATED: Final = 4 << 20
_LOCAL: Final = 8 << 20
_MODE: Final = 0o444
# Values of core.sharedRepository whose modes are known here (git-config(1)).
_SHARED: Final = re.compile(r"|umask|false|group|true|1|all|world|everybody|2|0[67][0-7]{2}")

# What the parsers raise for malformed bytes. An OSError is a file that vanished, or a full disk.
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


class SmallPackIntake:
    """Stores one small pack as ``git index-pack --fix-thin`` would, and proves what ``git rev-list`` would find.

    :param shared: the value of core.sharedRepository, ``""`` where it is not set
    """

    def __init__(self, quarantine: Quarantine, object_format: str, shared: str) -> None:
        self._quarantine = quarantine
        self._format = object_format
        self._shared = shared
        self._store = ObjectStore(quarantine.git_dir, object_format, InflateBudget(_LOCAL))
        self._objects: Mapping[bytes, GitObject] = {}

    def take(self, data: bytes) -> bool:
        """Write the pack to the quarantine, with whole objects only. False: nothing was written; give it to git."""
        try:
            objects = self._read(data)
            self._write({oid: entry for oid, (_, entry) in objects.items()})
        except _ODD:
            return False
        self._objects = {oid: obj for oid, (obj, _) in objects.items()}
        return True

    def proves(self, wants: Collection[str], haves: Collection[str]) -> bool:
        """Whether the closure of all wants is proven complete. False means "not known": ask git."""
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
        """The parents of each received commit."""
        found = {}
        for oid, obj in self._objects.items():
            try:
                found[oid.hex()] = tree_and_parents(obj, len(oid))[1]
            except LeaveToGit:  # no commit, or an unusual one
                continue
        return found

    def _read(self, data: bytes) -> dict[bytes, tuple[GitObject, bytes]]:
        """The objects of the pack by oid, each with the entry that stores it whole in the new pack."""
        width = new(self._format).digest_size
        body = data[:-width]
        magic, version, count = struct.unpack_from(">4sII", body)
        if magic != b"PACK" or version != 2 or not 0 < count <= _OBJECTS:
            raise LeaveToGit("no small pack")
        if new(self._format, body).digest() != data[-width:]:
            raise LeaveToGit("a damaged pack")
        budget = InflateBudget(_INFLATED)
        at = HEADER
        places: dict[int, bytes] = {}
        objects: dict[bytes, tuple[GitObject, bytes]] = {}
        for _ in range(count):
            entry = entry_at(data, at, width, budget)
            if entry.base is None:
                obj, written = GitObject(entry.kind, entry.content), data[at : entry.end]
            else:
                # Git writes a base before its deltas.
                base = entry.base if isinstance(entry.base, bytes) else places[entry.base]
                older = objects[base][0] if base in objects else self._store.read(base)
                obj = resolve_delta(older, entry.content, budget)
                written = packed(obj)
            oid = places[at] = oid_of(obj, self._format)
            objects[oid] = (obj, written)
            at = entry.end
        if at != len(body) or len(objects) != count:
            raise LeaveToGit("more than its objects, or one of them twice")
        return objects

    def _write(self, entries: Mapping[bytes, bytes]) -> None:
        """Write the pack, then its index, without which git does not see it. They are synced when they are published."""
        if _SHARED.fullmatch(self._shared) is None:
            raise LeaveToGit("an unusual core.sharedRepository")
        pack, index = write_pack(entries.items(), self._format)
        stem = self._quarantine.pack_directory / f"pack-{new(self._format, pack).hexdigest()}"
        try:
            self._create(stem.with_suffix(".pack"), pack)
            self._create(stem.with_suffix(".idx"), index)
        except OSError:
            for suffix in (".idx", ".pack"):
                stem.with_suffix(suffix).unlink(missing_ok=True)
            raise

    def _create(self, path: Path, content: bytes) -> None:
        """Create a file with the mode that git would give it: an octal core.sharedRepository is the mode, other values add to the umask's."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            if self._shared:
                by_umask = 0 if self._shared.startswith("0") else os.fstat(descriptor).st_mode & _MODE
                os.fchmod(descriptor, by_umask | shared_mode(self._shared) & _MODE)
            file.write(content)
