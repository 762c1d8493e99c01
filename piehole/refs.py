"""Names of refs, object ids as text (full lower-case hex: 40 digits for sha1, 64 for sha256), and the move of one ref.

A ref's name is text that keeps its bytes (surrogateescape), since git allows any of them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEAD: Final = "HEAD"
PIEHOLE_REFS: Final = "refs/piehole/"
KEPT_REFS: Final = "refs/piehole/kept/"
HELD_REFS: Final = "refs/piehole/held/"
LENGTHS: Final = {"sha1": 40, "sha256": 64}
_OID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# git-check-ref-format(1), except that the name must be below refs/.
_REF_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)|\.$|/$")


def zero(object_format: str) -> str:
    """The zero oid of this object format: "no such ref" in git, a tombstone in the consensus."""
    return "0" * LENGTHS[object_format]


def is_zero(oid: str) -> bool:
    return not oid.strip("0")


def is_oid(text: str, object_format: str) -> bool:
    """Whether this is a full lower-case oid of the format. Upper-case, abbreviated or wrong-length ones are not."""
    return len(text) == LENGTHS[object_format] and _OID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Command:
    """The move of ``ref`` from ``old`` to ``new``, in a push or in this repository; the zero oid stands for "no ref"."""

    ref: str
    old: str
    new: str

    @property
    def creates(self) -> bool:
        return is_zero(self.old)

    @property
    def deletes(self) -> bool:
        return is_zero(self.new)


def value_of(raw: bytes | None, object_format: str) -> str | None:
    """The consensus value as an oid: None where the key is absent; a trailing newline is forgiven.

    :raises ValueError: the value is no oid of this format (an administrator locked the ref, or made a mistake)
    """
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace").removesuffix("\n")
    if not is_oid(text, object_format):
        raise ValueError(text)
    return text


def shown(oid: str) -> str:
    return "nothing" if is_zero(oid) else oid


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def is_ref_name(name: str) -> bool:
    """Whether git would take this as the full name of a ref below ``refs/`` (git-check-ref-format)."""
    return name.startswith("refs/") and name.count("/") >= 1 and not _REF_FORBIDDEN.search(name)


def is_managed(name: str, exclude: Sequence[str]) -> bool:
    """Whether the consensus decides about this ref: below ``refs/``, not piehole's own, not excluded by the site.

    :param exclude: globs over full ref names, as in ``piehole.exclude``
    """
    if not name.startswith("refs/") or name.startswith(PIEHOLE_REFS):
        return False
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)


def parents(ref: str) -> list[str]:
    """The names that must not be refs for this one to exist: ``refs/heads/a/b`` -> ``refs/heads/a``, ``refs/heads``."""
    parts = ref.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts) - 1, 1, -1)]


def short(value: str) -> str:
    """A value for display: an oid's first 12 digits, ``nothing`` for the zero oid, any other text cut to 12 characters."""
    if value and not value.strip("0"):
        return "nothing"
    return value if value.startswith("ref: ") else value[:12]
