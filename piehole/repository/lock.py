"""One lock per repository, ``<git_dir>/piehole/lock``, between all processes of a site.

It is a flock: it belongs to an open file, so it ends with its process, however that ends. The file itself stays.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError

_POLL: Final = 0.02  # seconds; flock itself knows no deadline


class RepositoryLock:
    """Shared or exclusive, for the length of a ``with``.

    Maintenance takes it exclusively, so that only one runs. Transfers do not need it: what they publish is protected by
    its ``.keep`` and has a name of its own, so a repack that runs meanwhile neither lists nor deletes it.
    """

    def __init__(self, git_dir: Path) -> None:
        self._path = git_dir / "piehole" / "lock"

    @contextmanager
    def exclusive(self, deadline: Deadline) -> Iterator[None]:
        """Hold the lock alone. :raises PieholeError: it could not be had before the deadline"""
        with self._held(fcntl.LOCK_EX, deadline):
            yield

    @contextmanager
    def shared(self, deadline: Deadline) -> Iterator[None]:
        """Hold the lock together with other sharers. :raises PieholeError: as ``exclusive``"""
        with self._held(fcntl.LOCK_SH, deadline):
            yield

    @contextmanager
    def _held(self, kind: int, deadline: Deadline) -> Iterator[None]:
        try:
            self._path.parent.mkdir(exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise PieholeError(f"the lock {self._path} cannot be opened: {error.strerror}") from error
        try:
            while not _taken(descriptor, kind):
                if deadline.passed:
                    raise PieholeError(f"another process holds {self._path}")
                time.sleep(min(_POLL, deadline.remaining()))
            yield
        finally:
            os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
