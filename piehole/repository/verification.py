"""What is known of the soundness of this repository's objects, on its disk: the mark of a corrupt repository, and the last proof.

``piehole/corrupt`` is there exactly while the repository is known to be corrupt; it says why. ``piehole/verified`` says when the
objects were last examined, and with what result, and what of that etcd was told.
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from piehole import files

SOUND: Final = "sound"
PARTLY: Final = "sound as far as the time allowed"
CORRUPT: Final = "corrupt"
_MARK: Final = "piehole/corrupt"
_FILE: Final = "piehole/verified"


@dataclass(frozen=True, slots=True)
class Verification:
    """``result``: SOUND, PARTLY or CORRUPT, ``""`` where nothing was examined yet; ``why``: what is corrupt; ``time``: of the examination."""

    result: str = ""
    why: str = ""
    time: str = ""

    def fields(self) -> dict[str, str]:
        """The field ``verified`` of a progress record."""
        found = {"result": self.result, "time": self.time, "why": self.why}
        return {name: value for name, value in found.items() if value}


def corrupt(git_dir: Path) -> str:
    """Why this repository is marked as corrupt, ``""`` where it is not. Asked at every reconcile: most often one failed open()."""
    try:
        return (git_dir / _MARK).read_text(errors="replace").strip() or "it was marked as corrupt"
    except OSError:  # there is none, or this account may not look
        return ""


def last(git_dir: Path) -> Verification:
    """The last examination."""
    value = _load(git_dir)
    texts = (value.get(name) for name in ("result", "why", "time"))
    found = Verification(*(text if isinstance(text, str) else "" for text in texts))
    why = corrupt(git_dir)
    return Verification(CORRUPT, why, found.time) if why else found


def record(git_dir: Path, result: str, why: str = "") -> None:
    """Write down what an examination found. The mark is written first and removed last.

    :raises OSError: it cannot be written
    """
    if result == CORRUPT:
        files.replace_file(git_dir / _MARK, f"{why}\n", 0o644, suffix=f".{os.getpid()}", written=lambda: None)
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    _save(git_dir, {**_load(git_dir), "result": result, "why": why, "time": time})
    if result != CORRUPT:
        (git_dir / _MARK).unlink(missing_ok=True)


def untold(git_dir: Path) -> bool:
    """Whether the other sites do not know yet that this one is corrupt, or that it is not any more."""
    return bool(corrupt(git_dir)) != (_load(git_dir).get("told") == CORRUPT)


def told(git_dir: Path, verification: Verification) -> None:
    """Note that this was published."""
    value = _load(git_dir)
    if (value.get("told") == CORRUPT) != (verification.result == CORRUPT):
        _save(git_dir, {**value, "told": verification.result})


def _load(git_dir: Path) -> dict[str, Any]:
    try:
        value = json.loads((git_dir / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _save(git_dir: Path, value: dict[str, Any]) -> None:
    (git_dir / _FILE).parent.mkdir(exist_ok=True)
    files.replace_file(git_dir / _FILE, json.dumps(value) + "\n", 0o644, suffix=f".{os.getpid()}")
