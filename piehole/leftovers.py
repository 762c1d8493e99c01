"""What a receive-pack that was killed leaves behind: its in-flight record, and the locks of the refs that the record names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from piehole import inflight, proc
from piehole.oids import is_zero
from piehole.steps import Step, reached

# A lock that was made this long (seconds) after the dead one's last sign of life is somebody else's.
_LATE: Final = 60.0
# A lock younger than this (seconds) may be somebody else's, who took it after the dead one's; it is looked at again later.
_YOUNG: Final = 1.0
# A record of another pid namespace says nothing about whether its process lives; after so long (seconds) it does not.
_FORGOTTEN: Final = 86400.0


def any_dead(git_dir: Path) -> bool:
    """Whether there is something that :func:`clear` would look at. Cheap: the folder is empty as a rule."""
    folder = git_dir / inflight.FOLDER
    return any(_is_dead(folder / name) for name in _names(folder))


def clear(git_dir: Path) -> list[str]:
    """Remove the locks that dead receive-packs left, then their records; return the locks that were removed.

    Locks that no record accounts for are left alone: they are not ours to judge.
    """
    folder = git_dir / inflight.FOLDER
    dead = {name for name in _names(folder) if _is_dead(folder / name)}
    if not dead:
        return []
    records = list(inflight.records(str(git_dir)))
    living = {ref for record in records if record.name not in dead for ref in record.announced}
    removed: list[str] = []
    for record in records:
        if record.name in dead:
            seen = _modified(Path(record.path))
            if not all(_remove(git_dir / name, seen, removed) for name in _locks(record, living)):
                dead.discard(record.name)
    reached(Step.UNLOCKED)
    for name in dead:  # also those that were cut off before their first line, and announced nothing
        (folder / name).unlink(missing_ok=True)
    return removed


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []


def _locks(record: inflight.Record, living: set[str]) -> list[str]:
    """The files by which git may have locked for this push, without those that a living one is about to make."""
    locks = [f"{ref}.lock" for ref in record.announced if ref not in living]
    if not living:
        locks.append("HEAD.lock")  # taken with the branch that HEAD points to
        if any(is_zero(one.new) for one in record.announced.values()):
            # The new packed refs are written under their lock, and would be in the way of the next ones.
            locks += ["packed-refs.new", "packed-refs.lock"]
    return locks


def _is_dead(path: Path) -> bool:
    lives = proc.lives(path.name)
    if lives is None:
        return time.time() - _modified(path) > _FORGOTTEN
    return not lives


def _modified(path: Path) -> float:
    """When the file was changed last, by the clock of this machine; now, where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _remove(lock: Path, seen: float, removed: list[str]) -> bool:
    """Whether there is no lock of the dead receive-pack any more, whose last sign of life was at ``seen``."""
    try:
        made = lock.lstat().st_mtime
        if made > seen + _LATE:
            return True
        if time.time() - made < _YOUNG:
            return False
        lock.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return (
            True  # not to be removed by this account: git names it where it is in the way, and the ref counts as stuck
        )
    removed.append(str(lock))
    return True
