"""What a receive-pack that was killed leaves behind: its in-flight record, and the locks of the refs that the record names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from piehole import inflight, proc

# A lock younger than this (seconds) may be somebody else's, who took it after the dead one's; it is looked at again later.
_YOUNG: Final = 1.0
# A record of another pid namespace says nothing about whether its process lives; after so long (seconds) it does not.
_FORGOTTEN: Final = 86400.0


def clear(git_dir: Path) -> list[str]:
    """Remove the locks that dead receive-packs left, then their records; return the locks that were removed.

    Locks that no record names are left alone: they are not ours to judge.
    """
    records = list(inflight.records(str(git_dir)))
    dead = [record for record in records if _is_dead(record)]
    if not dead:
        return []
    living = {ref for record in records if record not in dead for ref in record.announced}
    removed: list[str] = []
    for record in dead:
        names = [*(ref for ref in record.announced if ref not in living), *(() if living else ("HEAD", "packed-refs"))]
        locks = [git_dir / f"{name}.lock" for name in names]
        if all(_remove(lock, removed) for lock in locks):
            Path(record.path).unlink(missing_ok=True)
    return removed


def _is_dead(record: inflight.Record) -> bool:
    lives = proc.lives(record.name)
    if lives is None:
        try:
            return time.time() - Path(record.path).stat().st_mtime > _FORGOTTEN
        except OSError:
            return False
    return not lives


def _remove(lock: Path, removed: list[str]) -> bool:
    """Whether the lock is gone now."""
    try:
        if time.time() - lock.stat().st_mtime < _YOUNG:
            return False
        lock.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    removed.append(str(lock))
    return True
