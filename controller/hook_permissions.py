"""What an account may ask for at the hooks' socket: what it could do by itself."""

from __future__ import annotations

import os
import pwd
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Connections of one other account at a time. A hook asks one question after the other, so this is as many pushes at once.
AT_ONCE: Final = 64
_MOST: Final = 4096  # connections of all accounts; each has a thread
_SHARE: Final = 4  # of the descriptors: the others are for etcd, for git and for repositories
_READ: Final = 0o4
_WRITE: Final = 0o2
_SEARCH: Final = 0o1


def is_trusted(uid: int) -> bool:
    """Whether it is root, or the controller's own account, which may receive everybody's pushes: both could stop the controller anyway."""
    return uid in (0, os.geteuid())


class ConnectionCounter:
    """Counts connections by account, so that a flood leaves threads and descriptors for the work: half of the connections are for root and
    the controller's own account, the other half is for all other accounts, each of which has a part of it.

    :param descriptors: how many this process may have open, as getrlimit(2) has it
    """

    def __init__(self, descriptors: int) -> None:
        self._half = _MOST // 2 if descriptors < 0 else max(2, min(_MOST, descriptors // _SHARE) // 2)
        self._each = min(AT_ONCE, max(1, self._half // 2))
        self._lock = threading.Lock()
        self._open: Counter[int] = Counter()
        self._reading: Counter[int] = Counter()

    def enter(self, uid: int) -> bool:
        """Whether one more connection of this account is served; :meth:`leave` ends one that is."""
        with self._lock:
            trusted = sum(count for one, count in self._open.items() if is_trusted(one))
            others = self._open.total() - trusted
            free = trusted < self._half if is_trusted(uid) else self._open[uid] < self._each and others < self._half
            if free:
                self._open[uid] += 1
            return free

    def leave(self, uid: int) -> None:
        with self._lock:
            self._open[uid] -= 1
            if self._open[uid] <= 0:
                del self._open[uid]

    @contextmanager
    def reading(self, uid: int) -> Iterator[bool]:
        """While one connection of this account is a reader's, which may wait for long: whether it is served. Pushes keep half of what the
        account has.
        """
        with self._lock:
            free = self._reading[uid] < (self._half if is_trusted(uid) else self._each) // 2
            self._reading[uid] += 1
        try:
            yield free
        finally:
            with self._lock:
                self._reading[uid] -= 1
                if self._reading[uid] <= 0:
                    del self._reading[uid]


def may_write(git_dir: Path, uid: int) -> bool:
    """Whether the account may enter the repository and write it: what it may not do there it may not ask for here.

    By owner, group and mode, as the account database has its groups; what access control lists grant beyond that does not count.

    :raises OSError: the repository is gone
    """
    return _may(git_dir, uid, _WRITE | _SEARCH)


def may_read(git_dir: Path, uid: int) -> bool:
    """Whether the account may enter the repository and read it, as :func:`may_write`.

    :raises OSError: the repository is gone
    """
    return _may(git_dir, uid, _READ | _SEARCH)


def _may(git_dir: Path, uid: int, wanted: int) -> bool:
    if uid in (0, git_dir.stat().st_uid):
        return True
    groups = _groups(uid)
    real = git_dir.resolve()
    return _allows(real, uid, groups, wanted) and all(_allows(folder, uid, groups, _SEARCH) for folder in real.parents)


def _groups(uid: int) -> frozenset[int]:
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(account.pw_name, account.pw_gid))


def _allows(path: Path, uid: int, groups: frozenset[int], wanted: int) -> bool:
    """Whether the mode allows it, by the kernel's rule: the first of owner, group and others that fits counts, alone."""
    found = path.stat()
    shift = 6 if found.st_uid == uid else 3 if found.st_gid in groups else 0
    return (found.st_mode >> shift) & wanted == wanted
