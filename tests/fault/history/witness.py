"""Sees every swap before etcd does, and takes down which sites have its commits at that moment.

A commit that arrives later does not count: while the witness looks, nobody has sent the swap, so it has not taken effect.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import load_pack_index

from tests.fault.history.evidence import Sending
from tests.fault.history.objects import Pool, read_packed
from tests.support.git import git

HELD: Final = "refs/piehole/held"
_LOOKS: Final = 4  # a repack moves objects while one looks
_PAUSE: Final = 0.02  # seconds


class Store:
    """The objects of one repository and what protects them, read from its files: no process, since swaps wait for it."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._packs: dict[str, frozenset[str]] = {}

    def has(self, oids: Sequence[str]) -> bool:
        """Whether all of these objects are here; quarantines do not count."""
        return all(self._loose(oid) or self._packed(oid) for oid in oids)

    def protects(self, oid: str) -> bool:
        """Whether a ref reaches this commit."""
        if any((self._repository / HELD).glob(f"*/{oid}")) or oid in read_packed(self._repository).values():
            return True
        shown = git(self._repository, "for-each-ref", "--count=1", f"--contains={oid}", check=False)
        return shown.returncode == 0 and bool(shown.stdout.strip())

    def _loose(self, oid: str) -> bool:
        return (self._repository / "objects" / oid[:2] / oid[2:]).exists()

    def _packed(self, oid: str) -> bool:
        packs = self._repository / "objects" / "pack"
        try:
            names = [path.name for path in packs.iterdir() if path.suffix == ".idx"]
        except FileNotFoundError:  # the disk is lost
            return False
        for name in names:
            if name not in self._packs:
                self._packs[name] = self._listed(packs / name)
        self._packs = {name: self._packs[name] for name in names}
        return any(oid in self._packs[name] and (packs / name).with_suffix(".pack").exists() for name in names)

    def _listed(self, path: Path) -> frozenset[str]:
        try:
            index = load_pack_index(str(path), DEFAULT_OBJECT_FORMAT)
            try:
                return frozenset(entry[0].hex() for entry in index.iterentries())
            finally:
                index.close()
        except (OSError, ValueError, AssertionError):
            return frozenset()  # a repack has removed it


class Witness:
    """:param copies: no more sites than this are looked at
    :param stores: the repository of each site
    """

    def __init__(self, pool: Pool, prefix: str, copies: int, stores: Callable[[], dict[str, Path]]) -> None:
        self._pool = pool
        self._copies = copies
        self._start = f"{prefix}/ref/".encode()
        self._stores = stores
        self._known: dict[str, Store] = {}
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._sendings: list[Sending] = []

    @property
    def sendings(self) -> list[Sending]:
        with self._lock:
            return list(self._sendings)

    def look(self, body: bytes) -> None:
        """A transaction is about to be sent to etcd."""
        if b'"request_put"' not in body:
            return
        push, values = self._swap(json.loads(body))
        if not push or not values:
            return
        at = time.monotonic()
        with self._lock:
            holders = {oid: self._holders(oid, str(push.get("site", ""))) for oid in values}
            self._seen |= set(values)
            self._sendings.append(Sending(str(push.get("id", "")), str(push.get("pusher", "")), holders, at))

    def _swap(self, txn: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The push record of a swap, and the commits that it writes; nothing where the transaction is none."""
        push: dict[str, Any] = {}
        values = []
        for operation in txn.get("success", ()):
            put = operation.get("request_put") or {}
            key = base64.b64decode(put.get("key", ""))
            value = base64.b64decode(put.get("value", "")).decode(errors="replace")
            if not key.startswith(self._start):
                continue
            name = key[len(self._start) :].partition(b"/")[2]
            if name == b"@push":
                push = json.loads(value)
            elif name.startswith(b"refs/") and value.strip("0"):
                values.append(value)
        return push, list(dict.fromkeys(values))

    def _holders(self, oid: str, receiver: str) -> frozenset[str]:
        wanted = self._pool.new_objects(oid, self._seen)
        found: set[str] = set()
        for look in range(_LOOKS):
            if look:
                time.sleep(_PAUSE)
            for name, repository in sorted(self._stores().items(), key=lambda one: one[0] != receiver):
                store = self._known.setdefault(name, Store(repository))
                # The one that receives it needs no ref yet: git leaves the objects of a push alone.
                if name not in found and store.has(wanted) and (name == receiver or store.protects(oid)):
                    found.add(name)
                if len(found) >= self._copies:
                    return frozenset(found)
        return frozenset(found)
