"""Release what was held for a push of another site, once the refs here protect it or the push has moved nothing.

Nothing of an accepted push is released before refs contain it. Where nobody knows what became of a push, its tips are kept
(:mod:`piehole.repository.kept_tips`), as if it had been accepted and overwritten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.fastpath import ref_files
from piehole.group.keys import COPIES
from piehole.group.replica import Replica
from piehole.refs import HELD_REFS, decode
from piehole.repository import held_refs, kept_tips
from piehole.repository.repository import Repository

_PATIENCE: Final = 10.0  # seconds for etcd
_AT_ONCE: Final = 100  # oids that are examined one by one


@dataclass(frozen=True, slots=True)
class PushEnd:
    """How a push ended whose request is gone since ``revision``: whether the group took it (None: not known), and the refs it moved."""

    revision: int
    accepted: bool | None
    moved: Mapping[str, str] = field(default_factory=dict)


def unprotected(repository: Repository, oids: Collection[str], moved: Mapping[str, str]) -> list[str]:
    """Those of these objects that no ref here contains, held refs apart.

    :param moved: refs that likely have them, with their oids
    """
    here = {oid for ref, oid in moved.items() if oid in oids and _value(repository, ref) == oid}
    left = [oid for oid in oids if oid not in here]
    if not left or _reached(repository, left):
        return []
    if len(left) > _AT_ONCE:
        return left
    return [oid for oid in left if not _reached(repository, [oid])]


def settle_leftovers(replica: Replica) -> None:
    """Release what earlier processes have held for pushes whose requests are gone; what refs do not contain is kept first.

    :raises EtcdError: etcd could not be used
    :raises GitError: git failed
    """
    found = held_refs.held(replica.repository)
    if not found:
        return
    start = replica.keyspace.ref(replica.config.group, f"{COPIES}/")
    listed = replica.etcd.list_prefix(start, deadline=Deadline(_PATIENCE))
    alive = {decode(kv.key[len(start) :]).partition("/")[0] for kv in listed.kvs}
    release_all(replica.repository, {push_id: oids for push_id, oids in found.items() if push_id not in alive})


def release_all(repository: Repository, held: Mapping[str, Collection[str]]) -> None:
    """Release what is held for these pushes, of which nobody knows what became: what refs do not contain is kept first.

    :raises GitError: git failed
    """
    kept_tips.keep(repository, unprotected(repository, {oid for oids in held.values() for oid in oids}, {}))
    held_refs.release(repository, held)


def _value(repository: Repository, ref: str) -> str:
    if repository.has_reftable:
        return repository.read_ref(ref)
    try:
        return ref_files.value(str(repository.git_dir), ref)
    except OSError:
        return ""


def _reached(repository: Repository, oids: Sequence[str]) -> bool:
    """Whether refs other than held ones reach all of these objects."""
    walk = ["rev-list", "--objects", "--max-count=1", "--stdin", "--not", f"--exclude={HELD_REFS}*", "--all"]
    try:
        shown = repository.git(
            "-c", "core.commitGraph=false", *walk, stdin="".join(f"{oid}\n" for oid in oids).encode()
        )
    except GitError:  # some history is incomplete here
        return False
    return not git.lines(shown)
