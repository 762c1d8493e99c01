"""Files that several processes share: locked with flock(2), synced, or replaced as a whole."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline

_POLL: Final = 0.01  # seconds; flock itself knows no deadline


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; false where another process holds the lock.

    The lock belongs to the open file, so it ends with its process, however that ends.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock_in_place(descriptor: int) -> bool:
    """Lock an open file without waiting; false where another process holds the lock, or has deleted the file."""
    return try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0


def lock(descriptor: int, deadline: Deadline | None = None) -> bool:
    """Wait for the lock of an open file; false where another process holds it at the deadline. None: wait for ever."""
    if deadline is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    while not try_lock(descriptor):
        if deadline.passed:
            return False
        time.sleep(min(_POLL, deadline.remaining()))
    return True


@contextmanager
def locked(path: Path, mode: int, deadline: Deadline | None = None) -> Iterator[bool]:
    """Hold the lock of ``path``, which is created where it is missing and stays; gives whether it was obtained, as ``lock``."""
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        yield lock(descriptor, deadline)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have the disk hold what was written to this file or, of a folder, which names are in it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(
    path: Path, text: str, mode: int, *, suffix: str = ".tmp", written: Callable[[], object] | None = None
) -> None:
    """Write a file by one rename: whoever opens it finds the old content or the new one, never a part.

    :param suffix: of the scratch file beside it. It is always the same, so that what a killed writer has left goes with the
        next; writers that may run at the same time need one each
    :param written: sync the file and its folder, and call this before the rename
    """
    scratch = path.with_name(f"{path.name}{suffix}")
    scratch.unlink(missing_ok=True)  # another account's could not be written
    with scratch.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        if written is not None:
            file.flush()
            os.fsync(file.fileno())
    if written is not None:
        written()
    scratch.replace(path)
    if written is not None:
        sync(path.parent)
