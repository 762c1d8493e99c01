"""What is known of the soundness of this repository's objects, on its disk: the mark of a corrupt repository, and the last proof.

``piehole/corrupt`` is there exactly while the repository is known to be corrupt; it says why. ``piehole/verified`` says when the
objects were last examined, and with what result; when all of them were last proven (``proven``); which files were found damaged; which
kept tips are incomplete; and what of all that etcd was told.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import time as clock
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from piehole import files

SOUND: Final = "sound"
PARTLY: Final = "sound as far as the time allowed"
CORRUPT: Final = "corrupt"
_MARK: Final = "piehole/corrupt"
_FILE: Final = "piehole/verified"
_LATE: Final = 1.5  # of the time between two proofs, after which the next one is overdue


@dataclass(frozen=True, slots=True)
class Verification:
    """``result``: SOUND, PARTLY or CORRUPT, ``""`` where nothing was examined yet; ``why``: what is corrupt; ``time``: of the examination;
    ``proven``: when all objects were last proven, whatever was examined since.
    """

    result: str = ""
    why: str = ""
    time: str = ""
    proven: str = ""

    def fields(self) -> dict[str, str]:
        """The field ``verified`` of a progress record."""
        found = {"result": self.result, "time": self.time, "why": self.why, "proven": self.proven}
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
    texts = (value.get(name) for name in ("result", "why", "time", "proven"))
    found = Verification(*(text if isinstance(text, str) else "" for text in texts))
    why = corrupt(git_dir)
    return Verification(CORRUPT, why, found.time, found.proven) if why else found


def record(git_dir: Path, result: str, why: str = "") -> None:
    """Write down what an examination found. The mark is written first and removed last.

    :raises OSError: it cannot be written
    """
    _record(git_dir, result, why, {"damaged": []} if result != CORRUPT else {})


def record_proof(git_dir: Path, why: str, damaged: Collection[Path], kept: Mapping[str, str]) -> None:
    """Write down what a proof of all objects found.

    :param why: what is corrupt, ``""`` where nothing is
    :param damaged: files that must leave the store before the repository is sound again
    :param kept: the refs of kept tips that are incomplete, each with the reason
    :raises OSError: it cannot be written
    """
    more: dict[str, Any] = {"damaged": [str(path.relative_to(git_dir)) for path in damaged], "kept": dict(kept)}
    if not why:
        more["proven"] = _now()
    _record(git_dir, CORRUPT if why else SOUND, why, more)


def _record(git_dir: Path, result: str, why: str, more: Mapping[str, Any]) -> None:
    if result == CORRUPT:
        files.replace_file(git_dir / _MARK, f"{why}\n", 0o644, suffix=f".{os.getpid()}", written=lambda: None)
    _update(git_dir, {"result": result, "why": why, "time": _now(), **more})
    if result != CORRUPT:
        (git_dir / _MARK).unlink(missing_ok=True)


def damaged(git_dir: Path) -> list[Path]:
    """The files that a proof has found damaged and that are still there: an examination of the files alone may not see it."""
    listed = _load(git_dir).get("damaged")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return [path for name in names if (path := git_dir / name).exists() and path.resolve().is_relative_to(git_dir)]


def still_damaged(git_dir: Path, left: Collection[Path]) -> None:
    """Note that of the files that a proof has found damaged these alone are left.

    :raises OSError: it cannot be written
    """
    _update(git_dir, {"damaged": [str(path.relative_to(git_dir)) for path in damaged(git_dir) if path in left]})


def incomplete_kept_tips(git_dir: Path) -> dict[str, str]:
    """The refs of kept tips that were incomplete at the last proof, each with the reason."""
    value = _load(git_dir).get("kept")
    return {str(ref): str(why) for ref, why in value.items()} if isinstance(value, dict) else {}


def due(git_dir: Path, every: float, site_id: str) -> float:
    """When all objects are to be proven again (seconds since the epoch).

    Each repository has a moment of its own within the time between two proofs, so that a thousand of them are not proven at once. One
    that was never proven waits for it too, from the first time that this is asked.

    :raises OSError: that time cannot be written
    """
    value = _load(git_dir)
    now = clock.time()
    # A time that a wrong clock has written must not put it off.
    known = [at for name in ("proven", "since") if (at := seconds_of(value.get(name))) is not None and at <= now]
    if not known:
        _update(git_dir, {"since": _now()})
    before = max(known, default=now)
    import hashlib  # which a hook without a controller, that reads records, does not need

    phase = int.from_bytes(hashlib.sha256(site_id.encode()).digest()[:4]) / 2**32 * every
    return phase + every * (math.floor((before - phase) / every) + 1)


def overdue(proven: str, every: float) -> bool:
    """Whether the last proof was too long ago, by this machine's clock."""
    at = seconds_of(proven)
    return every > 0 and at is not None and clock.time() - at > every * _LATE


def waits_too_long(git_dir: Path, every: float) -> str:
    """Since when the proof of this repository is overdue, ``""`` where it is not."""
    value = _load(git_dir)
    text = value.get("proven") or value.get("since")
    return str(text) if isinstance(text, str) and overdue(text, every) else ""


def untold(git_dir: Path) -> bool:
    """Whether the other sites do not know yet that this one is corrupt, or that it is not any more, or of its last proof."""
    value = _load(git_dir)
    return bool(corrupt(git_dir)) != (value.get("told") == CORRUPT) or value.get("proven") != value.get("told_proven")


def told(git_dir: Path, verification: Verification) -> None:
    """Note that this was published."""
    value = _load(git_dir)
    news = {"told": verification.result, "told_proven": verification.proven or None}
    if (value.get("told") == CORRUPT) != (verification.result == CORRUPT) or value.get("told_proven") != news[
        "told_proven"
    ]:
        _update(git_dir, news)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def seconds_of(text: object) -> float | None:
    """A time in a record, in seconds since the epoch; None where this is none."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def _load(git_dir: Path) -> dict[str, Any]:
    try:
        value = json.loads((git_dir / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _update(git_dir: Path, news: Mapping[str, Any]) -> None:
    """Change some fields. A proof runs in a process of its own, beside the controller that publishes."""
    with files.locked(git_dir / "piehole" / "verified.lock", 0o644):
        value = {**_load(git_dir), **news}
        files.replace_file(git_dir / _FILE, json.dumps(value) + "\n", 0o644, suffix=f".{os.getpid()}")
