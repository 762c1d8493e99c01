"""``piehole group``: the settings that all sites of a group share. They are in the group's record, and HEAD beside the refs.

A change is judged on what was read, and its transaction compares all of it. It also writes ``@fence``: all controllers watch that key,
so they read the record again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError, UsageError
from piehole.etcd.model import Compare, Put, prefix_end
from piehole.group import alive, keys, promise, rollback_guard
from piehole.group.group_state import GroupState, live
from piehole.group.outlook import CopiesOutlook, outlook
from piehole.group.records import GroupRecord, PushRecord, RecordError, dump, parse_record
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, GroupSites, read_sites, ref_revisions
from piehole.refs import HEAD, decode, encode, is_managed, is_oid, is_ref_name
from piehole.replicate.dry_run import halted

COPIES: Final = "copies"
COPIES_ELSE: Final = "copiesElse"
SET_HEAD: Final = "head"
SETTINGS: Final = (COPIES, COPIES_ELSE, SET_HEAD)

_RECORD: Final = "the group's record"
_BRANCHES: Final = "refs/heads/"
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the group's record says, HEAD, the sites that have not left, and whether the promise of copies can be kept now."""

    record: GroupRecord
    head: str
    sites: tuple[str, ...]
    copies: CopiesOutlook


@dataclass(frozen=True, slots=True)
class SettingChange:
    """The change of one setting. ``weakens``: it takes something of the promise of copies back.

    ``compares`` and ``put``: the transaction that makes it, if nothing has changed since it was judged. ``tells``: the key that is written
    with it so that the other sites look.
    """

    name: str
    before: str
    after: str
    weakens: bool
    compares: tuple[Compare, ...]
    put: Put
    tells: str = keys.FENCE

    @property
    def needed(self) -> bool:
        return self.before != self.after


def show(replica: Replica, deadline: Deadline) -> GroupSettings:
    """Read the group's settings.

    :raises Halted: etcd holds another group than the one that this repository joined, or a record that cannot be used
    :raises EtcdError: etcd could not be used
    """
    state = replica.reader.list_group(deadline)
    wrong = rollback_guard.check_group(replica.config, state.group.value if state.group else None)
    if wrong is not None or state.group is None:
        raise wrong or PieholeError("etcd has no record of the group.")
    record = GroupRecord.parse(state.group.value)
    sites = read_sites(replica, deadline).sites
    found = outlook(record, sites, alive.heard(replica, sites, deadline))
    return GroupSettings(record, _head(state), tuple(promise.members(sites)), found)


def judge(replica: Replica, name: str, value: str, deadline: Deadline) -> SettingChange:
    """Read the group, and judge whether this setting may get this value.

    :raises UsageError: the setting does not exist, or cannot have this value
    :raises Halted: this site must not change anything in etcd
    :raises PieholeError: the group cannot promise so much now, or has no such branch
    :raises EtcdError: etcd could not be used
    """
    if name not in SETTINGS:
        raise UsageError(f"a group has no setting {name!r}. Its settings: {', '.join(SETTINGS)}.")
    wanted = _value(name, value)
    state = replica.reader.list_group(deadline)
    fields = _fields(state, name)
    _refuse_halted(replica, state, fields)
    if name == SET_HEAD:
        return _judge_head(replica, state, value)
    # Any other field that is of a newer version is refused here.
    record = GroupRecord.parse(dump({**fields, name: wanted}))
    before = _known(state)
    sites = read_sites(replica, deadline)
    counted = promise.members(sites.sites)
    compares = [_unchanged(replica, state)]
    if _strengthens(before, record, counted):
        _refuse_too_many(record, counted)
        compares += _already_copied(replica, state, sites, record)
    if record.copies != 1:
        k, group = replica.keyspace, replica.config.group
        compares.append(Compare(k.sites(group), prefix_end(k.sites(group)), "<", sites.revision + 1))
    key = replica.keyspace.group(replica.config.group)
    return SettingChange(
        name,
        _shown(_raw_value(state, name)),
        _shown(wanted),
        _weakens(before, record, counted),
        tuple(compares),
        Put(key, record.dump()),
    )


def carry_out(replica: Replica, change: SettingChange, pusher: str, deadline: Deadline) -> bool:
    """Write the change; return False if something it was judged on has changed meanwhile.

    :raises EtcdError: etcd could not be used
    """
    record = PushRecord.create(replica.config.site, "settings", pusher)
    told = Put(replica.keyspace.ref(replica.config.group, change.tells), record.dump())
    return replica.etcd.txn(list(change.compares), [change.put, told], deadline=deadline).succeeded


def _value(name: str, text: str) -> Any:
    """The value of a setting as its record has it.

    :raises UsageError: the setting cannot have this value
    """
    if name == COPIES and (text in ("majority", "all") or re.fullmatch(r"[1-9][0-9]{0,8}", text)):
        return text if text in ("majority", "all") else int(text)
    if name == COPIES:
        raise UsageError(f"copies cannot be {text!r}. Give a number of sites, such as 2, or 'majority', or 'all'.")
    if name == COPIES_ELSE and text not in ("refuse", "warn"):
        raise UsageError(f"copiesElse cannot be {text!r}. Give 'refuse' or 'warn'.")
    if name == SET_HEAD and not (text.startswith(_BRANCHES) and is_ref_name(text)):
        raise UsageError(f"{text!r} is not the full name of a branch, such as refs/heads/trunk.")
    return text


