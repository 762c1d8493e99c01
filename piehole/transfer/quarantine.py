"""Where received objects wait until they were checked, and how they become visible."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from piehole.errors import GitError
from piehole.transfer.hold import QUARANTINE_PREFIX, Hold, lock_directory
from piehole.transfer.process import environment

# The index makes a pack visible to git, so it is published last.
_SUFFIXES: Final = (".pack", ".rev", ".idx")


class Quarantine:
    """A private object directory inside the store of ``git_dir``; git's own gc removes stale ones of this name.

    :raises GitError: this disk does not take it (full, read-only, not ours)
    """

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir
        self._store = git_dir / "objects"
        self._path: Path | None = None
        self._lock = -1

    def __enter__(self) -> Quarantine:
        try:
            while self._path is None:
                path = Path(tempfile.mkdtemp(prefix=QUARANTINE_PREFIX, dir=self._store))
                lock = lock_directory(path)
                if lock is not None:
                    self._path, self._lock = path, lock
            self.pack_directory.mkdir()
        except OSError as error:
            self._remove()
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
        """git's environment: what it writes goes to the quarantine, what it reads may lie in the store."""
        return environment(self.git_dir, self.path)

    def clear(self) -> None:
        """Throw away what an attempt has left. :raises GitError: it cannot be removed"""
        try:
            shutil.rmtree(self.pack_directory)
            self.pack_directory.mkdir()
        except OSError as error:
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

    def publish(self, hold: Hold) -> tuple[Path, ...]:
        """Move the packs into the store: all of them, or none. Returns their paths there.

        Each gets a random name: a pack's usual name is the hash of its content, so the store may have one of that name
        already, and a ``.keep`` must never appear beside a pack that exists (see ``hold``).
        """
        target = self._store / "pack"
        moved: list[Path] = []
        packs: list[Path] = []
        try:
            target.mkdir(exist_ok=True)
            for index in sorted(self.pack_directory.glob("*.idx")):
                stem = target / f"pack-{secrets.token_hex(len(index.stem.removeprefix('pack-')) // 2 or 20)}"
                files = [index.with_suffix(suffix) for suffix in _SUFFIXES]
                for file in files:
                    _sync(file)
                hold.keep(stem.with_suffix(".keep"))
                for file in files:
                    if file.exists():
                        file.rename(stem.with_suffix(file.suffix))
                        moved.append(stem.with_suffix(file.suffix))
                packs.append(stem.with_suffix(".pack"))
            _sync(target)
        except OSError as error:
            for path in reversed(moved):
                path.unlink(missing_ok=True)
            raise GitError(f"the received packs cannot be moved to {target}: {error.strerror}") from error
        return tuple(packs)

    def _remove(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)  # what remains is swept, as a leftover
            os.close(self._lock)
            self._path = None


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
