"""``.keep`` files: packs that no ref needs yet are protected until the refs have moved.

Two orders hold, both found by losing objects. A ``.keep`` lies there *before* its pack does and goes after the ref has
moved. And it never appears beside a pack that is there already: a ``git repack -d`` that has listed the pack for
deletion would then skip its objects as kept, and delete it. (So each publication has a name of its own.)

A holder keeps its files locked (flock). The lock ends with the process, however it ends, in whatever container it ran:
what can be locked is a leftover. The text inside is for people.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final

from piehole.errors import GitError
from piehole.fastpath import processes
from piehole.fastpath.failpoints import Step, reached
from piehole.files import try_lock_in_place

# Not tmp_*, git's own name for quarantines: `git prune --expire=now` deletes those while they are in use.
QUARANTINE_PREFIX: Final = "piehole-quarantine-"
KEEP_MARK: Final = b"piehole "


class Hold:
    """Owns the ``.keep`` files of the packs that are published during its ``with``; the refs move inside it."""

    def __init__(self) -> None:
        self._kept: list[tuple[Path, int]] = []

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept, self._kept = self._kept, []
        for path, descriptor in kept:
            try:
                reached(Step.RELEASING)
                path.unlink(missing_ok=True)
            except OSError:
                pass  # the refs have moved; unlocked, it is a leftover like any other, and is swept
            finally:
                os.close(descriptor)

    def keep(self, path: Path) -> None:
        """Create the ``.keep`` file ``path``; its pack must not be there yet. :raises GitError: it cannot be written"""
        text = KEEP_MARK + f"{processes.identity(os.getpid()) or os.getpid()}\n".encode()
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                if try_lock_in_place(descriptor):
                    break
                os.close(descriptor)  # a sweep met the file in the moment before it was locked, and removed it
            self._kept.append((path, descriptor))
            os.write(descriptor, text)
        except OSError as error:
            raise GitError(f"{path} cannot be written: {error.strerror}") from error


def lock_directory(path: Path) -> int | None:
    """Lock a quarantine for as long as the returned descriptor is open; None: a sweep took it, make another."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if try_lock_in_place(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def sweep(git_dir: Path) -> list[Path]:
    """Remove what dead processes have left: ``.keep`` files of piehole and quarantines; returns what was removed.

    Packs stay: what they hold and no ref needs is git's to prune. One that never got its index goes with its ``.keep``: git
    neither uses nor removes it.
    """
    objects = git_dir / "objects"
    swept = []
    for path in sorted((objects / "pack").glob("*.keep")):
        if _is_ours(path) and _remove_if_unlocked(path, os.O_RDONLY):
            swept.append(path)
    for path in sorted(objects.glob(f"{QUARANTINE_PREFIX}*")):
        if _remove_if_unlocked(path, os.O_RDONLY | os.O_DIRECTORY):
            swept.append(path)
    return swept


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            beginning = file.read(len(KEEP_MARK))
    except OSError:  # gone meanwhile, or somebody else's
        return False
    # Empty: a holder died between creating and writing. Its pack cannot have landed yet, but git's own
    # `index-pack --keep` writes empty ones beside a pack, too.
    return beginning == KEEP_MARK or (not beginning and not path.with_suffix(".pack").exists())


def _remove_if_unlocked(path: Path, flags: int) -> bool:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Removed while the lock is held: a holder that comes too late finds its file unlinked, and makes another.
        if not try_lock_in_place(descriptor):
            return False
        if flags & os.O_DIRECTORY:
            shutil.rmtree(path, ignore_errors=True)
        else:
            if not path.with_suffix(".idx").exists():
                for part in (".pack", ".rev"):
                    path.with_suffix(part).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return not path.exists()
    finally:
        os.close(descriptor)
