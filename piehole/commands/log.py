"""Who moved which ref, when and at which site: etcd's history joined with the push records and with this site's ref log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import EtcdUnreachable, PieholeError
from piehole.etcd.model import Event, KeyValue
from piehole.group import keys, ref_log, ref_names, rollback_guard
from piehole.group.records import PushRecord
from piehole.group.ref_log import LogEntry
from piehole.group.replica import Replica
from piehole.refs import HEAD, zero

PUSH = "push"
HAND = "by hand"
REAPED = "reaped"
FORGOTTEN = "forgotten"

_PATIENCE: Final = 5.0  # seconds to find out whether etcd answers at all
_LONG: Final = 60.0  # seconds for its history, which may be long


@dataclass(frozen=True, slots=True)
class LoggedMove:
    """One change of one ref. ``kind``: ``push``, or what else the push record says (``adopted``, ``clobber``); ``by hand`` without one;
    ``reaped`` where a tombstone's key went away; ``forgotten`` where the history that would tell was compacted."""

    entry: LogEntry
    kind: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self.entry), "kind": self.kind}


def merge(from_history: Iterable[LoggedMove], kept: Iterable[LogEntry]) -> list[LoggedMove]:
    """All changes, newest first, one for each (revision, ref). etcd's history wins; the ref log adds what etcd has compacted away."""
    found: dict[tuple[int, str], LoggedMove] = {}
    for entry in kept:
        found[entry.revision, entry.ref] = LoggedMove(entry, entry.kind or (PUSH if entry.site else HAND))
    for change in from_history:
        entry, before = change.entry, found.get((change.entry.revision, change.entry.ref))
        if before is not None and change.kind == FORGOTTEN:
            continue
        if before is not None and not entry.old:
            change = LoggedMove(LogEntry(**{**asdict(entry), "old": before.entry.old}), change.kind)
        found[entry.revision, entry.ref] = change
    return [found[place] for place in sorted(found, key=lambda place: (-place[0], place[1]))]


def known(replica: Replica) -> tuple[list[LoggedMove], PieholeError | None]:
    """All changes that etcd and the local log know of, newest first; and why etcd's part of it is missing or not to be relied upon.

    :raises OSError: the local log is there and cannot be read
    """
    wrong: PieholeError | None = None
    history: list[LoggedMove] = []
    kept = ref_log.read(replica.git_dir)  # read first, so that etcd's history reaches as far
    try:
        state = replica.reader.read([], Deadline(_PATIENCE))
        wrong = rollback_guard.check_group(replica.config, state.group.value if state.group else None)
        history = from_etcd(replica, Deadline(_LONG))
    except EtcdUnreachable as error:
        wrong = error
    return merge(history, kept), wrong


def from_etcd(replica: Replica, deadline: Deadline) -> list[LoggedMove]:
    """Every change since the last compaction, oldest first; before them, the last change of each ref that is older.

    :raises EtcdError: etcd could not be used
    """
    k, group = replica.keyspace, replica.config.group
    # Listed first: a change that is listed and not in the history, which is read then, is older than the history.
    now = replica.reader.list_group(deadline)
    changes = list(from_history(replica, replica.etcd.history(k.group_refs(group), deadline=deadline), {}))
    known = {(change.entry.revision, change.entry.ref) for change in changes}
    push = now.entries.get(keys.PUSH)
    older = [
        _change(name, kv, "", push, FORGOTTEN)
        for name, kv in now.entries.items()
        if name not in (keys.PUSH, keys.FENCE) and (kv.mod_revision, name) not in known
    ]
    return sorted(older, key=lambda change: change.entry.revision) + changes


def meant(replica: Replica, changes: Sequence[LoggedMove], text: str) -> str:
    """The full name of the ref that REF means: one that exists in the group or here, or one that is remembered.

    :raises UsageError: it cannot be a ref, or means several
    :raises PieholeError: nothing is known of such a ref
    """
    newest: dict[str, str] = {}
    for change in changes:
        newest.setdefault(change.entry.ref, change.entry.new)
    known = {HEAD, *(ref for ref, oid in newest.items() if oid.strip("0")), *replica.repository.observe().refs}
    return ref_names.full_name(text, known, newest, where="the group, this repository and the log have")


def from_history(replica: Replica, events: Iterable[Event], values: dict[str, str]) -> Iterator[LoggedMove]:
    """The changes in these events.

    :param values: of the refs before the events, where they are known; updated
    """
    none = zero(replica.config.object_format)
    for _, together in groupby(events, key=lambda event: event.kv.mod_revision):
        named: dict[str, Event] = {}
        for event in together:
            split = replica.keyspace.split_ref(event.kv.key)
            if split is not None and split[0] == replica.config.group and not split[1].startswith(keys.REQUESTS):
                named[split[1]] = event
        push = named.pop(keys.PUSH, None)
        fenced = named.pop(keys.FENCE, None) is not None
        for name, event in named.items():
            old = values.get(name, none if event.kv.version == 1 else "")
            if event.kind == "delete":
                change = _change(name, event.kv, old, None, REAPED if fenced else HAND)
            else:
                change = _change(name, event.kv, old, push.kv if push else None, HAND)
            # A key that is gone is no opinion, so what comes after it begins at nothing.
            values[name] = change.entry.new or none
            yield change


def _change(name: str, kv: KeyValue, old: str, push: KeyValue | None, otherwise: str) -> LoggedMove:
    """:param otherwise: the kind, where no push record has the change's revision"""
    new = ref_log.value_text(kv.value)
    record = PushRecord.of(push, kv.mod_revision)
    if record is None:
        return LoggedMove(LogEntry(kv.mod_revision, name, old, new, "", "", ""), otherwise)
    kind = str(record.extra.get("kind", PUSH))
    signed = (record.site, record.pusher, record.time)
    return LoggedMove(LogEntry(kv.mod_revision, name, old, new, *signed, push=record.id), kind)
