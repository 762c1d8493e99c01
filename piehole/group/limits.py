"""What names one site's disk can hold. Each site publishes this in its record, so that others refuse a name that it could not take.

Most names are within every limit that is known of file systems in use, and nobody needs to ask.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from piehole.refs import encode
from piehole.repository.git_settings import GitConfig

FIELD: Final = "limits"
_LOCK: Final = len(".lock")
_LOG: Final = len("/logs/")
# Every file system that is known to hold repositories takes these: eCryptfs has 143 bytes for a name, and a root is short.
_ANYWHERE_PART: Final = 100
_ANYWHERE_NAME: Final = 700


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """``part``: bytes of one part of a ref's name; ``name``: bytes of all of it; 0: not known. ``folds_case``: names that differ only in
    case are the same file there; ``composes``: so are names that differ only in how their accents are written (NFC, NFD).
    """

    part: int = 0
    name: int = 0
    folds_case: bool = False
    composes: bool = False

    @classmethod
    def of(cls, git_dir: Path, config: GitConfig) -> SiteLimits:
        """The limits of this repository: git has probed its file system when it was made, and the rest is asked of it now."""
        if (git_dir / "reftable").exists():  # names are no files there
            return cls()
        try:
            part, path = os.pathconf(git_dir, "PC_NAME_MAX"), os.pathconf(git_dir, "PC_PATH_MAX")
        except OSError:
            return cls()
        name = path - 1 - len(os.fsencode(git_dir)) - _LOG - _LOCK
        return cls(part - _LOCK, name, config.is_true("core.ignorecase"), config.is_true("core.precomposeunicode"))

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> SiteLimits:
        """The limits in a site's record; none where it has none."""
        found = record.get(FIELD)
        if not isinstance(found, dict):
            return cls()
        part, name = (value if isinstance(value := found.get(field), int) else 0 for field in ("part", "name"))
        return cls(part, name, found.get("folds_case") is True, found.get("composes") is True)

    def fields(self) -> dict[str, int | bool]:
        """The field of a site's record."""
        found = {"part": self.part, "name": self.name, "folds_case": self.folds_case, "composes": self.composes}
        return {name: value for name, value in found.items() if value}

    def objection(self, ref: str, others: Collection[str]) -> str:
        """Why a site with these limits cannot hold this ref beside the others; ``""`` where it can."""
        longest = max(len(encode(part)) for part in ref.split("/"))
        if self.part and longest > self.part:
            return f"one part of its name has {longest} bytes, and that disk takes {self.part}"
        if self.name and len(encode(ref)) > self.name:
            return f"its name has {len(encode(ref))} bytes, and the path of that repository leaves {self.name}"
        if self.folds_case or self.composes:
            same = self._as_a_file(ref)
            twin = next((other for other in others if other != ref and self._as_a_file(other) == same), None)
            if twin is not None:
                return f"that disk cannot tell it from {twin}"
        return ""

    def _as_a_file(self, ref: str) -> str:
        composed = unicodedata.normalize("NFC", ref) if self.composes else ref
        return composed.casefold() if self.folds_case else composed


def may_be_refused(ref: str) -> bool:
    """Whether some disk may not be able to hold this name: it is long, or has more than small ASCII letters."""
    parts = ref.split("/")
    return (
        len(ref) > _ANYWHERE_NAME
        or any(len(part) > _ANYWHERE_PART for part in parts)
        or ref != ref.lower()
        or not ref.isascii()
    )
