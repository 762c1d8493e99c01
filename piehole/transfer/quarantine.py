"""The directory in which received objects wait until they are checked, and their publication."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from piehole.errors import GitError, TransferError
from piehole.fastpath.failpoints import Step, reached
from piehole.files import sync
from piehole.transfer.keep_files import QUARANTINE_PREFIX, Hold, lock_directory
from piehole.transfer.process import environment

# The index makes a pack visible to git, so it is published last. Not every git writes a .rev.
_SUFFIXES: Final = (".pack", ".rev", ".idx")
_OPTIONAL: Final = ".rev"


class Quarantine:
    """A private object directory inside the store of ``git_dir``, on the same file system. No git command touches it.

    ``keep_files.sweep`` removes stale ones. Where somebody has removed this one, TransferError is raised: try again.

    :param borrowing: received objects may name objects of the store; without it, they must be self-contained
    :raises GitError: it cannot be written (the disk is full or read-only, or another account owns it)
    """

    def __init__(self, git_dir: Path, *, borrowing: bool = True) -> None:
        self.git_dir = git_dir
        self._store = git_dir / "objects"
        self._borrowing = borrowing
        self._path: Path | None = None
        self._lock = -1

    def __enter__(self) -> Quarantine:
        try:
            while self._path is None:
                self._make()
        except OSError as error:
            raise GitError(f"no objects can be written to {self._store}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def path(self) -> Path:
        if self._path is None:
            raise RuntimeError("a quarantine exists only inside its with")
        return self._path

    @property
    def pack_directory(self) -> Path:
        return self.path / "pack"

    def environment(self) -> dict[str, str]:
        """The environment in which git writes to the quarantine and, with ``borrowing``, also reads the store."""
        return environment(self.path, self.git_dir if self._borrowing else None)

    def check(self) -> None:
        """:raises TransferError: somebody has removed it"""
        if not self.pack_directory.is_dir():
            raise TransferError(f"lost its quarantine: somebody removed {self.path}")

    def received(self) -> list[Path]:
        """The packs in it, by their index files. :raises TransferError: somebody has removed it"""
        found = sorted(self.pack_directory.glob("*.idx"))
        self.check()
        return found

    def clear(self) -> None:
        """Remove what an earlier attempt has left. :raises GitError: it cannot be removed"""
        try:
            if any(self.pack_directory.iterdir()):
                shutil.rmtree(self.pack_directory)
                self.pack_directory.mkdir()
        except OSError as error:
            self.check()
            raise GitError(f"{self.pack_directory} cannot be cleared: {error.strerror}") from error

    def usage(self) -> int:
        """The bytes of all files in it."""
        used = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                try:
                    used += (Path(folder) / name).stat().st_size
                except FileNotFoundError:  # renamed meanwhile
                    pass
        return used

    def publish(self, received: Sequence[Path], hold: Hold) -> tuple[Path, ...]:
        """Move these packs into the store, all or none; returns their paths there.

        Each gets a random name. A pack's usual name is the hash of its content, so the store may have it already, and a ``.keep``
        must never appear beside a pack that exists (see ``keep_files``).

        :param received: what ``received`` gave *before* the connectivity check, so that exactly what was checked is moved
        """
        target = self._store / "pack"
        moved: list[Path] = []
        packs: list[Path] = []
        try:
            target.mkdir(exist_ok=True)
            for index in received:
                files = [index.with_suffix(suffix) for suffix in _SUFFIXES]
                files = [file for file in files if file.suffix != _OPTIONAL or file.exists()]
                for file in files:
                    sync(file)
                stem = target / f"pack-{secrets.token_hex(len(index.stem.removeprefix('pack-')) // 2)}"
                hold.keep(stem.with_suffix(".keep"))
                reached(Step.PACK_KEPT)
                for file in files:
                    file.rename(stem.with_suffix(file.suffix))
                    moved.append(stem.with_suffix(file.suffix))
                    reached(Step.PACK_MOVED)
                packs.append(stem.with_suffix(".pack"))
            sync(target)
            reached(Step.PUBLISHED)
        except OSError as error:
            for path in reversed(moved):
                path.unlink(missing_ok=True)
            self.check()
            raise GitError(f"the received packs cannot be moved to {target}: {error.strerror}") from error
        return tuple(packs)

    def _make(self) -> None:
        path = Path(tempfile.mkdtemp(prefix=QUARANTINE_PREFIX, dir=self._store))
        try:
            lock = lock_directory(path)
            if lock is None:
                return
            self._path, self._lock = path, lock
            self.pack_directory.mkdir()
        except FileNotFoundError:  # a sweep removed it: make another
            self._remove()
        except OSError:
            self._remove()
            raise

    def _remove(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)  # what remains is swept later
            os.close(self._lock)
            self._path = None
