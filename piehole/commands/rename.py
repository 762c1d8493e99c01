"""``piehole rename``: give a group another name without losing an accepted push.

The orders that must hold:

* The old group is closed first. Every swap compares the group's record, so from then on no push under the old name succeeds
  at any site, even if its controller or hooks have not noticed yet.
* The new group begins with the consensus of the old one, not with the refs of some site: a push that was accepted a moment
  before may have reached no other disk yet. Tombstones are copied, too, for sites that have not seen a deletion yet.
* The new group is opened last. Until then no site can join it, so no site moves refs to a half-copied state.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import WRONG_GROUP, Halted, PieholeError
from piehole.etcd.model import Compare, KeyValue, Put
from piehole.group import bulk_write, drops, keys, rollback_guard
from piehole.group.bulk_write import KeyWrite
from piehole.group.group_state import live
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.refs import HEAD, decode

_PATIENCE: Final = 10.0  # seconds for each question to etcd


def rename(replica: Replica, name: str, pusher: str, say: Callable[[str], None]) -> None:
    """Close the group of this repository, and make the group ``name`` of all its refs. Interrupted, it continues when run again.

    No repository changes: each site joins the new group by `piehole install --group NAME`, and refuses pushes until it does.

    :raises UsageError: the name cannot be a group's
    :raises Halted: etcd holds another group than this repository's, or none
    :raises PieholeError: there is a group of the new name, or somebody changed a record at this very moment
    :raises EtcdError: etcd could not be used
    """
    old, new = _records(replica, name)
    identity = _close(replica, old, name)
    say(f"closed the group {replica.config.group!r}: no push to it is accepted any more")
    if new is None:
        begun = _settings(old, identity)
        _write(replica, name, None, replace(begun, extra={**begun.extra, "copying": replica.config.group}))
    elif not GroupRecord.parse(new.value).copying:
        say(f"the group {name!r} is open already")
        return
    count = _copy(replica, name, identity, pusher)
    _write(replica, name, _record(replica, name), _settings(old, identity))
    say(f"opened the group {name!r} with the {count} ref{'' if count == 1 else 's'} of {replica.config.group!r}")


def preview(replica: Replica, name: str) -> list[str]:
    """What :func:`rename` would do. It raises the same errors, and changes nothing."""
    old, new = _records(replica, name)
    group, closed = replica.config.group, bool(GroupRecord.parse(old.value).renamed)
    if new is not None and not GroupRecord.parse(new.value).copying:
        return [f"the group {name!r} is open already"]
    entries = replica.reader.list_group(Deadline(_PATIENCE)).entries
    count = sum(1 for one, kv in entries.items() if one.startswith("refs/") and live(kv))
    return [
        f"the group {group!r} {'is closed already' if closed else 'would be closed'}: no push to it is accepted then",
        f"the group {name!r} would be opened with the {count} ref{'' if count == 1 else 's'} of {group!r}",
    ]


def _records(replica: Replica, name: str) -> tuple[KeyValue, KeyValue | None]:
    """The records of this repository's group, and of the group that it is to become."""
    keys.check_group(name)
    if name == replica.config.group:
        raise PieholeError(f"the group is called {name!r} already.")
    old = _own_record(replica)
    new = _record(replica, name)
    _refuse_taken(name, old, new)
    return old, new


def _settings(old: KeyValue, identity: str) -> GroupRecord:
    """The record of the new group: what the old one has promised, and what else it holds."""
    record = GroupRecord.parse(old.value)
    kept = {name: value for name, value in record.extra.items() if name not in ("renamed", "renamed_id", "adopting")}
    return replace(record, id=identity, extra=kept)


def _own_record(replica: Replica) -> KeyValue:
    found = _record(replica, replica.config.group)
    if found is None or GroupRecord.parse(found.value).id != replica.config.group_id:
        halted = rollback_guard.check_group(replica.config, found.value if found else None)
        raise halted or Halted(WRONG_GROUP, f"this repository has not joined the group {replica.config.group!r}.")
    return found


def _record(replica: Replica, name: str) -> KeyValue | None:
    found = replica.etcd.range(replica.keyspace.group(name), deadline=Deadline(_PATIENCE)).kvs
    return found[0] if found else None


def _refuse_taken(name: str, old: KeyValue, new: KeyValue | None) -> None:
    """
    :raises PieholeError: another group has the name, or this one has got another name already
    """
    record = GroupRecord.parse(old.value)
    if record.renamed not in ("", name):
        raise PieholeError(f"this group was renamed to {record.renamed!r} already. Rename that one, at a site of it.")
    if new is not None and GroupRecord.parse(new.value).id != record.extra.get("renamed_id"):
        raise PieholeError(f"nothing was changed: there is a group {name!r} already. Choose another name.")


def _close(replica: Replica, old: KeyValue, name: str) -> str:
    """Close the group; return the id of the new one, which is chosen once, even if this is run again."""
    record = GroupRecord.parse(old.value)
    known = record.extra.get("renamed_id")
    if record.renamed and isinstance(known, str):
        return known
    identity = str(uuid.uuid4())
    closed = replace(record, extra={**record.extra, "renamed": name, "renamed_id": identity})
    _write(replica, replica.config.group, old, closed)
    return identity


def _write(replica: Replica, group: str, before: KeyValue | None, record: GroupRecord) -> None:
    key = replica.keyspace.group(group)
    guard = Compare(key, mod_revision=before.mod_revision if before else 0)
    if not replica.etcd.txn([guard], [Put(key, record.dump())], deadline=Deadline(_PATIENCE)).succeeded:
        raise PieholeError(
            f"somebody else changed the record of the group {group!r} at this very moment. Run `piehole rename` again to go on."
        )


def _copy(replica: Replica, name: str, identity: str, pusher: str) -> int:
    """Copy every key of the old group to the new one, HEAD, locks and tombstones too; return the number of live refs."""
    source = replica.reader.list_group(Deadline(_PATIENCE))
    new = Replica.of(replace(replica.config, group=name, group_id=identity), replica.etcd)
    target = new.reader.list_group(Deadline(_PATIENCE))
    wanted = {one: decode(kv.value) for one, kv in source.entries.items() if one not in (keys.PUSH, keys.FENCE)}
    lacking = [
        KeyWrite(one, target.value(one), target.mod(one), value)
        for one, value in wanted.items()
        if target.value(one) != source.value(one)
    ]
    guard = Compare(new.keyspace.group(name), mod_revision=target.group.mod_revision if target.group else 0)
    if bulk_write.write(new, lacking, pusher, kind="renamed", guards=[guard]):
        raise PieholeError(f"somebody else writes to the group {name!r}. Run `piehole rename` again to go on.")
    drops.ask(new, list(drops.read(replica, Deadline(_PATIENCE))), pusher, Deadline(_PATIENCE))
    return sum(1 for one, value in wanted.items() if one != HEAD and value.strip("0\n"))
