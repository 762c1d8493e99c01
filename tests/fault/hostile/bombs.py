"""Packs that are small to send and large to take, made byte by byte (gitformat-pack)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from hashlib import sha1

COMMIT, TREE, BLOB, TAG, REF_DELTA = 1, 2, 3, 4, 7
_KINDS = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


def oid_of(kind: int, content: bytes) -> bytes:
    return sha1(b"%s %d\0" % (_KINDS[kind], len(content)) + content).digest()  # noqa: S324 -- git's own


def pack(objects: Iterable[bytes], *, promised: int | None = None) -> bytes:
    """:param promised: the number of objects that the header claims"""
    bodies = list(objects)
    whole = b"PACK" + struct.pack(">II", 2, len(bodies) if promised is None else promised) + b"".join(bodies)
    return whole + sha1(whole).digest()  # noqa: S324 -- git's own


def plain(kind: int, content: bytes) -> bytes:
    return _header(kind, len(content)) + zlib.compress(content)


def zeros(kind: int, size: int) -> bytes:
    """An object of so many zero bytes: a thousandth of that is sent."""
    shrink = zlib.compressobj(1)
    block = bytes(1 << 20)
    body = b"".join(shrink.compress(block) for _ in range(size >> 20))
    return _header(kind, size >> 20 << 20) + body + shrink.flush()


def delta_bomb(base: bytes, times: int) -> bytes:
    """A delta that copies the first 64 KiB of a blob so many times, each by a single byte."""
    delta = _varint(len(base)) + _varint(times << 16) + b"\x80" * times
    return _header(REF_DELTA, len(delta)) + oid_of(BLOB, base) + zlib.compress(delta)


def _header(kind: int, size: int) -> bytes:
    first, size = (kind << 4) | (size & 15), size >> 4
    return bytes([first | 0x80]) + _varint(size) if size else bytes([first])


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
