"""What the reflogs of a repository remember, and its removal: `git gc` keeps what a reflog names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from piehole import git
from piehole.fastpath import paths
from piehole.refs import HEAD, decode
from piehole.repository.ref_transaction import NO_WAITING
from piehole.repository.repository import Repository

_OIDS: Final = re.compile(rb"^([0-9a-f]{40,64}) ([0-9a-f]{40,64}) ", re.M)
_AT_ONCE: Final = 500
_ROUNDS: Final = 5  # deleting an entry changes the old value of the one after it


def remembered(repository: Repository) -> set[str]:
    """All oids that reflogs name."""
    if repository.has_reftable:
        return {oid for ref in _with_reflog(repository) for oid in _entries(repository, ref)}
    found: set[str] = set()
    for path in _files(repository.git_dir):
        found |= {oid.decode() for pair in _OIDS.findall(_content(path)) for oid in pair}
    return {oid for oid in found if oid.strip("0")}


def forget(repository: Repository, oids: Collection[str]) -> None:
    """Delete the entries that name one of these oids.

    :raises GitError: git failed; a ref may be locked
    """
    if repository.has_reftable:
        for ref in _with_reflog(repository):
            named = [number for number, oid in enumerate(_entries(repository, ref)) if oid in oids]
            # Git shows no old values, and rewrites none here: the entry after one of these comes from it.
            _delete(repository, ref, {*named, *(number - 1 for number in named if number)})
        return
    asked = {oid.encode() for oid in oids}
    for path in _files(repository.git_dir):
        ref = decode(os.fsencode(path.relative_to(repository.git_dir / "logs")))
        for _ in range(_ROUNDS):
            pairs = _OIDS.findall(_content(path))
            # Newest first, as git counts. What an entry comes from changes with the entry before it, so those that lead there go first.
            numbers = [number for number, (_, new) in enumerate(reversed(pairs)) if new in asked]
            numbers = numbers or [number for number, (old, _) in enumerate(reversed(pairs)) if old in asked]
            if not numbers:
                break
            _delete(repository, ref, numbers)


def _delete(repository: Repository, ref: str, numbers: Collection[int]) -> None:
    """Delete these entries, the oldest first, so that the others keep their numbers."""
    specs = [f"{ref}@{{{number}}}" for number in sorted(numbers, reverse=True)]
    for start in range(0, len(specs), _AT_ONCE):
        repository.git(*NO_WAITING, "reflog", "delete", "--rewrite", *specs[start : start + _AT_ONCE])


def _files(git_dir: Path) -> Iterator[Path]:
    for path, is_folder in paths.below(str(git_dir / "logs")):
        if not is_folder:
            yield Path(path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the ref has just been deleted
        return b""


def _with_reflog(repository: Repository) -> list[str]:
    return [HEAD, *git.lines(repository.git("for-each-ref", "--format=%(refname)"))]


def _entries(repository: Repository, ref: str) -> list[str]:
    """The new value of each entry, newest first."""
    return git.lines(repository.git("log", "-g", "--format=%H", ref, "--", ok=(0, 128)))
