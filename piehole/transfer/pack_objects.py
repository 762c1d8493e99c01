"""Read every object of one pack through git, whatever other packs hold, and compare its content with its name."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import new
from itertools import islice
from pathlib import Path
from typing import IO, Final

from piehole import git

_PREFIX: Final = "proof-"
_AT_ONCE: Final = 500  # names that are asked for before the first answer is read: they fit into a pipe
_PIECE: Final = 1 << 20
_FORMAT: Final = "%(objectname) %(objecttype) %(objectsize) %(objectsize:disk)"


def read(git_dir: Path, pack: Path, object_format: str, first: int) -> Iterator[tuple[int, str, int, bool]]:
    """Each object in the order in which it lies in the pack: its number, its oid, its bytes on disk, and whether its content is right.

    :param first: the number of objects to leave out at the beginning
    """
    with _alone(git_dir, pack) as objects, _git(git_dir, objects, _LIST) as lister, _Reader(git_dir, objects) as reader:
        assert lister.stdout is not None  # noqa: S101 -- it was asked to be a pipe
        names = (line.decode().strip() for line in islice(lister.stdout, first, None))
        number = first
        while some := list(islice(names, _AT_ONCE)):
            for oid, size, sound in reader.check(some, object_format):
                if not sound and not pack.exists():
                    return  # a repack has taken it away; what it held lies in another one
                number += 1
                yield number, oid, size, sound


def clear(git_dir: Path) -> None:
    """Remove what a killed process has left; the caller sees to it that no other reads."""
    for path in (git_dir / "piehole").glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


_LIST: Final = ("--batch-all-objects", "--unordered", "--batch-check=%(objectname)")


class _Reader:
    """A git process that unpacks objects, started again after each one that it cannot unpack: git ends there."""

    def __init__(self, git_dir: Path, objects: Path) -> None:
        self._git_dir = git_dir
        self._objects = objects
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, oids: Sequence[str], object_format: str) -> Iterator[tuple[str, int, bool]]:
        left = list(oids)
        while left:
            answers = self._ask(left)
            for oid in list(left):
                size, sound, ended = _compare(answers, oid, object_format)
                left.pop(0)
                yield oid, size, sound
                if ended:
                    self._end()
                    break

    def _ask(self, oids: Sequence[str]) -> IO[bytes]:
        if self._process is None:
            command = _command(self._git_dir, (f"--batch={_FORMAT}",))
            self._process = _start(command, self._objects, subprocess.PIPE)
        process = self._process
        assert process.stdin is not None  # noqa: S101 -- it was asked to be a pipe
        assert process.stdout is not None  # noqa: S101 -- it was asked to be a pipe
        with suppress(BrokenPipeError):  # what it says, or does not say, tells
            process.stdin.write("".join(f"{oid}\n" for oid in oids).encode())
            process.stdin.flush()
        return process.stdout

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            git.kill_group(process)


def _compare(answers: IO[bytes], oid: str, object_format: str) -> tuple[int, bool, bool]:
    """The bytes of one object on disk, whether its content is right, and whether git has ended."""
    words = answers.readline().split()
    if len(words) != 4:
        return 0, False, len(words) != 2  # "OID missing" is an answer
    left, size = int(words[2]), int(words[3])
    total = new(object_format, b"%s %d\0" % (words[1], left))
    while left:
        piece = answers.read(min(left, _PIECE))
        if not piece:
            return size, False, True
        total.update(piece)
        left -= len(piece)
    return size, total.hexdigest() == oid, answers.read(1) != b"\n"


@contextmanager
def _alone(git_dir: Path, pack: Path) -> Iterator[Path]:
    """A folder of objects that holds this pack and nothing else."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=git_dir / "piehole") as made:
        folder = Path(made) / "pack"
        folder.mkdir()
        for path in (pack, pack.with_suffix(".idx")):
            (folder / path.name).symlink_to(path.resolve())
        yield Path(made)


@contextmanager
def _git(git_dir: Path, objects: Path, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = _start(_command(git_dir, arguments), objects, subprocess.DEVNULL)
    try:
        yield process
    finally:
        git.kill_group(process)


def _command(git_dir: Path, arguments: Sequence[str]) -> list[str]:
    return ["git", f"--git-dir={git_dir}", "-c", "core.commitGraph=false", "cat-file", *arguments]


def _start(command: Sequence[str], objects: Path, stdin: int) -> subprocess.Popen[bytes]:
    env = git.environment({"GIT_OBJECT_DIRECTORY": str(objects), "GIT_NO_LAZY_FETCH": "1"})
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, start_new_session=True
    )