def _fields(state: GroupState, name: str) -> Mapping[str, Any]:
    """The fields of the group's record without the one that is set, which may hold what this version does not know.

    :raises RecordError: it is no record, or of a newer format
    """
    fields = parse_record(_RECORD, state.group.value) if state.group else {}
    return {field: value for field, value in fields.items() if field != name}


def _refuse_halted(replica: Replica, state: GroupState, fields: Mapping[str, Any]) -> None:
    """
    :raises Halted: this site must not change anything in etcd
    """
    group = state.group._replace(value=dump(fields)) if state.group else None
    why = halted(replica, replace(state, group=group))
    if why is not None:
        raise why


def _known(state: GroupState) -> GroupRecord | None:
    """The record as it is; None where this version does not know what it promises."""
    try:
        return GroupRecord.parse(state.group.value) if state.group else None
    except RecordError:
        return None


def _raw_value(state: GroupState, name: str) -> Any:
    fields = parse_record(_RECORD, state.group.value) if state.group else {}
    return fields.get(name, 1 if name == COPIES else "refuse")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _unchanged(replica: Replica, state: GroupState) -> Compare:
    mod = state.group.mod_revision if state.group else 0
    return Compare(replica.keyspace.group(replica.config.group), mod_revision=mod)


def _strengthens(before: GroupRecord | None, after: GroupRecord, counted: Mapping[str, str]) -> bool:
    """Whether commits that the group has already may be at fewer sites than it promises from now on."""
    needed = promise.needed(after, counted)
    if needed == 1:
        return False
    return before is None or needed > promise.needed(before, counted) or (before.warns and not after.warns)


def _weakens(before: GroupRecord | None, after: GroupRecord, counted: Mapping[str, str]) -> bool:
    """Whether less is promised than before, now or once the group has other sites."""
    if before is None or (after.warns and not before.warns):
        return True
    fewer = promise.needed(after, counted) - promise.needed(before, counted)
    follows = before.copies in ("majority", "all") and after.copies not in (before.copies, "all")
    return fewer < 0 or (follows and fewer == 0)


def _refuse_too_many(record: GroupRecord, counted: Mapping[str, str]) -> None:
    if promise.needed(record, counted) > len(counted):
        raise PieholeError(
            f"nothing was changed: the group has {_count(len(counted))} ({', '.join(counted)}), so it cannot promise {record.copies} copies. "
            "Install more sites first (`piehole install`), or promise fewer."
        )


def _already_copied(replica: Replica, state: GroupState, sites: GroupSites, record: GroupRecord) -> list[Compare]:
    """Compares that hold as long as enough sites have every value that the group has now.

    :raises PieholeError: too few sites are known to have them
    """
    k, group = replica.keyspace, replica.config.group
    newest = max(ref_revisions(state).values(), default=0)
    needed = promise.needed(record, promise.members(sites.sites))
    reasons = {one.site: _lacking(one, newest) for one in sites.sites if not one.left}
    sound = [site for site, why in reasons.items() if not why]
    if len(sound) < needed:
        behind = "; ".join(f"{site}: {why}" for site, why in reasons.items() if why)
        have = f"only {', '.join(sound)} {'has' if len(sound) == 1 else 'have'}" if sound else "no site has"
        raise PieholeError(
            f"nothing was changed: {_count(needed)} must have published that they have every commit of the group, and {have} ({behind}). "
            "`piehole status --wait 60` waits until all have; then run this again."
        )
    # A push in between, which fewer sites may have, changes a key of the first range.
    refs = k.group_refs(group)
    unmoved = [Compare(refs, prefix_end(refs), "<", state.revision + 1)]
    return unmoved + [
        Compare(k.progress(group, site), k.progress(group, site) + b"\0", "<", sites.revision + 1) for site in sound
    ]


def _lacking(one: GroupSite, newest: int) -> str:
    """Why this site is not known to have everything of the group, ``""`` where it is."""
    if one.fault:
        return f"its records cannot be used: {one.fault}"
    if one.corrupt:
        return f"corrupt: {one.corrupt}"
    if one.progress is None:
        return "never seen"
    if one.revision < newest:
        return f"behind, at revision {one.revision} of {newest}" if one.revision else "joining"
    return ""


def _count(sites: int) -> str:
    return "1 site" if sites == 1 else f"{sites} sites"


def _judge_head(replica: Replica, state: GroupState, branch: str) -> SettingChange:
    k, config = replica.keyspace, replica.config
    if not (is_managed(branch, config.exclude) and _is_there(state, branch, config.object_format)):
        have = sorted(name for name in state.entries if name.startswith(_BRANCHES))
        have = [name for name in have if _is_there(state, name, config.object_format)]
        shown = (
            f"Its branches: {', '.join(have[:_SHOWN])}{' …' if len(have) > _SHOWN else ''}." if have else "It has none."
        )
        raise PieholeError(f"nothing was changed: the group has no branch {branch}. {shown} Push the branch first.")
    compares = [Compare(k.ref(config.group, name), mod_revision=state.mod(name)) for name in (HEAD, branch)]
    put = Put(k.ref(config.group, HEAD), encode(f"ref: {branch}"))
    before = _head(state)
    return SettingChange(SET_HEAD, before, branch, False, (_unchanged(replica, state), *compares), put, keys.PUSH)


def _is_there(state: GroupState, name: str, object_format: str) -> bool:
    kv = state.entries.get(name)
    return live(kv) and kv is not None and is_oid(decode(kv.value).removesuffix("\n"), object_format)


def _head(state: GroupState) -> str:
    """The branch that HEAD names, or what else its key holds; ``""`` where the group has none."""
    return decode(state.value(HEAD) or b"").removesuffix("\n").removeprefix("ref: ")
