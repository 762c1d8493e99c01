"""What a reader waits for, and whether this site and others have it.

A reader's question is about the moment when it was asked: one linearizable read tells the revision of etcd that is to be reached, and
what is pushed later does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Compacted, PieholeError, UsageError
from piehole.etcd.model import KeyValue, Range, prefix_end
from piehole.group import keys, ref_names
from piehole.group.group_state import live
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.refs import HEAD, decode, is_oid, is_zero, short, value_of
from piehole.replicate.dry_run import DryRun, dry_run

ALL: Final = "all"
_POLL: Final = 0.2  # seconds
_LONGEST_POLL: Final = 0.5  # each costs a read of etcd or a git process, and many may wait
_READ: Final = 2.0  # seconds that one read of etcd may take in any case
_CHANGES: Final = 32  # of one ref that are looked up; a ref that is further behind is waited for
_LOCKED: Final = ""  # what stands for a value that is no object id

# Whether this site has reached a revision: "" where it has before the deadline, else why not.
Here = Callable[[int, Deadline], str]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for: the newest of all refs, or of ``ref``, or ``oid`` (or a descendant of it) for ``ref``.

    ``sites``: names, or a number, or ``all``; empty: this site. ``revision``: what is to be reached; None where it is not known yet.
    """

    ref: str = ""
    oid: str = ""
    sites: tuple[str, ...] = ()
    revision: int | None = None

    def check(self, object_format: str) -> None:
        """
        :raises UsageError: it cannot be waited for
        """
        if self.ref:
            ref_names.check_name(self.ref)
        if self.oid and not is_oid(self.oid, object_format):
            digits = 64 if object_format == "sha256" else 40
            raise UsageError(
                f"{self.oid!r} is no object id: give all {digits} lower-case hexadecimal digits, as `git rev-parse` prints them."
            )
        if self.oid and self.ref == HEAD:
            raise UsageError("HEAD names a branch and has no object id of its own in the group: name the branch.")
        number = self.number
        if number is not None and number < 1:
            raise UsageError(f"--sites {number}: at least one site must have it.")
        if len(self.sites) > 1 and ALL in self.sites:
            raise UsageError(f"--sites takes a number, or '{ALL}', or names of sites.")

    @property
    def number(self) -> int | None:
        """How many sites, where a number was given."""
        one = self.sites[0] if len(self.sites) == 1 else ""
        return int(one) if one.isascii() and one.isdigit() else None


@dataclass(frozen=True, slots=True)
class Arrival:
    """``reached``: the goal is; else ``why`` not yet. ``revision``: what is to be reached, None where it is not known yet."""

    reached: bool
    revision: int | None
    why: str = ""


def await_goal(
    replica: Replica, goal: Goal, here: Here, deadline: Deadline, awaited: Callable[[], bool] = lambda: True
) -> Arrival:
    """Wait until the goal is reached, the deadline passes, or nobody awaits it any more.

    :raises EtcdError: etcd could not be used
    :raises PieholeError: it cannot be reached: the group has no such ref or site
    """
    pause = _POLL / 4
    while True:
        why = ""
        if goal.revision is None:
            revision, why = _pin(replica, goal, _reading(deadline))
            goal = replace(goal, revision=revision)
        if goal.revision is not None:
            why = _missing(replica, goal, goal.revision, here, deadline)
            if not why:
                return Arrival(True, goal.revision)
        if deadline.passed or not awaited():
            return Arrival(False, goal.revision, why)
        time.sleep(min(pause, deadline.remaining()))
        pause = min(2 * pause, _LONGEST_POLL)


def newest_push(replica: Replica, deadline: Deadline) -> tuple[int, int]:
    """Read the revision of the group's newest push (or fence), and etcd's own revision.

    It is one linearizable read of two keys. The newest of all keys would make etcd read the whole group: 0.8 ms for each 1,000 refs.

    :raises EtcdError: etcd could not be used
    """
    k, group = replica.keyspace, replica.config.group
    first, last = k.ref(group, keys.FENCE), k.ref(group, keys.PUSH)
    found = replica.etcd.range(first, last + b"\0", deadline=deadline, keys_only=True)
    return max((kv.mod_revision for kv in found.kvs), default=0), found.revision


