"""Stale locks: what a killed process leaves behind, and the record that names them.

That process is a push's receive-pack, or a ``git update-ref`` of piehole's own.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from piehole.fastpath import inflight, paths, processes
from piehole.fastpath.failpoints import Step, reached
from piehole.refs import is_zero

_FOLDERS: Final = (inflight.FOLDER, inflight.MOVING)
# A lock that was made this long (seconds) after the dead process last wrote its record belongs to another process.
_LATE: Final = 60.0
# A lock younger than this (seconds) may belong to a process that took it after the dead one; it is checked again later.
_YOUNG: Final = 1.0
# A record of another pid namespace says nothing about whether its process lives; after so long (seconds) it does not.
_FORGOTTEN: Final = 86400.0
_COARSE: Final = 3_000_000_000  # nanoseconds; no file system's times are coarser
# Git holds a ref's lock for as long as a hook runs; piehole.hookTimeout is 10 s. An older lock (seconds) is stale.
_OLD: Final = 15.0
_OTHERS: Final = ("HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock")


class StaleLockMonitor:
    """Tells, again and again, whether :func:`clear` would find a dead process's record in one repository.

    The folders are empty as a rule. A folder that was empty and has not been written since is not read again: a controller checks
    thousands of them every few seconds.
    """

    def __init__(self, git_dir: Path) -> None:
        # Of each folder that was empty: when it was last written.
        self._empty = {f"{git_dir}/{folder}": 0 for folder in _FOLDERS}

    def any_dead(self) -> bool:
        return any(self._dead_in(folder) for folder in self._empty)

    def _dead_in(self, folder: str) -> bool:
        try:
            written = os.stat(folder).st_mtime_ns  # noqa: PTH116 -- pathlib takes twice as long
            if written == self._empty[folder]:
                return False
            names = os.listdir(folder)  # noqa: PTH208
        except FileNotFoundError:
            return False
        # A time says nothing about a second write soon after the first: file systems tell them apart by milliseconds, some by seconds.
        settled = time.time_ns() - written > _COARSE
        self._empty[folder] = written if settled and not names else 0
        return any(_is_dead(Path(folder, name)) for name in names)


def clear(git_dir: Path) -> None:
    """Remove the locks that dead processes left, then their records.

    Locks that no record names stay: they may be anybody's.
    """
    dead = {path for path in _paths(git_dir) if _is_dead(path)}
    if not dead:
        return
    records = [record for folder in _FOLDERS for record in inflight.records(str(git_dir), folder)]
    living = {ref for record in records if Path(record.path) not in dead for ref in record.announced}
    for record in records:
        path = Path(record.path)
        if path in dead:
            seen = _modified(path)
            if not all(_remove(git_dir / name, seen) for name in _locks(record, living)):
                dead.discard(path)
    reached(Step.UNLOCKED)
    for path in dead:  # also those that were cut off before their first line, and announced nothing
        path.unlink(missing_ok=True)


def _paths(git_dir: Path) -> list[Path]:
    found: list[Path] = []
    for folder in _FOLDERS:
        try:
            found += (git_dir / folder).iterdir()
        except FileNotFoundError:
            continue
    return found


def _locks(record: inflight.Record, living: set[str]) -> list[str]:
    """The lock files that git may have made for this record, without those that a living process is about to make."""
    locks = [f"{ref}.lock" for ref in record.announced if ref not in living]
    if not living:
        locks.append("HEAD.lock")  # taken with the branch that HEAD points to
        if any(is_zero(one.new) for one in record.announced.values()):
            # The new packed refs are written under their lock, and would be in the way of the next ones.
            locks += ["packed-refs.new", "packed-refs.lock"]
    return locks


def _is_dead(path: Path) -> bool:
    lives = processes.lives(path.name)
    if lives is None:
        return time.time() - _modified(path) > _FORGOTTEN
    return not lives


def _modified(path: Path) -> float:
    """When the file was changed last, by the clock of this machine; now, where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _remove(lock: Path, seen: float) -> bool:
    """Remove a lock of the dead process that last wrote its record at ``seen``; return whether none is left."""
    try:
        made = lock.lstat().st_mtime
        if made > seen + _LATE:
            return True
        if time.time() - made < _YOUNG:
            return False
        lock.unlink()
    except OSError:
        pass  # it is gone; or this account may not remove it: git names it where it is in the way, and the ref counts as stuck
    return True


def old_locks(git_dir: Path) -> dict[str, float]:
    """Lock files that block every later move of their refs, and their age in seconds."""
    found: dict[str, float] = {}
    for path in [*(git_dir / name for name in _OTHERS), *sorted(_lock_files(git_dir / "refs"))]:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:  # gone meanwhile, or no place for a lock
            continue
        if age > _OLD:
            found[str(path.relative_to(git_dir))] = age
    return found


def _lock_files(folder: Path) -> list[Path]:
    return [Path(path) for path, is_folder in paths.below(str(folder)) if path.endswith(".lock") and not is_folder]
