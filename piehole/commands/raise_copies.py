"""The group promises more copies than before: its commits must be at enough sites already when the promise begins to count.

Where they are, one transaction writes the record. In a group that is pushed to all the time they never are: each site publishes its
progress once a second. Then it takes two steps. The first writes the new promise with the note ``raising``, which holds the former one:
every push from then on keeps the new promise. When enough sites have published that they have all that is older, the second removes the
note. If they have not in time, the former promise is restored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.etcd.model import Compare, Put, prefix_end
from piehole.group import keys, promise
from piehole.group.records import RAISING, GroupRecord, PushRecord, dump
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, GroupSites, read_sites, ref_revisions
from piehole.long_work import doing

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_POLL: Final = 0.2  # seconds
_PROMISE: Final = ("copies", "copiesElse", "format")


def former(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the group's record without a promise that was never completed: with the one that counted before."""
    if RAISING not in fields:
        return fields
    note = fields[RAISING]
    before = {name: note[name] for name in _PROMISE if name in note} if isinstance(note, dict) else {}
    return {name: value for name, value in fields.items() if name not in (RAISING, *_PROMISE)} | before


def begun(record: GroupRecord, before: Mapping[str, Any]) -> GroupRecord:
    """The record of the first step."""
    note = {name: before[name] for name in _PROMISE if name in before}
    return replace(record, extra={**record.extra, RAISING: note})


def lacking(one: GroupSite, newest: int) -> str:
    """Why this site is not known to have everything up to this revision, ``""`` where it is."""
    if one.fault:
        return f"its records cannot be used: {one.fault}"
    if one.corrupt:
        return f"corrupt: {one.corrupt}"
    if one.progress is None:
        return "never seen"
    if one.revision < newest:
        return f"behind, at revision {one.revision} of {newest}" if one.revision else "joining"
    return ""


def enough(replica: Replica, record: GroupRecord, sites: GroupSites, newest: int) -> list[Compare]:
    """Compares that hold as long as enough sites have everything up to this revision; an empty list where too few have."""
    k, group = replica.keyspace, replica.config.group
    sound = [one.site for one in sites.sites if not (one.left or lacking(one, newest))]
    if len(sound) < promise.needed(record, promise.members(sites.sites)):
        return []
    own = [k.progress(group, site) for site in sound]
    return [Compare(key, key + b"\0", "<", sites.revision + 1) for key in own]


def same_sites(replica: Replica, sites: GroupSites) -> Compare:
    """Holds as long as no site has joined or left."""
    prefix = replica.keyspace.sites(replica.config.group)
    return Compare(prefix, prefix_end(prefix), "<", sites.revision + 1)


def too_few(record: GroupRecord, sites: Sequence[GroupSite], newest: int) -> PieholeError:
    """The refusal where too few sites have everything up to this revision."""
    reasons = {one.site: lacking(one, newest) for one in sites if not one.left}
    sound = [site for site, why in reasons.items() if not why]
    behind = "; ".join(f"{site}: {why}" for site, why in reasons.items() if why)
    have = f"only {', '.join(sound)} {'has' if len(sound) == 1 else 'have'}" if sound else "no site has"
    needed = promise.needed(record, promise.members(sites))
    return PieholeError(
        f"nothing was changed: {count(needed)} must have published that they have every commit of the group, and {have} ({behind}). "
        f"`piehole wait --sites {needed}` waits for that; then run this again."
    )


def count(sites: int) -> str:
    return "1 site" if sites == 1 else f"{sites} sites"


def complete(replica: Replica, revision: int, pusher: str, waited: Deadline) -> None:
    """The second step.

    :param revision: of the first step
    :param waited: when to stop waiting for the sites
    :raises PieholeError: too few sites have published in time that they have all older commits, and the former promise is restored; or
        somebody else has changed the group's record
    :raises EtcdError: etcd could not be used; the note may be there still
    """
    state = replica.reader.list_group(Deadline(_PATIENCE))
    record = GroupRecord.parse(state.group.value) if state.group else None
    if record is None or state.group is None or state.group.mod_revision != revision:
        raise _overtaken(replica)
    # A ref that has moved since then is at enough sites.
    newest = max((mod for mod in ref_revisions(state).values() if mod <= revision), default=0)
    raised = replace(record, extra={name: value for name, value in record.extra.items() if name != RAISING})
    completed = False
    try:
        while not completed:
            sites = read_sites(replica, Deadline(_PATIENCE))
            have = sum(not (one.left or lacking(one, newest)) for one in sites.sites)
            needed = promise.needed(raised, promise.members(sites.sites))
            doing("waiting for sites that have what was pushed before", have, needed, "sites")
            compares = enough(replica, raised, sites, newest)
            completed = bool(compares) and _write(
                replica, revision, raised.dump(), pusher, *compares, same_sites(replica, sites)
            )
            if not completed and waited.passed:
                raise too_few(raised, sites.sites, newest)
            if not completed:
                time.sleep(min(_POLL, waited.remaining()))
    finally:
        if not completed and not _write(replica, revision, dump(former(record.extra)), pusher):
            raise _overtaken(replica)


def _overtaken(replica: Replica) -> PieholeError:
    return PieholeError(
        f"somebody else has changed the record of the group {replica.config.group!r} meanwhile. Check `piehole group show`, and try again."
    )


def _write(replica: Replica, revision: int, record: bytes, pusher: str, *compares: Compare) -> bool:
    k, group = replica.keyspace, replica.config.group
    told = Put(k.ref(group, keys.FENCE), PushRecord.create(replica.config.site, "settings", pusher).dump())
    unchanged = Compare(k.group(group), mod_revision=revision)
    puts = [Put(k.group(group), record), told]
    return replica.etcd.txn([unchanged, *compares], puts, deadline=Deadline(_PATIENCE)).succeeded
