"""Stale locks: what a killed process leaves behind, and the record that names them.

That process is a push's receive-pack, or a ``git update-ref`` of piehole's own. Its record has the marks of its locks, taken while it held
them (:mod:`piehole.fastpath.held_locks`). So no lock of another process is removed, however old, and nothing for a process that may live.

A lock that git had taken a moment before it was killed has no mark yet. But the record says to which value each ref was to move, and git
writes that value into the lock. Such a lock is removed where it holds exactly that value, no other record that may be of a living process
names the ref, and it is older than any push or move of piehole's keeps one. (Who else locks a ref without a record is a git that somebody
runs by hand, and it has other content: `git pack-refs` and `git reflog expire` leave their locks empty.) Until then the record stays.
Any other lock is reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from piehole import files
from piehole.deadline import Deadline
from piehole.fastpath import held_locks, inflight, paths, processes
from piehole.fastpath.failpoints import Step, reached
from piehole.refs import is_ref_name, is_zero

_FOLDERS: Final = (inflight.FOLDER, inflight.MOVING)
_COARSE: Final = 3_000_000_000  # nanoseconds; no file system's times are coarser
_PATIENCE: Final = 10.0  # seconds for another process that does the same; it takes milliseconds
# Git holds a ref's lock for as long as a hook runs; piehole.hookTimeout is 10 s. One that is older (seconds) is reported.
_OLD: Final = 15.0
_MOST: Final = 128  # bytes; an oid with its line end has at most 65
_OTHERS: Final = (held_locks.HEAD, "packed-refs.lock", "config.lock", "shallow.lock", held_locks.REFTABLE)


class StaleLockMonitor:
    """Tells, again and again, whether :func:`clear` would find a dead process's record in one repository.

    The folders are empty as a rule. A folder that was empty and has not been written since is not read again: a controller checks
    thousands of them every few seconds.
    """

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        # Of each folder that was empty: when it was last written.
        self._empty = dict.fromkeys(_FOLDERS, 0)

    def any_dead(self) -> bool:
        return any(self._dead_in(folder) for folder in self._empty)

    def _dead_in(self, folder: str) -> bool:
        path = f"{self._git_dir}/{folder}"
        try:
            written = os.stat(path).st_mtime_ns  # noqa: PTH116 -- pathlib takes twice as long
            if written == self._empty[folder]:
                return False
            names = os.listdir(path)  # noqa: PTH208
        except FileNotFoundError:
            return False
        # A time says nothing about a second write soon after the first: file systems tell them apart by milliseconds, some by seconds.
        settled = time.time_ns() - written > _COARSE
        self._empty[folder] = written if settled and not names else 0
        return any(_is_dead(inflight.Record(str(self._git_dir), name, folder)) for name in names)


def clear(git_dir: Path) -> None:
    """Remove the locks that dead processes left, then their records."""
    dead = [record for record in _unread_records(git_dir) if _is_dead(record)]
    if not dead:
        return
    # Not two at once: the second one might find a new lock in the place of one that it has compared.
    handle = os.open(git_dir / "piehole", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if files.lock(handle, Deadline(_PATIENCE)):
            _clear([_loaded(record) for record in dead if Path(record.path).exists()], git_dir)
    finally:
        os.close(handle)


def _clear(dead: list[inflight.Record], git_dir: Path) -> None:
    for record in dead:
        for name, mark in record.locks.items():
            if _is_lock(name):
                _remove(git_dir / name, mark)
    awaited = [record for record in dead if _await_unmarked(record, git_dir)]
    reached(Step.UNLOCKED)
    for record in dead:  # also those that were cut off before their first line
        if record not in awaited:
            Path(record.path).unlink(missing_ok=True)


def _await_unmarked(dead: inflight.Record, git_dir: Path) -> bool:
    """Remove locks that a dead process has taken and not marked; return whether some have to become older, and the record has to stay."""
    found = _unmarked(dead, git_dir)
    held = _named_by_others(git_dir) if found else set()
    awaited = False
    for ref, mark in found.items():
        age = time.time() - _written(mark) / 1e9
        if 0 <= age < _OLD or ref in held:
            awaited = True
        elif age >= _OLD:  # one that is dated in the future may have any age
            if held_locks.target_of_head(str(git_dir)) == ref:
                _remove_unmarked_head(git_dir, mark)
            _remove(git_dir / f"{ref}.lock", mark)
    return awaited


def _unmarked(dead: inflight.Record, git_dir: Path) -> dict[str, str]:
    """The refs that were to move and whose locks hold what git writes to move them; with the marks that these locks have now."""
    found = {}
    for ref, intended in dead.announced.items():
        name = f"{ref}.lock"
        mark = held_locks.mark(str(git_dir / name)) if _is_lock(name) and name not in dead.locks else ""
        if mark and not is_zero(intended.new) and _content(git_dir / name) == f"{intended.new}\n".encode():
            found[ref] = mark
    return found


def _content(lock: Path) -> bytes:
    """The beginning of what a lock holds. Whoever may write the folder could have put a pipe there, or a link."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file, suppress(OSError):
        return file.read(_MOST)
    return b""


