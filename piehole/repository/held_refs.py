"""Held refs: ``refs/piehole/held/PUSH/OID`` protects what another site has asked this one to copy, until the refs here contain it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from piehole import git
from piehole.fastpath import ref_files
from piehole.files import sync
from piehole.refs import HELD_REFS
from piehole.repository.ref_transaction import NO_WAITING, RefTransaction, update_ref_input
from piehole.repository.repository import Repository

# A push's id is random hexadecimal digits; whatever else somebody writes into etcd must not become a path.
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}")
# Nothing else is held up by this transaction, so it waits for a push that holds a lock. It needs no reflog.
_SETTINGS: Final = (
    "-c",
    "core.filesRefLockTimeout=1000",
    "-c",
    "reftable.lockTimeout=1000",
    "-c",
    "core.logAllRefUpdates=false",
    "-c",
    "core.fsync=all",
)


def is_push_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def begin(repository: Repository, count: int) -> RefTransaction:
    """Start the transaction that :func:`hold` completes: git starts while the objects are fetched. :raises GitError: it did not start"""
    return RefTransaction(repository.git_dir, "", count, settings=_SETTINGS)


def hold(repository: Repository, begun: RefTransaction, push_id: str, oids: Collection[str]) -> None:
    """Hold these objects, which must be proven and on the disk; afterwards the refs are on the disk, too.

    :raises GitError: git failed, or they could not be synced
    """
    begun.prepare([f"update {_name(push_id, oid)}\0{oid}\0\0" for oid in oids])
    begun.commit()
    _sync(repository, push_id, oids)


def held(repository: Repository) -> dict[str, dict[str, str]]:
    """All held refs: for each push the oids, each with its ref."""
    found: dict[str, dict[str, str]] = {}
    if not repository.has_reftable and not _may_exist(repository.git_dir):
        return found
    for line in git.lines(repository.git("for-each-ref", "--format=%(objectname) %(refname)", HELD_REFS)):
        oid, _, ref = line.partition(" ")
        found.setdefault(ref.removeprefix(HELD_REFS).partition("/")[0], {})[oid] = ref
    return found


def is_held(repository: Repository, push_id: str, oid: str) -> bool:
    """Whether the ref is there, found without a process where refs are files."""
    ref = _name(push_id, oid)
    if repository.has_reftable:
        return repository.read_ref(ref) == oid
    with suppress(OSError):
        return ref_files.value(str(repository.git_dir), ref) == oid
    return False


def existing(repository: Repository, push_id: str, oids: Iterable[str]) -> list[str]:
    """Those of these that a ref of this push holds."""
    return [oid for oid in oids if is_held(repository, push_id, oid)]


def release(repository: Repository, held: Mapping[str, Iterable[str]]) -> None:
    """Remove the refs of these pushes, each with its oids. :raises GitError: some are locked, and none was removed"""
    there = [(push_id, oid) for push_id, oids in held.items() for oid in existing(repository, push_id, oids)]
    if there:
        lines = [f"delete {_name(push_id, oid)}\0{oid}\0" for push_id, oid in there]
        repository.git(*NO_WAITING, "update-ref", "--stdin", "-z", stdin=update_ref_input(lines))
    for push_id in held:
        with suppress(OSError):
            (repository.git_dir / HELD_REFS / push_id).rmdir()


def _name(push_id: str, oid: str) -> str:
    return f"{HELD_REFS}{push_id}/{oid}"


def _may_exist(git_dir: Path) -> bool:
    with suppress(OSError):
        return bool(ref_files.any_below(str(git_dir), HELD_REFS))
    return True


def _sync(repository: Repository, push_id: str, oids: Collection[str]) -> None:
    """Have the disk hold the refs and the names of their folders, which git does not sync."""
    git_dir = repository.git_dir
    if repository.has_reftable:
        sync(git_dir / "reftable")
        return
    folder = git_dir / HELD_REFS / push_id
    try:
        for path in (folder, folder.parent, folder.parent.parent, git_dir / "refs", *(folder / oid for oid in oids)):
            sync(path)
    except FileNotFoundError:  # somebody has packed them meanwhile
        sync(git_dir / "packed-refs")
        sync(git_dir)
