"""The local log: what this site has seen the group's refs do, one JSON object a line in ``<git_dir>/piehole/log``.

Controllers append what they see, so that ``piehole log`` reaches further back than etcd's last compaction. The file is only ever
appended to; past a size it becomes ``log.1``, and an older ``log.1`` is forgotten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from piehole.fastpath.failpoints import Step, reached
from piehole.files import lock
from piehole.refs import decode

FILE: Final = "piehole/log"
_VALUE: Final = 1024  # bytes; an oid has 64
LARGEST: Final = 8 << 20  # bytes, about 30,000 moves; two such files are kept


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One change of one ref (or of ``HEAD``) in the consensus.

    ``old`` and ``new`` are the key's values as text; ``""`` is "not known" for ``old``, "the key was deleted" for ``new``. ``site``
    and ``pusher`` are ``""`` where the change carried no push record. ``time`` is the pusher's site's clock, for people.
    """

    revision: int
    ref: str
    old: str
    new: str
    site: str
    pusher: str
    time: str


def value_text(raw: bytes) -> str:
    """A key's value as the log has it: without its trailing newline, and cut where it is longer than any value of ours."""
    return decode(raw[:_VALUE].removesuffix(b"\n"))


def append(git_dir: Path, entries: Iterable[LogEntry]) -> None:
    """Append to the log. Several processes may do so at once.

    :raises OSError: the disk is full or cannot be written
    """
    text = "".join(json.dumps(asdict(entry), separators=(",", ":")) + "\n" for entry in entries)
    if not text:
        return
    path = git_dir / FILE
    path.parent.mkdir(exist_ok=True)
    handle = _opened(path)
    try:
        reached(Step.LOGGING)
        # A line that was cut off (disk full, power) must not swallow the next one.
        if os.fstat(handle).st_size and os.pread(handle, 1, os.fstat(handle).st_size - 1) != b"\n":
            text = "\n" + text
        data = text.encode()
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def read(git_dir: Path) -> list[LogEntry]:
    """All entries, oldest file first, in the order they were appended; damaged lines are left out.

    :raises OSError: the log is there and cannot be read
    """
    path = git_dir / FILE
    return [entry for file in (_older(path), path) for entry in _entries(file)]


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _opened(path: Path) -> int:
    """The log, locked and in its place, rotated where it has grown too large."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        lock(handle)
        status = os.fstat(handle)
        try:
            in_place = path.stat().st_ino == status.st_ino
        except FileNotFoundError:
            in_place = False
        if in_place and status.st_size <= LARGEST:
            return handle
        if in_place:
            # Under the lock: whoever waits for it finds the file moved away, and opens the new one.
            path.replace(_older(path))
        os.close(handle)


def _entries(path: Path) -> Iterator[LogEntry]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield _entry(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def _entry(value: dict[str, Any]) -> LogEntry:
    texts = [value[name] for name in ("ref", "old", "new", "site", "pusher", "time")]
    if not isinstance(value["revision"], int) or not all(isinstance(text, str) for text in texts):
        raise TypeError
    return LogEntry(value["revision"], *texts)
