"""Remove some objects from a store for good: those, and nothing else.

`git prune` would take whatever no ref reaches, also what a push has just brought. And git does not write an object that the store has
already, so a push may rely on one of these objects without any ref yet. So they are first *set aside*, into a folder of objects
below ``objects/`` that git does not read: from then on a push that brings one of them writes it anew. When every push that had begun
before has ended, what refs need of them after all is put back, and the rest is deleted.

The folder survives a crash, and has all that is needed to go on.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.files import locked, replace_file, sync
from piehole.transfer.keep_files import Hold
from piehole.transfer.maintenance import commits_to_list
from piehole.transfer.process import call
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.watchdog import Limits, Watchdog

_LOCK: Final = "piehole/removal.lock"
_PREFIX: Final = "piehole-removal-"
_PACKED: Final = (".idx", ".rev", ".bitmap", ".mtimes", ".pack")  # the index first: then git does not see the pack
_LIMITS: Final = Limits()


@contextmanager
def excluded(git_dir: Path) -> Iterator[None]:
    """No object is set aside inside this: what is found to be here stays here. Many may do so at once."""
    try:
        descriptor = os.open(git_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # nobody can set anything aside here either
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


class Removal:
    """The removal of some objects, named after the one that was asked for. Methods raise GitError when git fails, OSError when the disk does."""

    def __init__(self, git_dir: Path, name: str, object_format: str) -> None:
        self._git_dir = git_dir
        self._format = object_format
        self._store = git_dir / "objects"
        self.path = self._store / f"{_PREFIX}{name}"

    @property
    def has_begun(self) -> bool:
        return (self.path / "objects").exists()

    @property
    def is_set_aside(self) -> bool:
        return (self.path / "moved").exists()

    @property
    def begun_at(self) -> float:
        """Seconds since the epoch."""
        return (self.path / "objects").stat().st_mtime

    def begin(self, oids: Collection[str], others: Collection[str]) -> None:
        """Write down which objects are to go.

        :param others: tips that reach none of them
        """
        (self.path / "pack").mkdir(parents=True, exist_ok=True)
        _write(self.path / "others", others)
        _write(self.path / "objects", oids)

    @property
    def objects(self) -> list[str]:
        return _read(self.path / "objects")

    @property
    def pushes(self) -> list[str]:
        """The pushes that had begun when the objects were set aside."""
        return _read(self.path / "pushes") if (self.path / "pushes").exists() else []

    def rewrite_packs(self, hold: Hold) -> dict[Path, bool]:
        """Copy everything else of each pack that holds one of the objects into a new pack; by index, whether it holds one.

        What an earlier attempt has copied is not copied again.

        :raises GitError: such a pack has a ``.keep`` file, or cannot be read
        """
        doomed = set(self.objects)
        seen: dict[Path, bool] = {}
        for index in self._indexes():
            with tempfile.TemporaryFile() as rest:
                holds = self._divide(index, doomed, rest)
                if holds:
                    self._refuse_kept(index)
                    if rest.tell() and not self._is_copied(index):
                        made = self._copy(rest, hold)
                        _write(self.path / f"{index.stem}.copied", [path.name for path in made])
                seen[index] = holds
        return seen

    def set_aside(self, packs: dict[Path, bool], pushes: Collection[str]) -> bool:
        """Take the objects out of the store; False where there is a pack that :meth:`rewrite_packs` has not seen.

        :param pushes: those that have begun already
        """
        doomed = set(self.objects)
        affected = [index for index, holds in packs.items() if holds]
        begun = [
            self._store / "pack" / path.name for path in (self.path / "pack").glob("*.idx")
        ]  # an attempt was interrupted
        for index in self._indexes():
            if index not in packs:
                with tempfile.TemporaryFile() as rest:
                    if self._divide(index, doomed, rest):
                        return False
        for index in affected:
            self._refuse_kept(index)
        _write(self.path / "pushes", {*self.pushes, *pushes})  # an earlier attempt may have been interrupted
        if affected:
            for path in (self._store / "pack").glob("multi-pack-index*"):
                path.rename(self.path / "pack" / path.name)
        for suffix in _PACKED:
            for index in (*begun, *affected):
                with suppress(FileNotFoundError):
                    index.with_suffix(suffix).rename(self.path / "pack" / index.with_suffix(suffix).name)
        for oid in doomed:
            with suppress(FileNotFoundError):
                (self.path / oid[:2]).mkdir(exist_ok=True)
                (self._store / oid[:2] / oid[2:]).rename(self.path / oid[:2] / oid[2:])
        sync(self._store / "pack")
        _write(self.path / "moved", ())
        return True

    def needed(self, tips: Collection[str]) -> set[str]:
        """Those of the objects that these tips reach. They may also be in the quarantine of a push (git calls it so, too)."""
        walk = ["-c", "core.commitGraph=false", "rev-list", "--objects", "--stdin"]
        others = set(_read(self.path / "others"))
        asked = [tip for tip in dict.fromkeys(tips) if tip not in others]
        if not asked:
            return set()
        lines = "".join(f"{tip}\n" for tip in (*asked, *(f"^{other}" for other in others))).encode()
        quarantines = [*self._store.glob("tmp_objdir-*"), *self._store.glob("incoming-*")]
        env = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(_quoted(path) for path in (self.path, *quarantines))}
        shown = git.lines(git.run(self._git_dir, walk, stdin=lines, extra_env=env).stdout)
        return {line.partition(" ")[0] for line in shown} & set(self.objects)

    def put_back(self, oids: Collection[str], hold: Hold) -> None:
        """Copy these of the objects into the store."""
        with tempfile.TemporaryFile() as listed:
            listed.write("".join(f"{oid}\n" for oid in oids).encode())
            self._copy(listed, hold)

    def finish(self) -> None:
        """Delete what was set aside, and have git forget it."""
        shutil.rmtree(self.path)
        info = self._store / "info"
        if (info / "commit-graph").exists() or (info / "commit-graphs").exists():
            # It lists commits that are gone. Git makes do without one.
            shutil.rmtree(info / "commit-graphs", ignore_errors=True)
            (info / "commit-graph").unlink(missing_ok=True)
            commits = commits_to_list(self._git_dir)
            git.run(self._git_dir, ["commit-graph", "write", "--stdin-commits", "--no-progress"], stdin=commits)

    def _indexes(self) -> list[Path]:
        return sorted((self._store / "pack").glob("*.idx"))

    def _refuse_kept(self, index: Path) -> None:
        keep = index.with_suffix(".keep")
        if keep.exists():
            raise GitError(f"{keep.name} protects a pack that holds it")

    def _is_copied(self, index: Path) -> bool:
        try:
            made = _read(self.path / f"{index.stem}.copied")
        except FileNotFoundError:
            return False
        return all((index.parent / name).with_suffix(".idx").exists() for name in made)

    def _divide(self, index: Path, doomed: Collection[str], rest: IO[bytes]) -> bool:
        """Write the oids of a pack that are not doomed to ``rest``; whether there are others."""
        found = False
        with tempfile.TemporaryFile() as listed, index.open("rb") as file, Watchdog(_LIMITS) as watchdog:
            watchdog.listen(False)
            show = ["show-index", f"--object-format={self._format}"]
            status, words = call(watchdog, self._git_dir, show, stdin=file, stdout=listed, env=git.environment())
            if status:
                raise GitError(f"{index} cannot be read: {words}")
            listed.seek(0)
            for line in listed:
                oid = line.split(b" ")[1]
                if oid.decode() in doomed:
                    found = True
                else:
                    rest.write(oid.rstrip(b"\n") + b"\n")
        return found

    def _copy(self, listed: IO[bytes], hold: Hold) -> tuple[Path, ...]:
        listed.seek(0)
        with Quarantine(self._git_dir) as quarantine, Watchdog(_LIMITS) as watchdog:
            watchdog.listen(False)
            env = quarantine.environment()
            env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] += f":{_quoted(self.path)}"
            pack = ["-c", "core.fsync=all", "pack-objects", "--quiet", "--delta-base-offset"]
            target = str(quarantine.pack_directory / "pack")
            status, words = call(watchdog, self._git_dir, [*pack, target], stdin=listed, env=env)
            if status:
                raise GitError(f"a pack of {self._git_dir} cannot be written anew: {words}")
            return quarantine.publish(quarantine.received(), hold)


def alone(git_dir: Path, deadline: Deadline) -> AbstractContextManager[bool]:
    """Wait until nobody is inside :func:`excluded`, and keep everybody out meanwhile; gives whether that was so in time."""
    return locked(git_dir / _LOCK, 0o644, deadline)


def walked(git_dir: Path, tips: Collection[str], among: Collection[str], *options: str) -> set[str]:
    """Those of the oids in ``among`` that these tips reach, by a walk through all their objects.

    (With ``^TIP``, `git rev-list --objects` leaves out what is next to the border alone: a file that another history has, too, is listed.)

    :raises GitError: something is missing
    """
    if not tips or not among:
        return set()
    wanted = {oid.encode() for oid in among}
    with tempfile.TemporaryFile() as listed, Watchdog(_LIMITS) as watchdog:
        watchdog.listen(False)
        walk = ["-c", "core.commitGraph=false", "rev-list", "--objects", "--stdin", *options]
        asked = "".join(f"{tip}\n" for tip in dict.fromkeys(tips)).encode()
        status, words = call(watchdog, git_dir, walk, stdin=asked, stdout=listed, env=git.environment())
        if status:
            raise GitError(f"the histories of {git_dir} cannot be walked through: {words}")
        listed.seek(0)
        return {oid.decode() for line in listed if (oid := line.split(b" ", 1)[0].rstrip(b"\n")) in wanted}


def is_any_set_aside(git_dir: Path) -> bool:
    """Whether objects are set aside that a push may still need."""
    return any((git_dir / "objects").glob(f"{_PREFIX}*/moved"))


def begun(git_dir: Path) -> list[str]:
    """The names of all removals that have begun."""
    return [path.name.removeprefix(_PREFIX) for path in (git_dir / "objects").glob(f"{_PREFIX}*")]


def _write(path: Path, words: Collection[str]) -> None:
    replace_file(path, "".join(f"{word}\n" for word in sorted(words)), 0o600)


def _read(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _quoted(path: Path) -> str:
    text = str(path)
    if ":" in text or text.startswith('"'):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
