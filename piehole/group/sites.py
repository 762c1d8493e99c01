"""The sites of a group as their records say: who there is, how far each has come, and leaving."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Compacted, PieholeError
from piehole.etcd.model import Compare, KeyValue, Put, Range, Snapshot, prefix_end
from piehole.group import keys, rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.progress import now
from piehole.group.records import Progress, PushRecord, RecordError, SiteRecord
from piehole.group.replica import Replica

_LOOKED_UP: Final = 50  # push records


@dataclass(frozen=True, slots=True)
class GroupSite:
    """One site. ``fault`` says why a record of it cannot be used; then it counts as a site that was never seen.

    ``replaced``: when another machine took this name over, ``""`` where none did.
    """

    site: str
    id: str = ""
    url: str = ""
    left: bool = False
    progress: Progress | None = None
    fault: str = ""
    replaced: str = ""

    @property
    def revision(self) -> int:
        """How far it has come; -1 where it never said so."""
        return self.progress.revision if self.progress else -1


def members(replica: Replica, deadline: Deadline) -> list[GroupSite]:
    """All sites of the group, those that left included, in order of their names; read at one revision.

    :raises EtcdError: etcd could not be used
    """
    return look(replica, deadline).members


@dataclass(frozen=True, slots=True)
class Look:
    """``cut``: there are more members than were asked for. ``more``: what the other ranges hold."""

    members: list[GroupSite]
    cut: bool
    more: list[Snapshot]


def look(replica: Replica, deadline: Deadline, *more: Range, limit: int = 0) -> Look:
    """The same, and what these ranges hold, in one round trip.

    :param limit: of members, the first by name; 0: all. Of one whose progress is not among the first, none is known
    :raises EtcdError: etcd could not be used
    """
    k, group = replica.keyspace, replica.config.group
    prefixes = (k.sites(group), k.all_progress(group))
    ranges = [Range(prefix, prefix_end(prefix), limit=limit) for prefix in prefixes]
    found = replica.etcd.txn([], [*ranges, *more], deadline=deadline).ranges
    return Look(_members(replica, found[0].kvs, found[1].kvs), found[0].more, list(found[2:]))


def one(replica: Replica, site: str, deadline: Deadline) -> list[GroupSite]:
    """The member of this name; none where the group has no such site.

    :raises EtcdError: etcd could not be used
    """
    k, group = replica.keyspace, replica.config.group
    ranges = [Range(k.site(group, site)), Range(k.progress(group, site))]
    record, progress = replica.etcd.txn([], ranges, deadline=deadline).ranges
    return _members(replica, record.kvs, progress.kvs)


def _members(replica: Replica, records: Sequence[KeyValue], progress: Sequence[KeyValue]) -> list[GroupSite]:
    k, group = replica.keyspace, replica.config.group
    said = {k.split_site(k.all_progress(group), kv.key): kv.value for kv in progress}
    named = [(k.split_site(k.sites(group), kv.key), kv.value) for kv in records]
    return [_member(name, record, said.get(name)) for name, record in named if name is not None]


def _member(name: str, record: bytes, progress: bytes | None) -> GroupSite:
    try:
        site = SiteRecord.parse(record)
    except RecordError as error:
        return GroupSite(name, fault=str(error))
    try:
        seen = Progress.parse(progress) if progress is not None else None
    except RecordError as error:
        return GroupSite(name, site.id, site.url, site.left, fault=str(error), replaced=site.replaced)
    return GroupSite(name, site.id, site.url, site.left, seen, replaced=site.replaced)


def ref_revisions(state: GroupState) -> dict[str, int]:
    """The mod_revision of every ref of the group and of HEAD: what a site's progress is measured by."""
    return {name: kv.mod_revision for name, kv in state.entries.items() if name not in (keys.PUSH, keys.FENCE)}


def push_at(replica: Replica, revision: int, deadline: Deadline) -> PushRecord | None:
    """The push that made the change at this revision; None where it was made by hand, or the history is gone.

    :raises EtcdError: etcd could not be used
    """
    key = replica.keyspace.ref(replica.config.group, keys.PUSH)
    try:
        found = replica.etcd.range(key, revision=revision, deadline=deadline).kvs
        return PushRecord.parse(found[0].value) if found and found[0].mod_revision == revision else None
    except (Compacted, RecordError):
        return None


def held_alone(
    replica: Replica, state: GroupState, everybody: Sequence[GroupSite], site: str, deadline: Deadline
) -> list[str]:
    """The refs whose newest value only this one site is known to have: it reached or made them, and no other has come so far.

    :raises EtcdError: etcd could not be used
    """
    others = max((one.revision for one in everybody if one.site != site and not one.left), default=-1)
    reached = max((one.revision for one in everybody if one.site == site), default=-1)
    newer = {name: mod for name, mod in ref_revisions(state).items() if mod > others}
    unsure = sorted({mod for mod in newer.values() if mod > reached}, reverse=True)[:_LOOKED_UP]
    pushes = {mod: push_at(replica, mod, deadline) for mod in unsure}
    made = {mod for mod, push in pushes.items() if push is not None and push.site == site}
    return sorted(name for name, mod in newer.items() if mod <= reached or mod in made)


def leave(replica: Replica, site: str, deadline: Deadline) -> bool:
    """Mark the site's record as left; False where it had left already.

    :raises Halted: etcd holds another group, or this site's name belongs to another machine now
    :raises PieholeError: the group has no such site, or its record was changed at this very moment
    :raises EtcdError: etcd could not be used
    """
    config, key = replica.config, replica.keyspace.site(replica.config.group, site)
    state = replica.reader.read([], deadline)
    halted = rollback_guard.check_group(config, state.group.value if state.group else None)
    if halted is not None:
        raise halted
    found = replica.etcd.range(key, deadline=deadline).kvs
    if not found:
        known = ", ".join(one.site for one in members(replica, deadline)) or "none"
        raise PieholeError(f"the group {config.group!r} has no site {site!r}. Its sites: {known}.")
    record = SiteRecord.parse(found[0].value)
    if record.left:
        return False
    guard = Compare(key, mod_revision=found[0].mod_revision)
    # No ref moves by it, but all controllers hear of the fence: the one of the site that left stands still at once.
    heard = PushRecord(str(uuid.uuid4()), config.site, "", now(), {"kind": "left"})
    puts = [Put(key, record.leaving().dump()), Put(replica.keyspace.ref(config.group, keys.FENCE), heard.dump())]
    if not replica.etcd.txn([guard], puts, deadline=deadline).succeeded:
        raise PieholeError(
            f"somebody else changed the record of the site {site!r} at this very moment. Look, and try again."
        )
    return True


def is_ours(replica: Replica, everybody: Sequence[GroupSite]) -> bool:
    """Whether the record of this site's name is this repository's, and not another machine's."""
    return any(one.site == replica.config.site and one.id == replica.config.site_id for one in everybody)
