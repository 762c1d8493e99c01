"""Object ids as text: full lower-case hex, 40 digits (sha1) or 64 (sha256)."""

from __future__ import annotations

import re
from typing import Final

LENGTHS: Final = {"sha1": 40, "sha256": 64}
_OID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def zero(object_format: str) -> str:
    """The zero oid of this object format: "no such ref" in git, a tombstone in the consensus."""
    return "0" * LENGTHS[object_format]


def is_zero(oid: str) -> bool:
    return not oid.strip("0")


def is_oid(text: str, object_format: str) -> bool:
    """Whether this is a full lower-case oid of the format. Upper-case, abbreviated or wrong-length ones are not."""
    return len(text) == LENGTHS[object_format] and _OID.fullmatch(text) is not None
