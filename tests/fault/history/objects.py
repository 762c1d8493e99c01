"""Commits without git's processes: loose objects, written straight into one store that all pushers share."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

_GENERATIONS: Final = 100


class Pool:
    """A bare repository from which everybody pushes; ``parents`` knows the first parent of each commit made here."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._lock = threading.Lock()
        self._parents: dict[str, str] = {}
        self._below: dict[str, tuple[str, str]] = {}

    @property
    def parents(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._parents)

    def parent(self, oid: str) -> str:
        """``""`` for a root, and for what was not made here."""
        with self._lock:
            return self._parents.get(oid, "")

    def descends(self, new: str, old: str) -> bool:
        """Whether ``new`` is ``old`` or has it among its nearest ancestors."""
        for _ in range(_GENERATIONS):
            if not new or new == old:
                break
            new = self.parent(new)
        return new == old

    def new_objects(self, commit: str, known: Collection[str]) -> list[str]:
        """The commit with its tree and blob, and those of its ancestors down to the first one that is known."""
        found: list[str] = []
        while commit and not (found and commit in known):
            with self._lock:
                found += [commit, *self._below.get(commit, ())]
            commit = self.parent(commit)
        return found

    def commit(self, message: str, parent: str = "") -> str:
        """A commit whose tree holds one file that no other commit has; ``""``: a root."""
        blob = self._write("blob", f"{message}\n".encode())
        tree = self._write("tree", b"100644 file.txt\0" + bytes.fromhex(blob))
        who = "A Pusher <pusher@example.org> 1700000000 +0000"
        above = f"parent {parent}\n" if parent else ""
        text = f"tree {tree}\n{above}author {who}\ncommitter {who}\n\n{message}\n"
        oid = self._write("commit", text.encode())
        with self._lock:
            self._parents[oid] = parent
            self._below[oid] = tree, blob
        return oid

    def _write(self, kind: str, body: bytes) -> str:
        whole = f"{kind} {len(body)}\0".encode() + body
        oid = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        path = self.repository / "objects" / oid[:2] / oid[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            scratch = path.with_name(f"{oid[2:]}.{threading.get_ident()}.{os.getpid()}")
            scratch.write_bytes(zlib.compress(whole, 1))
            scratch.replace(path)
        return oid


def read_ref(repository: Path, ref: str) -> str:
    """The oid of a ref as git would read it, the zero oid where there is none; no process, since pushers do it all the time."""
    try:
        text = (repository / ref).read_text().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        text = ""
    return text or read_packed(repository).get(ref, "0" * 40)


def read_packed(repository: Path) -> dict[str, str]:
    try:
        lines = (repository / "packed-refs").read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(" ", 1) for line in lines if line[:1] not in "#^")
    return {ref: oid for oid, ref in pairs}
