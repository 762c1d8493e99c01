"""The entries of a pack, one at a time, in memory (gitformat-pack(5)), and the writing of a pack with its index.

dulwich inflates, applies deltas and writes. The headers of entries and of deltas are read here, because dulwich sets them no
limit: the size that an entry claims is inflated before anybody could refuse it (64 KiB can claim 64 MiB), and a header of
60,000 bytes takes 0.3 s to decode. With dulwich's functions, the pack of one commit is stored and proven in 0.88 ms of
processor time instead of 0.75, of the 4.1 ms that the whole fetch takes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import new, sha1
from io import BytesIO
from itertools import accumulate
from typing import Final

from dulwich.errors import ApplyDeltaError
from dulwich.object_format import SHA1
from dulwich.pack import (
    UnpackedObject,
    apply_delta,
    pack_object_header,
    read_zlib_chunks,
    write_pack_index_v2,
)

from piehole.transfer.git_objects import KINDS, ByteSequence, GitObject, InflateBudget, LeaveToGit

OFS_DELTA: Final = 6
REF_DELTA: Final = 7
HEADER: Final = 12  # gitformat-pack: "PACK", version, number of objects, each four bytes, network order

_SIZE_BITS: Final = 60
_PIECE: Final = 8192  # bytes given to zlib at once: what follows the end of a stream is copied


@dataclass(frozen=True, slots=True)
class PackEntry:
    """An inflated entry. ``base``: the offset or the oid of a delta's base; ``end``: the offset of the next entry."""

    kind: int
    base: int | bytes | None
    content: bytes
    end: int


def entry_at(data: ByteSequence, offset: int, width: int, budget: InflateBudget) -> PackEntry:
    """The entry at this offset.

    :param width: bytes of an oid
    :raises LeaveToGit: it is too large, or malformed
    :raises IndexError: the data ends in its header
    :raises zlib.error: its content cannot be inflated
    """
    byte, at = data[offset], offset + 1
    kind = byte >> 4 & 7
    size, at = _number(data, at, byte, 4)
    base: int | bytes | None = None
    if kind == OFS_DELTA:
        byte, at = data[at], at + 1
        distance = byte & 0x7F
        while byte & 0x80 and distance < offset:
            byte, at = data[at], at + 1
            distance = (distance + 1) << 7 | byte & 0x7F
        if not 0 < distance < offset:
            raise LeaveToGit("a delta without a base")
        base = offset - distance
    elif kind == REF_DELTA:
        base, at = bytes(data[at : at + width]), at + width
    elif kind not in KINDS:
        raise LeaveToGit("an entry of no known kind")
    budget.take(size)
    content, end = _inflated(data, at, size)
    return PackEntry(kind, base, content, end)


def resolve_delta(base: GitObject, delta: bytes, budget: InflateBudget) -> GitObject:
    """Apply a delta to its base.

    :raises LeaveToGit: it is too large, or no delta for this base
    :raises IndexError: it ends in its header
    """
    size, at = _number(delta, 1, delta[0], 7)
    result, _ = _number(delta, at + 1, delta[at], 7)
    if size != len(base.content):
        raise LeaveToGit("a delta for another base")
    budget.take(result)
    try:
        return GitObject(base.kind, b"".join(apply_delta(base.content, delta)))
    except ApplyDeltaError as error:
        raise LeaveToGit("a broken delta") from error


def _number(data: ByteSequence, at: int, byte: int, shift: int) -> tuple[int, int]:
    """A number whose lowest ``shift`` bits are in ``byte`` and whose others follow at ``at``; returns it and where it ends."""
    number = byte & ((1 << shift) - 1)
    while byte & 0x80:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > _SIZE_BITS:
            raise LeaveToGit("too large")
    return number, at


def _inflated(data: ByteSequence, at: int, size: int) -> tuple[bytes, int]:
    """Inflate the stream that begins at ``at`` into ``size`` bytes; returns them and where the stream ends.

    More data must follow the stream; the checksum of a pack does.
    """
    place = at

    def read(count: int) -> bytes:
        nonlocal place
        piece = data[place : place + count]
        place += len(piece)
        return piece

    inflated = UnpackedObject(0, decomp_len=size, hash_func=sha1)
    rest = read_zlib_chunks(read, inflated, buffer_size=_PIECE)
    return b"".join(inflated.decomp_chunks), place - len(rest)


def packed(obj: GitObject) -> bytes:
    """The object as a whole entry of a pack."""
    return bytes(pack_object_header(obj.kind, None, len(obj.content), SHA1)) + zlib.compress(obj.content)


def write_pack(entries: Iterable[tuple[bytes, bytes]], object_format: str) -> tuple[bytes, bytes]:
    """The pack of these entries, each an oid and its bytes in the pack, and its index."""
    oids, parts = zip(*entries, strict=True)
    body = b"".join((struct.pack(">4sII", b"PACK", 2, len(parts)), *parts))
    checksum = new(object_format, body).digest()
    starts = accumulate((len(part) for part in parts), initial=HEADER)
    rows = sorted((oid, start, zlib.crc32(part)) for oid, start, part in zip(oids, starts, parts, strict=False))
    index = BytesIO()
    write_pack_index_v2(index, rows, checksum)
    return body + checksum, index.getvalue()
