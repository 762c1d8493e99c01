"""Which lock files a git holds that is prepared to move refs, and what makes each one known again. Imports nothing heavy.

A lock is removed only where it is known to be a dead process's own. So its inode and the time of its last change are noted while git
holds it: no other file has both, neither one that was made before nor one that is made later.
"""

from __future__ import annotations

import os

# What git locks beside the refs themselves. packed-refs.new is written under packed-refs.lock, and would be in the way of the next one.
PACKED = ("packed-refs.lock", "packed-refs.new")
HEAD = "HEAD.lock"
REFTABLE = "reftable/tables.list.lock"


def lines(git_dir: str, refs: list[str], *, deletes: bool) -> str:
    """A line of a record (:mod:`piehole.fastpath.inflight`) for each lock file of a git that is prepared to move these refs.

    All of them are its own: what it holds, nobody else can have. It holds HEAD's where HEAD points to one of the refs, and those of the packed
    refs where it deletes (tried with git 2.39 and 2.55).
    """
    names = [REFTABLE, *(PACKED if deletes else ()), *(f"{ref}.lock" for ref in refs)]
    marks = [(name, mark(f"{git_dir}/{name}")) for name in names]
    head = mark(f"{git_dir}/{HEAD}")
    if head and target_of_head(git_dir) in refs:
        marks.append((HEAD, head))
    return "".join(f"lock {name} {mark}\n" for name, mark in marks if mark)


def mark(path: str) -> str:
    """The inode of a lock file and when it was written, in nanoseconds; ``""``: there is none."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ""
    return f"{found.st_ino} {found.st_mtime_ns}"


def target_of_head(git_dir: str) -> str:
    """The ref that HEAD points to, ``""`` where it cannot be read."""
    try:
        with open(f"{git_dir}/HEAD", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 12).removeprefix("ref:").strip()
    except OSError:
        return ""