def _named_by_others(git_dir: Path) -> set[str]:
    """The refs that a process which may live is to move, or whose locks it holds."""
    names: set[str] = set()
    for record in _records(git_dir):
        if not _is_dead(record):
            names.update(record.announced, record.coming, (name.removesuffix(".lock") for name in record.locks))
    return names


def _remove_unmarked_head(git_dir: Path, mark: str) -> None:
    """Remove HEAD's lock, which git takes right after that of the ref that HEAD points to, and leaves empty.

    :param mark: of the lock of that ref
    """
    head = git_dir / held_locks.HEAD
    found = held_locks.mark(str(head))
    if found and 0 <= _written(found) - _written(mark) <= _COARSE and not _content(head):
        _remove(head, found)


def _written(mark: str) -> int:
    """When a lock with this mark was written, in nanoseconds."""
    return int(mark.split()[1])


def _is_lock(name: str) -> bool:
    """Whether git makes a lock of this name. Whoever may push may write a record."""
    return name in (*_OTHERS, *held_locks.PACKED) or (name.endswith(".lock") and is_ref_name(name[: -len(".lock")]))


def _remove(lock: Path, mark: str) -> None:
    """Remove a dead process's lock, where it is still that very file."""
    try:
        if held_locks.mark(str(lock)) == mark:
            lock.unlink()
    except OSError:
        pass  # this account may not remove it: git names it where it is in the way, and the ref counts as stuck


def _is_dead(record: inflight.Record) -> bool:
    """Its name alone tells, where that can be told here; else the record does."""
    alive = record.lives
    return not (_loaded(record).lives is None if alive is None else alive)


def _records(git_dir: Path) -> Iterator[inflight.Record]:
    return map(_loaded, _unread_records(git_dir))


def _unread_records(git_dir: Path) -> Iterator[inflight.Record]:
    for folder in _FOLDERS:
        try:
            names = sorted(path.name for path in (git_dir / folder).iterdir())
        except FileNotFoundError:
            continue
        for name in names:
            yield inflight.Record(str(git_dir), name, folder)


def _loaded(record: inflight.Record) -> inflight.Record:
    """The record, read as far as that is possible."""
    try:
        record.load()
    except OSError:  # it was cut off by a kill -9, or has gone
        pass
    return record


def unjudged(git_dir: Path) -> dict[str, str]:
    """The records whose processes may be dead or alive for all that can be found out here, and whose they are."""
    found = {}
    for record in _records(git_dir):
        if record.lives is None and not inflight.is_attended(record.path):
            found[record.path] = processes.origin(record.name)
    return found


def old_locks(git_dir: Path) -> dict[str, str]:
    """Lock files that block every later move of their refs, and a sentence about each."""
    found: dict[str, str] = {}
    for path in [*(git_dir / name for name in _OTHERS), *sorted(_lock_files(git_dir / "refs"))]:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:  # gone meanwhile, or no place for a lock
            continue
        if abs(age) > _OLD:
            name = str(path.relative_to(git_dir))
            since = f"is {age:.0f} s old" if age > 0 else f"is dated {-age:.0f} s in the future"
            found[name] = f"{path} {since}: {_holder(git_dir, name)}, remove it"
    return found


def _holder(git_dir: Path, name: str) -> str:
    mark = held_locks.mark(str(git_dir / name))
    record = next((record for record in _records(git_dir) if record.locks.get(name) == mark), None)
    if record is None:
        return "where no git process holds it any more"
    pid = record.name.split(".")[2]
    if record.lives:
        return f"git (process {pid}) still holds it; once that has ended and it is still there"
    return f"git (process {pid} of {processes.origin(record.name)}) may still hold it; where it does not"


def _lock_files(folder: Path) -> list[Path]:
    return [Path(path) for path, is_folder in paths.below(str(folder)) if path.endswith(".lock") and not is_folder]
