"""What must happen here, decided from two snapshots: the desired state (etcd) and the observed state (git). Pure.

A key that is absent means "no opinion", never "delete": an emptied or wrong etcd plans nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Final, NamedTuple

from piehole.etcd.model import KeyValue
from piehole.group import keys
from piehole.refs import HEAD, PIEHOLE_REFS, Command, decode, is_managed, is_ref_name, is_zero, parents, value_of, zero
from piehole.repository.repository import ObservedState

# How the reasons begin of refs that are stuck for what stands here.
SYMBOLIC: Final = "it is a symbolic ref here"
SECOND: Final = "the group also has"


class Value(NamedTuple):
    """A consensus value that is an oid (the zero oid: a tombstone), and the revisions of its key."""

    oid: str
    mod_revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The desired state of one group as one site sees it. ``locked`` holds what is no oid, by ref."""

    refs: Mapping[str, Value]
    locked: Mapping[str, str] = field(default_factory=dict)
    head: str = ""
    newest: int = 0
    head_revision: int = 0

    def with_values(self, names: Collection[str], fresh: DesiredState) -> DesiredState:
        """This state with what ``fresh`` says of these names; ``newest`` stays."""
        return DesiredState(
            {ref: value for ref, value in self.refs.items() if ref not in names} | dict(fresh.refs),
            {ref: value for ref, value in self.locked.items() if ref not in names} | dict(fresh.locked),
            fresh.head if HEAD in names else self.head,
            self.newest,
            fresh.head_revision if HEAD in names else self.head_revision,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and what cannot be done.

    ``moves`` are to be made once their objects are here; ``room`` names, for a new ref, the moves that only make room for it
    (directory/file) and are pointless without it. ``stuck`` holds this site's progress back; ``locked`` does not (an
    administrator meant it); ``unadopted`` local refs stay as they are; ``deferred`` refs are in flight.
    """

    moves: tuple[Command, ...] = ()
    room: Mapping[str, frozenset[str]] = field(default_factory=dict)
    head: str = ""
    stuck: Mapping[str, str] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    unadopted: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()


def desired_state(entries: Mapping[str, KeyValue], object_format: str, exclude: Sequence[str]) -> DesiredState:
    """Read a group's keys (names without the group) as a desired state. Keys that can be no ref count as locked."""
    refs: dict[str, Value] = {}
    locked: dict[str, str] = {}
    head = ""
    newest = head_revision = 0
    for name, kv in entries.items():
        if name in (keys.PUSH, keys.FENCE):
            continue
        newest = max(newest, kv.mod_revision)
        if name == HEAD:
            target = decode(kv.value.removesuffix(b"\n")).removeprefix("ref: ")
            if kv.value.startswith(b"ref: ") and is_ref_name(target):
                head, head_revision = target, kv.mod_revision
            else:
                locked[name] = f"the group's HEAD is {kv.value[:60]!r}, which is not 'ref: refs/heads/…'"
        elif not is_ref_name(name) or name.startswith(PIEHOLE_REFS):
            locked[name] = "this key can be no ref of the group"
        elif is_managed(name, exclude):
            try:
                oid = value_of(kv.value, object_format)
            except ValueError as error:
                locked[name] = f"its value in the group is {str(error)[:60]!r}, which is no object id"
                continue
            if oid is not None:
                refs[name] = Value(oid, kv.mod_revision, kv.create_revision)
    return DesiredState(refs, locked, head, newest, head_revision)


def plan(
    desired: DesiredState,
    observed: ObservedState,
    *,
    object_format: str,
    exclude: Sequence[str] = (),
    in_flight: Collection[str] = (),
) -> Plan:
    """Compare the two states.

    :param in_flight: refs that a receive-pack is about to move itself, under their locks
    """
    none = zero(object_format)
    announced = set(in_flight)
    stuck: dict[str, str] = {}
    moves: dict[str, Command] = {}
    coming: set[str] = set()
    losers = _losers(desired)
    for ref, value in desired.refs.items():
        if ref in observed.symbolic:
            stuck[ref] = (
                f"{SYMBOLIC} (to {observed.symbolic[ref]}), and piehole never writes through one: delete it here, "
                f"`git symbolic-ref --delete {quote(ref)}`"
            )
            continue
        local = observed.refs.get(ref, none)
        if ref in losers:
            stuck[ref] = (
                f"{SECOND} {losers[ref]}, which was created first, and a name cannot be both a ref and a folder: delete one of the two, "
                f"this one with `piehole clobber --delete {quote(ref)}`"
            )
        elif local != value.oid:
            moves[ref] = Command(ref, local, value.oid)
        elif is_zero(value.oid) and ref in announced:
            # Deleted in the group and not here. But a push that was accepted before the deletion may be about to create it here: if
            # this site counted as one that has seen the deletion, the tombstone would be reaped, and the ref would stay here for good.
            coming.add(ref)
    unadopted = [
        ref
        for ref in observed.refs
        if ref not in desired.refs and ref not in desired.locked and is_managed(ref, exclude)
    ]
    opinions = set(moves)
    room = _room(moves, observed, {*unadopted, *(losers.keys() & observed.refs.keys())}, stuck)
    deferred = {ref for ref in moves if ref in announced or room.get(ref, set()) & announced}
    needed = {blocker for ref, blockers in room.items() if ref not in deferred for blocker in blockers}
    deferred |= {blocker for ref in deferred for blocker in room.get(ref, set())} - opinions - needed
    return Plan(
        moves=tuple(move for ref, move in moves.items() if ref not in deferred),
        room={ref: frozenset(blockers - opinions) for ref, blockers in room.items() if ref not in deferred},
        head=desired.head if desired.head and desired.head != observed.head else "",
        stuck=stuck,
        locked=dict(desired.locked),
        unadopted=tuple(sorted(ref for ref in unadopted if ref not in moves)),
        deferred=tuple(sorted(deferred | coming)),
    )


