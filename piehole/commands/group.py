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

from piehole.commands import raise_copies
from piehole.commands.raise_copies import count
from piehole.deadline import Deadline
from piehole.errors import WENT_BACK, Halted, PieholeError, UsageError
from piehole.etcd.model import Compare, Put, prefix_end
from piehole.group import alive, keys, promise, ref_names, rollback_guard
from piehole.group.group_state import GroupState, live
from piehole.group.outlook import CopiesOutlook, outlook
from piehole.group.records import COPIES_FORMAT, GroupRecord, PushRecord, RecordError, dump, parse_record
from piehole.group.replica import Replica
from piehole.group.sites import GroupSites, read_sites, ref_revisions
from piehole.refs import HEAD, decode, encode, is_managed, is_oid
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
    with it so that the other sites look. ``waits``: it is the first of two steps (:mod:`piehole.commands.raise_copies`); ``interrupted``:
    an earlier change was not completed.
    """

    name: str
    before: str
    after: str
    weakens: bool
    compares: tuple[Compare, ...]
    put: Put
    tells: str = keys.FENCE
    waits: bool = False
    interrupted: bool = False

    @property
    def needed(self) -> bool:
        return self.before != self.after or self.interrupted


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
    fields = parse_record(_RECORD, state.group.value, COPIES_FORMAT) if state.group else {}
    former = raise_copies.former(fields)
    why = _halted(replica, state, {field: kept for field, kept in former.items() if field != name})
    if why is not None and (why.token != WENT_BACK or name == SET_HEAD):
        raise why
    if name == SET_HEAD:
        return _judge_head(replica, state, value)
    # Any other field that is of a newer version is refused here.
    record = GroupRecord.parse(dump({**former, name: wanted}))
    before = _known(former)
    sites = read_sites(replica, deadline)
    counted = promise.members(sites.sites)
    weakens = _weakens(before, record, counted)
    if why is not None and not weakens:  # what ends such a halt may need a lower promise
        raise why
    compares = [_unchanged(replica, state)]
    waits = False
    if _strengthens(before, record, counted):
        _refuse_too_many(record, counted)
        newest = max(ref_revisions(state).values(), default=0)
        enough = raise_copies.enough(replica, record, sites, newest)
        waits = not enough and _will_come(replica, record, sites, newest, deadline)
        if not (enough or waits):
            raise raise_copies.too_few(record, sites.sites, newest)
        # A push in between, which fewer sites may have, changes a key of this range.
        refs = replica.keyspace.group_refs(replica.config.group)
        compares += enough and [*enough, Compare(refs, prefix_end(refs), "<", state.revision + 1)]
        record = raise_copies.begun(record, former) if waits else record
    if record.promises_copies:
        compares.append(raise_copies.same_sites(replica, sites))
    default: Any = 1 if name == COPIES else "refuse"
    return SettingChange(
        name,
        _shown(former.get(name, default)),
        _shown(wanted),
        weakens,
        tuple(compares),
        Put(replica.keyspace.group(replica.config.group), record.dump()),
        waits=waits,
        interrupted=former is not fields,
    )


def carry_out(replica: Replica, change: SettingChange, pusher: str, deadline: Deadline) -> int:
    """Write the change; return the revision, or 0 if something it was judged on has changed meanwhile.

    :raises EtcdError: etcd could not be used
    """
    record = PushRecord.create(replica.config.site, "settings", pusher)
    told = Put(replica.keyspace.ref(replica.config.group, change.tells), record.dump())
    result = replica.etcd.txn(list(change.compares), [change.put, told], deadline=deadline)
    return result.revision if result.succeeded else 0


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
    if name == SET_HEAD and (text == HEAD or (not text.startswith(_BRANCHES) and text.startswith("refs/"))):
        raise UsageError(f"{text!r} is not the name of a branch, such as trunk or refs/heads/trunk.")
    return text


def _halted(replica: Replica, state: GroupState, fields: Mapping[str, Any]) -> Halted | None:
    """Why this site must not move, judged with these fields of the group's record."""
    group = state.group._replace(value=dump(fields)) if state.group else None
    return halted(replica, replace(state, group=group))


def _known(fields: Mapping[str, Any]) -> GroupRecord | None:
    """The record as it is; None where this version does not know what it promises."""
    try:
        return GroupRecord.parse(dump(fields))
    except RecordError:
        return None


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
            f"nothing was changed: the group has {count(len(counted))} ({', '.join(counted)}), so it cannot promise {record.copies} copies. "
            "Install more sites first (`piehole install`), or promise fewer."
        )


def _will_come(replica: Replica, record: GroupRecord, sites: GroupSites, newest: int, deadline: Deadline) -> bool:
    """Whether enough sites have everything, or lack only what their controllers are fetching."""
    heard = alive.heard(replica, sites.sites, deadline) or {}
    able = outlook(record, sites.sites, heard).able
    coming = {
        one.site for one in sites.sites if one.site in able or not (one.left or raise_copies.lacking(one, newest))
    }
    return len(coming) >= promise.needed(record, promise.members(sites.sites))


def _judge_head(replica: Replica, state: GroupState, branch: str) -> SettingChange:
    k, config = replica.keyspace, replica.config
    have = sorted(name for name in state.entries if name.startswith(_BRANCHES) and is_managed(name, config.exclude))
    have = [name for name in have if _is_there(state, name, config.object_format)]
    ref_names.check_name(branch)
    named = ref_names.the_one(branch, [name for name in ref_names.candidates(branch) if name in have])
    if not named:
        shown = (
            f"Its branches: {', '.join(have[:_SHOWN])}{' …' if len(have) > _SHOWN else ''}." if have else "It has none."
        )
        raise PieholeError(
            f"nothing was changed: the group has no branch {branch}. {shown} Push the branch first.{ref_names.suggestion(branch, have)}"
        )
    branch = named
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
