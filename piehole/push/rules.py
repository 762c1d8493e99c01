"""The five rules that decide whether a push may move a ref, and the refusals, as pure functions.

The rules are numbered as in docs/development/architecture.md ("The rules"). C is the consensus value, O the repository's old value, N the pushed one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from piehole.errors import (
    CONFLICT,
    LOCKED,
    NO_ACCESS,
    NO_QUORUM,
    RESERVED,
    STALE,
    TOO_MANY,
    UNADOPTED,
    EtcdError,
    EtcdFull,
    EtcdRefused,
    NoAccess,
)
from piehole.refs import PIEHOLE_REFS, Command, is_zero, shown, value_of, zero

LOOK: Final = "look (`git fetch`) before pushing again"


@dataclass(frozen=True, slots=True)
class Free:
    """The ref is not managed: the consensus has no say."""


@dataclass(frozen=True, slots=True)
class Accept:
    """The ref may move. ``writes`` is false where the consensus has the new value already (rule 1)."""

    writes: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """The ref must not move. ``token`` is for scripts, ``sentence`` for people; ``wants`` is the value that this site should reach first."""

    token: str
    sentence: str
    wants: str = ""


Verdict = Accept | Refuse


def judge(
    command: Command,
    consensus: bytes | None,
    *,
    object_format: str,
    conflict: str | None,
    fast_forward: Callable[[str, str], bool],
) -> Verdict:
    """Judge one command by the five rules.

    :param consensus: the value of the ref's key, None where it is absent
    :param conflict: a live ref of the group whose name excludes a new ref (directory/file conflict), None where there is none
    :param fast_forward: whether both oids are commits of this repository, and the second descends from the first
    """
    try:
        found = value_of(consensus, object_format)
    except ValueError as error:
        return Refuse(
            LOCKED,
            f"{command.ref} is locked ({str(error)[:60]!r}); ask the administrator, or see `piehole status`",
        )
    if found is None and not command.creates:
        return Refuse(
            UNADOPTED,
            f"the group has no value for {command.ref}; if this site's is right, the administrator runs "
            f"`piehole clobber {command.ref}` here",
        )
    current = zero(object_format) if found is None else found
    if current == command.new:  # rule 1
        return Accept(writes=False)
    if current == command.old:  # rule 2
        return _creation(command, conflict) if command.creates else Accept(writes=True)
    movable = not command.ref.startswith("refs/tags/") and not is_zero(current) and not command.deletes
    if movable and fast_forward(current, command.new):  # rule 3
        return Accept(writes=True)
    return Refuse(  # rule 5
        STALE,
        f"{command.ref} was moved first: the group has {shown(current)}, this push expected {shown(command.old)}; pull and push again",
        wants=current,
    )


def _creation(command: Command, conflict: str | None) -> Verdict:
    if conflict is None:
        return Accept(writes=True)
    return Refuse(
        CONFLICT,
        f"cannot create {command.ref}: the group has {conflict}; choose another name, or delete that ref first",
    )


def blocked_here(ref: str, blocker: str) -> Refuse:
    """Refuse a new ref that cannot stand beside a local one."""
    return Refuse(
        CONFLICT,
        f"cannot create {ref}: this repository has {blocker}; choose another name, or have the administrator see `piehole status` for "
        f"{blocker}, which the group may not have",
    )


def already_here(command: Command) -> Refuse:
    """Refuse a move that git would refuse, since the ref has arrived at the new value by way of another site."""
    return Refuse(
        STALE,
        f"nothing is left to push to {command.ref}: the group has {shown(command.new)} already, by a push to another site; run `git fetch`",
    )


def out_of_bounds(ref: str, *, symbolic: bool, namespace: str) -> Refuse | None:
    """Refuse a ref that no push may move, whatever its consensus value."""
    if namespace:
        return Refuse(
            RESERVED,
            f"cannot push into the namespace {namespace!r} (GIT_NAMESPACE); push without it",
        )
    if ref.startswith(PIEHOLE_REFS):
        return Refuse(RESERVED, f"cannot push {ref}: names below {PIEHOLE_REFS} are piehole's own; choose another name")
    if symbolic:
        return Refuse(RESERVED, f"{ref} is a symbolic ref here; push to the ref that it points to")
    return None


def refusal(error: EtcdError) -> Refuse:
    """The refusal for a pusher where etcd could not be used and nothing changed."""
    if isinstance(error, EtcdRefused) and error.too_many:
        return Refuse(
            TOO_MANY,
            "the refs of this push do not fit into one etcd transaction; push fewer at once, or have the administrator raise etcd's "
            "--max-txn-ops (deploy/ sets 8192)",
        )
    if isinstance(error, EtcdFull):
        return Refuse(
            NO_ACCESS,
            f"{error.what} Nothing changed; have the administrator compact and defragment etcd, then disarm its alarm NOSPACE "
            '(docs/guides/etcd.md, "Space")',
        )
    if isinstance(error, NoAccess):
        return Refuse(
            NO_ACCESS,
            f"{error}, and no controller runs; nothing changed. Have the administrator start `piehole controller` at this site",
        )
    if isinstance(error, EtcdRefused):
        return Refuse(NO_ACCESS, f"etcd refused: {error} Nothing changed")
    return Refuse(NO_QUORUM, f"cannot reach the group; nothing changed. {error}")