def only(plan: Plan, refs: Collection[str]) -> Plan:
    """The plan with those moves alone whose refs are named here; the others wait for the next reconcile."""
    late = {move.ref for move in plan.moves if move.ref not in refs}
    if not late:
        return plan
    return replace(plan, moves=tuple(without(plan, late)), deferred=tuple(sorted({*plan.deferred, *late})))


def without(plan: Plan, refs: Collection[str]) -> list[Command]:
    """The moves that remain when these cannot be made: what only made room for them stays where it is, too."""
    needed = {blocker for ref, blockers in plan.room.items() if ref not in refs for blocker in blockers}
    pointless = {blocker for ref in refs for blocker in plan.room.get(ref, ())} - needed
    return [move for move in plan.moves if move.ref not in refs and move.ref not in pointless]


def _folders(names: Collection[str]) -> set[str]:
    """Every name that is above one of these names."""
    found: set[str] = set()
    for name in names:
        above = name.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def _losers(desired: DesiredState) -> dict[str, str]:
    """Of live keys that conflict (put by hand) the one created first wins, everywhere alike: loser -> winner."""
    live = {ref: value for ref, value in desired.refs.items() if not is_zero(value.oid)}
    above = _folders(live) & live.keys()
    if not above:
        return {}
    losers: dict[str, str] = {}
    winners: set[str] = set()
    involved = [ref for ref in live if ref in above or any(parent in above for parent in parents(ref))]
    for ref in sorted(involved, key=lambda name: (live[name].create_revision, name)):
        rival = next((w for w in winners if w.startswith(f"{ref}/") or ref.startswith(f"{w}/")), None)
        if rival is None:
            winners.add(ref)
        else:
            losers[ref] = rival
    return losers


def _room(
    moves: dict[str, Command], observed: ObservedState, removable: Collection[str], stuck: dict[str, str]
) -> dict[str, set[str]]:
    """Which local refs must go for a new one to be created (directory/file), for each that needs it; they are added to the moves.

    Those without opinion go, and losers against an older key (their tips are kept). Where anything else stands in the way, the
    new ref is stuck, and nothing is removed for it.
    """
    new = {ref for ref, move in moves.items() if move.creates and not move.deletes}
    names = {*observed.refs, *observed.symbolic}
    # (Most often nothing is in the way, which comparing the folders shows quickly.)
    above = new & _folders(names) if new else set()
    below = [name for name in names if any(parent in above for parent in parents(name))] if above else []
    room: dict[str, set[str]] = {}
    for blocker in sorted((_folders(new) & names) | set(below)):
        for ref in _conflicting(blocker, new):
            room.setdefault(ref, set()).add(blocker)
    for ref, blockers in room.items():
        immovable = sorted(
            name for name in blockers if name not in removable and not (name in moves and moves[name].deletes)
        )
        if immovable:
            del moves[ref]
            stuck[ref] = f"{immovable[0]} stands in its way here, and it is none of the group's: delete or rename it"
    room = {ref: blockers for ref, blockers in room.items() if ref in moves}
    for blocker in {name for blockers in room.values() for name in blockers} - moves.keys():
        moves[blocker] = Command(blocker, observed.refs[blocker], "0" * len(observed.refs[blocker]))
    return room


def _conflicting(name: str, others: Collection[str]) -> list[str]:
    """Those of the others that cannot stand beside ``name``."""
    above = [parent for parent in parents(name) if parent in others]
    return above or [ref for ref in others if ref.startswith(f"{name}/")]