def as_compared(replica: Replica) -> Here:
    """For a process without a controller: compare the refs here with the group's."""

    def here(revision: int, deadline: Deadline) -> str:
        while True:
            seen = dry_run(replica, _reading(deadline))
            if seen.halted is not None:
                return str(seen.halted)
            unsettled = {move.ref for move in seen.planned.moves} | set(seen.planned.deferred) | set(seen.planned.stuck)
            unsettled |= {HEAD} if seen.planned.head else set()
            late = _first_late(replica, seen, unsettled, revision, _reading(deadline))
            if not late:
                return ""
            if deadline.passed:
                return f"{late} is not at the group's value here yet, and no controller of this site answers"
            time.sleep(min(_POLL, deadline.remaining()))

    return here


def _first_late(replica: Replica, seen: DryRun, unsettled: Iterable[str], revision: int, deadline: Deadline) -> str:
    """One of these refs that has not reached the revision here, ``""`` where all have."""
    entries = seen.state.entries
    # A name of which the group has no key only makes room for another one. The oldest change first: it needs no read.
    named = sorted((entries[ref].mod_revision, ref) for ref in unsettled if ref in entries)
    for _, ref in named:
        held = f"ref: {seen.observed.head}" if ref == HEAD else seen.observed.refs.get(ref, replica.repository.zero)
        if ref in seen.observed.symbolic or not _has_passed(replica, ref, held, entries[ref], revision, deadline):
            return ref
    return ""


def _has_passed(replica: Replica, ref: str, held: str, kv: KeyValue, revision: int, deadline: Deadline) -> bool:
    """Whether ``held`` is older than the group's value now, and yet one that the group had at the revision or later.

    That the ref has changed since the revision does not show it: an empty repository has none of its values.

    :param kv: what the group has for the ref now
    """
    for _ in range(_CHANGES):
        if kv.create_revision > revision:
            return True  # between the revision and now there was a moment without a key, and so without an opinion
        if kv.mod_revision <= revision:
            return False
        try:
            found = replica.etcd.range(kv.key, revision=kv.mod_revision - 1, deadline=deadline).kvs
        except Compacted:  # nobody knows any more
            return False
        if not found:
            return True
        kv = found[0]
        value = _value(replica, ref, kv)
        if value in (held, _LOCKED):
            return True
    return False


def _value(replica: Replica, ref: str, kv: KeyValue) -> str:
    if ref == HEAD:
        return decode(kv.value.removesuffix(b"\n"))
    try:
        return value_of(kv.value, replica.config.object_format) or _LOCKED
    except ValueError:
        return _LOCKED


def _reading(deadline: Deadline) -> Deadline:
    return Deadline(max(_READ, deadline.remaining()))


def _pin(replica: Replica, goal: Goal, deadline: Deadline) -> tuple[int | None, str]:
    """The revision that is to be reached; None and the reason where that is not known yet."""
    k, group = replica.keyspace, replica.config.group
    if not goal.ref:
        below = k.ref(group, "refs/")
        newest = Range(below, prefix_end(below), limit=1, keys_only=True, newest_first=True)
        head, refs = replica.etcd.txn([], [Range(k.ref(group, HEAD)), newest], deadline=deadline).ranges
        return max((kv.mod_revision for kv in (*head.kvs, *refs.kvs)), default=0), ""
    name, kv = _meant(replica, goal.ref, deadline)
    if not goal.oid:
        if kv is None:
            near = ref_names.suggestion(goal.ref, replica.repository.observe().refs)
            raise PieholeError(f"the group {group!r} has no ref {goal.ref!r}.{near}")
        return kv.mod_revision, ""
    if kv is None:
        return None, f"the group {group!r} has no ref {goal.ref!r} yet"
    try:
        value = value_of(kv.value, replica.config.object_format) or ""
    except ValueError:
        return None, f"{name} is locked in the group: its value there is no object id"
    if value == goal.oid or (value and not is_zero(value) and replica.repository.contains(value, goal.oid)):
        return kv.mod_revision, ""
    held = "deleted" if is_zero(value) else f"at {short(value)}"
    return None, f"{name} is {held} in the group, which is not known here to contain {short(goal.oid)}"


