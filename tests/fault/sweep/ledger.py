"""What of the sweep has passed for this very state of the program and of the sweep, so that a sweep can go on where it was stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.fault.tree import PACKAGES, SOURCE

_FOLDER = SOURCE / ".cache" / "faults"


class Ledger:
    """One file for each state of the sources: the names of what has passed, one a line. Several processes may append at once."""

    def __init__(self) -> None:
        self._path = _FOLDER / f"sweep-{_state()}"

    def passed(self) -> set[str]:
        return set(self._path.read_text().split()) if self._path.exists() else set()

    def note(self, name: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"{name}\n")


def _state() -> str:
    """A name for what the sources say, committed or not."""
    digest = hashlib.sha256()
    folders = [SOURCE / package for package in PACKAGES] + [Path(__file__).parent]
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".sh")):
        digest.update(path.relative_to(SOURCE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
