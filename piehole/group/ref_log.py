"""The local log: each change of the group's refs that this site has seen, one JSON object a line in ``<git_dir>/piehole/log``.

Controllers append what they see, so that ``piehole log`` reaches further back than etcd's last compaction. The file is only
appended to. When it grows past a size it becomes ``log.1``, which replaces an older ``log.1``.
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
LARGEST: Final = 8 << 20  # bytes, about 25,000 moves; two such files are kept


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One change of one ref (or of ``HEAD``) in the consensus.

    ``old`` and ``new`` are the key's values as text; ``""`` means "not known" for ``old``, "the key was deleted" for ``new``. ``site``
    and ``pusher`` are ``""`` where the change has no push record. ``time`` is by the clock of the site that was pushed to, for people.
    ``kind``: what the push record says if it was no push (``clobber``, …), else ``""``. ``push``: the id of the push record, ``""`` where
    there is none or an earlier version has written the line.
    """

    revision: int
    ref: str
    old: str
    new: str
    site: str
    pusher: str
    time: str
    kind: str = ""
    push: str = ""


def value_text(raw: bytes) -> str:
    """A key's value as the log holds it: without its trailing newline, and cut to 1024 bytes."""
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
        # An incomplete line (disk full, power failure) must not merge with the next one.
        if os.fstat(handle).st_size and os.pread(handle, 1, os.fstat(handle).st_size - 1) != b"\n":
            text = "\n" + text
        data = text.encode()
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def read(git_dir: Path) -> list[LogEntry]:
    """All entries, in the order in which they were appended; damaged lines are left out.

    :raises OSError: the log is there and cannot be read
    """
    path = git_dir / FILE
    return [entry for file in (_older(path), path) for entry in _entries(file)]


def recent(git_dir: Path, size: int) -> tuple[list[LogEntry], bool]:
    """The entries in about the last ``size`` bytes of the log, and whether it has no older ones.

    :raises OSError: the log is there and cannot be read
    """
    path = git_dir / FILE
    found: list[LogEntry] = []
    for file in (path, _older(path)):
        try:
            with file.open("rb") as log:
                start = max(0, log.seek(0, os.SEEK_END) - size)
                log.seek(start)
                raw = log.read(size)
        except FileNotFoundError:
            continue
        found = [*_parsed(raw.split(b"\n")), *found]  # a line that was cut is left out like a damaged one
        if start:
            return found, False
        size -= len(raw)
    return found, True


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _opened(path: Path) -> int:
    """Open the log, locked, after rotating it where it has grown too large."""
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
            # Under the lock: a process that waits for it finds that the file was moved, and opens the new one.
            path.replace(_older(path))
        os.close(handle)


def _entries(path: Path) -> Iterator[LogEntry]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    yield from _parsed(lines)


def _parsed(lines: Iterable[bytes]) -> Iterator[LogEntry]:
    for line in lines:
        try:
            yield _entry(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def _entry(value: dict[str, Any]) -> LogEntry:
    texts = [value[name] for name in ("ref", "old", "new", "site", "pusher", "time")]
    texts += [value.get(name, "") for name in ("kind", "push")]  # older lines have none
    if not isinstance(value["revision"], int) or not all(isinstance(text, str) for text in texts):
        raise TypeError
    return LogEntry(value["revision"], *texts)