def _meant(replica: Replica, ref: str, deadline: Deadline) -> tuple[str, KeyValue | None]:
    """The name and value of the group's ref that REF means; a deleted one only where none that exists can be meant.

    :raises UsageError: it means several
    """
    k, names = replica.keyspace, ref_names.candidates(ref)
    asked = [Range(k.ref(replica.config.group, name)) for name in names]
    ranges = replica.etcd.txn([], asked, deadline=deadline).ranges
    found = {name: one.kvs[0] for name, one in zip(names, ranges, strict=True) if one.kvs}
    name = ref_names.the_one(ref, [name for name, kv in found.items() if live(kv)] or list(found))
    return name, found.get(name)


def _missing(replica: Replica, goal: Goal, revision: int, here: Here, deadline: Deadline) -> str:
    """Why not enough sites have reached the revision; ``""`` where they have."""
    own = replica.config.site
    if not goal.sites:
        return _late_here(replica, goal, revision, here, deadline)
    everybody = [one for one in list_sites(replica, _reading(deadline)) if not one.left]
    wanted, enough = _wanted(replica, goal, everybody)
    why: dict[str, str] = {}
    for one in wanted:
        # A site's progress record follows within a second. This site need not wait for its own.
        late = (
            _late_here(replica, goal, revision, here, deadline.at_most(0))
            if one.site == own
            else _behind(one, revision)
        )
        if late:
            why[one.site] = late
    if len(wanted) - len(why) >= enough:
        return ""
    return "; ".join(f"site {site}: {late}" for site, late in why.items())


def _late_here(replica: Replica, goal: Goal, revision: int, here: Here, deadline: Deadline) -> str:
    """Why this site has not reached the revision. Where one ref is waited for, other refs that are stuck do not count."""
    if not goal.ref or goal.ref == HEAD:
        return here(revision, deadline)
    late = here(revision, deadline.at_most(_POLL))
    return "" if not late or _has(replica, goal.ref, revision) else late


def _has(replica: Replica, ref: str, revision: int) -> bool:
    """Whether the ref has a value that the group had at the revision or later. A locked ref counts as done."""
    deadline = Deadline(_READ)
    name, kv = _meant(replica, ref, deadline)
    if kv is None:
        return False
    # The group was read before the ref, which may have moved on since, and is judged by the next look then.
    held = replica.repository.read_ref(name)
    return _value(replica, name, kv) in (held, _LOCKED) or _has_passed(replica, name, held, kv, revision, deadline)


def _wanted(replica: Replica, goal: Goal, everybody: Sequence[GroupSite]) -> tuple[list[GroupSite], int]:
    """The sites of which so many must have it.

    :raises PieholeError: the group has fewer, or not one of that name
    """
    names = {one.site: one for one in everybody}
    known = f"the sites of the group {replica.config.group!r} are {', '.join(names) or 'none'} (`piehole sites`)"
    number = goal.number
    if number is not None:
        if number > len(names):
            raise PieholeError(f"--sites {number} can never be reached: {known}.")
        return list(everybody), number
    if goal.sites == (ALL,):
        return list(everybody), len(names)
    unknown = [site for site in goal.sites if site not in names]
    if unknown:
        raise PieholeError(f"there is no site {unknown[0]!r}: {known}.")
    wanted = [names[site] for site in dict.fromkeys(goal.sites)]
    return wanted, len(wanted)


def _behind(one: GroupSite, revision: int) -> str:
    if one.fault:
        return one.fault
    if one.corrupt:
        return f"it is corrupt: {one.corrupt}"
    if one.revision < 0:
        return "it has published no progress yet"
    return "" if one.revision >= revision else f"it is at revision {one.revision} of {revision}"
