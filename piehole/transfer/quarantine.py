"""Where received objects wait until they were checked, and how they become visible."""

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
    """A private object directory inside the store of ``git_dir``, on the same file system; ``hold.sweep`` removes stale
    ones. No git command touches it. Where somebody has removed it all the same, TransferError is raised: try again.

    :param borrowing: objects of the store may be relied upon; without it, what is received must be whole by itself
    :raises GitError: this disk does not take it (full, read-only, not ours)
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
        """git's environment: what it writes goes to the quarantine, what it reads may (``borrowing``) lie in the store."""
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
        """Throw away what an attempt has left. :raises GitError: it cannot be removed"""
        try:
            if any(self.pack_directory.iterdir()):
                shutil.rmtree(self.pack_directory)
                self.pack_directory.mkdir()
        except OSError as error:
            self.check()
            raise GitError(f"{self.pack_directory} cannot be cleared: {error.strerror}") from error

    def usage(self) -> int:
        """Bytes that lie in it."""
        used = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                try:
                    used += (Path(folder) / name).stat().st_size
                except FileNotFoundError:  # renamed while we looked
                    pass
        return used

    def publish(self, received: Sequence[Path], hold: Hold) -> tuple[Path, ...]:
        """Move these packs into the store: all of them, or none. Returns their paths there.

        Each gets a random name: a pack's usual name is the hash of its content, so the store may have one of that name
        already, and a ``.keep`` must never appear beside a pack that exists (see ``hold``).

        :param received: what ``received`` gave *before* the connectivity check, so that exactly what was checked comes
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
        except FileNotFoundError:  # a sweep was faster: make another
            self._remove()
        except OSError:
            self._remove()
            raise

    def _remove(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)  # what remains is swept, as a leftover
            os.close(self._lock)
            self._path = None
