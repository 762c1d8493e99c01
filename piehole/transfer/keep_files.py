"""``.keep`` files protect packs that no ref needs yet, until the refs have moved.

Two orders must hold; both were found by losing objects. A ``.keep`` is written *before* its pack and removed after the ref
has moved. And it is never added to a pack that exists already: a ``git repack -d`` that has listed the pack for deletion would
skip its objects as kept, and then delete it. So each published pack has a name of its own.

A holder keeps its files locked (flock). The lock ends with the process, however it ends and in whatever container it ran, so a
file that can be locked is a leftover. The text inside is for people.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
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
        self._at_end: list[Callable[[], None]] = []

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
                pass  # the refs have moved; unlocked, the file is a leftover and is swept later
            finally:
                os.close(descriptor)
        for call in self._at_end:
            call()

    def at_end(self, call: Callable[[], None]) -> None:
        """Have this called at the end: what the refs need is protected by something else until then."""
        self._at_end.append(call)

    def keep(self, path: Path) -> None:
        """Create the ``.keep`` file ``path``; its pack must not be there yet. :raises GitError: it cannot be written"""
        text = KEEP_MARK + f"{processes.identity(os.getpid()) or os.getpid()}\n".encode()
        try:
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                if try_lock_in_place(descriptor):
                    break
                os.close(descriptor)  # a sweep removed the file before it was locked
            self._kept.append((path, descriptor))
            os.write(descriptor, text)
        except OSError as error:
            raise GitError(f"{path} cannot be written: {error.strerror}") from error


def lock_directory(path: Path) -> int | None:
    """Lock a quarantine for as long as the returned descriptor is open; None: a sweep removed it, make another."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if try_lock_in_place(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def sweep(git_dir: Path) -> list[Path]:
    """Remove the ``.keep`` files of piehole and the quarantines that dead processes have left; returns what was removed.

    Packs stay, since git prunes what no ref needs. A pack that never got its index is removed with its ``.keep``: git neither
    uses nor removes it.
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
    # Empty: a holder died between creating and writing it, and before its pack was there. git's own
    # `index-pack --keep` writes empty ones beside packs, too.
    return beginning == KEEP_MARK or (not beginning and not path.with_suffix(".pack").exists())


def _remove_if_unlocked(path: Path, flags: int) -> bool:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Remove it while the lock is held: a holder that comes too late finds its file unlinked, and makes another.
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
