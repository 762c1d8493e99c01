"""Which refs of a transaction git has locked and will move, found out while git holds its locks.

Up to 2.49, git asks ``reference-transaction`` only about refs that it has locked and whose old values it has checked. Later ones put
all refs of a push into one transaction that may fail in part: ``prepared`` also names the refs that git has rejected by then, and
when the hook ends with 0, git moves the others.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from piehole.fastpath import ref_files

TYPE_CHECKING = False  # importing typing costs a hook 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from collections.abc import Collection

    from piehole.fastpath.inflight import Announcement, Record

_PATIENCE = 1.0  # seconds for a lock of another process to go
_LOOK_EVERY = 0.01


class NotKnown(Exception):
    """It cannot be told whether git will move a ref."""


def rejected(git_dir: str, announced: list[Announcement]) -> dict[str, str]:
    """The refs of this transaction that git has rejected and will not move, each with the reason.

    :raises NotKnown: it cannot be told for one of them
    :raises OSError: a ref or its lock cannot be read
    """
    if os.path.isdir(f"{git_dir}/reftable"):
        return _rejected_by_values(git_dir, announced)
    found: dict[str, str] = {}
    locks: set[tuple[int, int]] = set()
    until = monotonic() + _PATIENCE
    for one in announced:
        reason = _reason(git_dir, one, locks, until)
        if reason:
            found[one.ref] = reason
    return found


def holds_any(git_dir: str, refs: list[str]) -> str:
    """One of these refs that is locked now, by whomever; ``""``: none is."""
    if os.path.isdir(f"{git_dir}/reftable"):
        # One lock is for all refs.
        return refs[0] if refs and os.path.lexists(f"{git_dir}/reftable/tables.list.lock") else ""
    return next((ref for ref in refs if os.path.lexists(f"{git_dir}/{ref}.lock")), "")


def note(record: Record, wanted: list[Announcement], free: list[Announcement]) -> None:
    """Note the locks that git holds in the push's record.

    :param wanted: refs that git has not rejected
    :param free: refs that it may have rejected: then their locks may be another process's
    """
    refused = _refused(record.git_dir, free) if free else ()
    held = [*wanted, *(one for one in free if one.ref not in refused)]
    record.note_locks([one.ref for one in held], deletes=not all(one.new.strip("0") for one in held))


def _refused(git_dir: str, announced: list[Announcement]) -> Collection[str]:
    try:
        return rejected(git_dir, announced)
    except (NotKnown, OSError):
        return [one.ref for one in announced]


def _reason(git_dir: str, one: Announcement, locks: set[tuple[int, int]], until: float) -> str:
    """Why git does not move this ref; ``""`` where it does. ``locks`` has those of the refs before it."""
    lock = f"{git_dir}/{one.ref}.lock"
    # Git removes the lock of a ref that it could not lock as a whole, and keeps the others until the hook has ended.
    held = _read_lock(lock)
    if held is None:
        return "git could not lock it here"
    here = ref_files.value(git_dir, one.ref)
    if here != (one.old if one.old.strip("0") else ""):
        return f"it is at {here} here by now" if here else "it does not exist here any more"
    file, content = held
    if file in locks:
        return "another ref of this push differs from it by case only"
    locks.add(file)
    # A lock that holds something else is another process's: git has waited for it in vain.
    writes = one.new.strip("0") and one.new != one.old
    if content != (f"{one.new}\n" if writes else "").encode():
        while _read_lock(lock) == held:
            if monotonic() > until:
                raise NotKnown(f"{one.ref} is locked here by another process")
            sleep(_LOOK_EVERY)
        return "another process had locked it here"
    if not one.old.strip("0") and (blocker := ref_files.blocker(git_dir, one.ref)):
        raise NotKnown(f"{blocker} is in the way of {one.ref} here")
    return ""


def _read_lock(path: str) -> tuple[tuple[int, int], bytes] | None:
    """Which file it is, and its content; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino), os.read(descriptor, 200)
    finally:
        os.close(descriptor)


def _rejected_by_values(git_dir: str, announced: list[Announcement]) -> dict[str, str]:
    """With reftable, git has one lock for all refs and holds it now, so the values alone tell."""
    from pathlib import Path

    from piehole.errors import GitError
    from piehole.repository.repository import Repository

    repository = Repository(Path(git_dir))
    try:
        here = repository.values([one.ref for one in announced])
        blockers = repository.blockers([one.ref for one in announced if not one.old.strip("0") and one.ref not in here])
    except GitError as error:
        raise NotKnown(f"the refs here cannot be read: {error}") from error
    for ref, blocker in blockers.items():
        raise NotKnown(f"{blocker} is in the way of {ref} here")
    found: dict[str, str] = {}
    for one in announced:
        value = here.get(one.ref, "")
        if value != (one.old if one.old.strip("0") else ""):
            found[one.ref] = f"it is at {value} here by now" if value else "it does not exist here any more"
    return found
