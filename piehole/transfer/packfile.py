"""The entries of a pack, one at a time, in memory (gitformat-pack(5)).

What is read may come from a peer: nothing is inflated beyond a budget, and whatever is odd is LeaveToGit, for git to judge.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import new
from typing import Final, Protocol, overload

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
TAG: Final = 4
KINDS: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
OFS_DELTA: Final = 6
REF_DELTA: Final = 7

_SIZE_BITS: Final = 60
_PIECE: Final = 8192  # bytes given to zlib at once: what follows the end of a stream is copied


class LeaveToGit(Exception):
    """Something large or unusual, of which git shall say what it is. Never leaves this package."""


class InflateBudget:
    """How many bytes may still be inflated."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise LeaveToGit("too large")


@dataclass(frozen=True, slots=True)
class GitObject:
    """A whole object."""

    kind: int
    content: bytes


@dataclass(frozen=True, slots=True)
class PackEntry:
    """``base``: of a delta, the offset or the oid of what it is against; ``end``: the offset of the next entry."""

    kind: int
    base: int | bytes | None
    content: bytes
    end: int


def oid_of(obj: GitObject, object_format: str) -> bytes:
    """The oid that its content gives."""
    return new(object_format, b"%s %d\0" % (KINDS[obj.kind], len(obj.content)) + obj.content).digest()


class ByteSequence(Protocol):
    """A pack, in memory or on disk."""

    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...


def entry_at(data: ByteSequence, offset: int, width: int, budget: InflateBudget) -> PackEntry:
    """The entry at this offset.

    :param width: bytes of an oid
    :raises LeaveToGit: it is too large, or none
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
            raise LeaveToGit("a delta against nothing")
        base = offset - distance
    elif kind == REF_DELTA:
        base, at = bytes(data[at : at + width]), at + width
    elif kind not in KINDS:
        raise LeaveToGit("an entry of no known kind")
    budget.take(size)
    content, end = _inflated(data, at, size)
    return PackEntry(kind, base, content, end)


def resolve_delta(base: GitObject, delta: bytes, budget: InflateBudget) -> GitObject:
    """What a delta makes of its base.

    :raises LeaveToGit: it is too large, or no delta for this base
    :raises IndexError: it ends in its header
    """
    size, at = _number(delta, 1, delta[0], 7)
    result, _ = _number(delta, at + 1, delta[at], 7)
    if size != len(base.content):
        raise LeaveToGit("a delta against something else")
    budget.take(result)
    try:
        return GitObject(base.kind, b"".join(apply_delta(base.content, delta)))
    except ApplyDeltaError as error:
        raise LeaveToGit("a broken delta") from error


def _number(data: ByteSequence, at: int, byte: int, shift: int) -> tuple[int, int]:
    """The number that begins with the low bits of ``byte``, ``shift`` of them, and goes on at ``at``; and where it ends."""
    number = byte & ((1 << shift) - 1)
    while byte & 0x80:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > _SIZE_BITS:
            raise LeaveToGit("too large")
    return number, at


def _inflated(data: ByteSequence, at: int, size: int) -> tuple[bytes, int]:
    """The stream of ``size`` bytes that begins there, and where it ends."""
    stream = zlib.decompressobj()
    parts: list[bytes] = []
    missing = size
    while not stream.eof:
        piece = data[at : at + _PIECE]
        if not piece:
            raise LeaveToGit("ends too early")
        # One byte more than is due, so that a longer stream is noticed; 0 would mean without a limit.
        part = stream.decompress(piece, missing + 1)
        missing -= len(part)
        if missing < 0:
            raise LeaveToGit("longer than it says")
        parts.append(part)
        at += len(piece) - len(stream.unconsumed_tail) - len(stream.unused_data)
    if missing:
        raise LeaveToGit("shorter than it says")
    return b"".join(parts), at
