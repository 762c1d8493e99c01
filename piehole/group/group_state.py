"""The state of a group: what etcd holds of it at one revision, from the controller's cached view or from a linearizable read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import SMALLEST_TXN, KeyValue, Range, Snapshot
from piehole.group import keys
from piehole.group.keys import Keyspace
from piehole.group.records import PushRecord
from piehole.refs import Command, parents


def live(kv: KeyValue | None) -> bool:
    """Whether a ref's key holds a value other than a tombstone."""
    return kv is not None and bool(kv.value.strip(b"0\n"))


@dataclass(frozen=True)
class GroupState:
    """The keys of one group at ``revision``; ``entries`` maps names (``refs/…``, ``HEAD``, ``@push``, ``@fence``) to them.

    ``entries`` may be partial: it then holds all keys that a decision about the requested refs needs. With ``from_view`` the state
    is the controller's cached view, which may lag and has no ``progress``; otherwise it is a linearizable read.
    """

    revision: int
    entries: Mapping[str, KeyValue]
    group: KeyValue | None
    progress: KeyValue | None = None
    site: KeyValue | None = None
    from_view: bool = False

    def mod(self, name: str) -> int:
        """The mod_revision of a name, 0 where its key is absent, as etcd compares it."""
        kv = self.entries.get(name)
        return 0 if kv is None else kv.mod_revision

    def value(self, name: str) -> bytes | None:
        kv = self.entries.get(name)
        return None if kv is None else kv.value

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.entries)

    def conflict(self, ref: str) -> str | None:
        """A live ref that excludes ``ref`` (directory/file conflict): its name is a parent of ``ref``, or below ``ref``."""
        for name in parents(ref):
            if live(self.entries.get(name)):
                return name
        below = f"{ref}/"
        for name in self._names[bisect_left(self._names, below) :]:
            if not name.startswith(below):
                break
            if live(self.entries[name]):
                return name
        return None


@dataclass(frozen=True)
class StateQuery:
    """The keys that a decision about some commands needs; :meth:`answer` makes a state of what etcd returns.

    etcd limits a transaction to ``--max-txn-ops`` operations, so a query for many refs does not fit (:attr:`fits`); then the
    whole group is listed.
    """

    keyspace: Keyspace
    group: str
    site: str
    commands: Sequence[Command]
    _fixed: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        k = self.keyspace
        fixed = (k.group(self.group), k.progress(self.group, self.site), k.site(self.group, self.site))
        object.__setattr__(self, "_fixed", fixed)

    @cached_property
    def ranges(self) -> list[Range]:
        k, group = self.keyspace, self.group
        ranges = [Range(key) for key in self._fixed]
        singles = {keys.PUSH, keys.FENCE}
        for command in self.commands:
            key = k.ref(group, command.ref)
            if command.creates:
                # [REF, REF0) holds the ref and all names below it ('0' follows '/'), and few others.
                ranges.append(Range(key, key + b"0"))
                singles.update(parents(command.ref))
            else:
                singles.add(command.ref)
        return ranges + [Range(k.ref(group, name)) for name in sorted(singles)]

    @property
    def fits(self) -> bool:
        return len(self.ranges) <= SMALLEST_TXN

    def fixed(self) -> list[Range]:
        return [Range(key) for key in self._fixed]

    def answer(self, revision: int, snapshots: Sequence[Snapshot]) -> GroupState:
        """Make the state from the results of :attr:`ranges` (or of :meth:`fixed` and a listing of the whole group)."""
        found = {kv.key: kv for snapshot in snapshots for kv in snapshot.kvs}
        group, progress, site = (found.get(key) for key in self._fixed)
        start = self.keyspace.group_refs(self.group)
        entries = {name: kv for key, kv in found.items() if (name := keys.name_below(start, key)) is not None}
        return GroupState(revision, entries, group, progress, site)


class GroupReader:
    """Reads the state of one group from etcd, as one of its sites sees it."""

    def __init__(self, etcd: Etcd, keyspace: Keyspace, group: str, site: str) -> None:
        self._etcd = etcd
        self._keyspace = keyspace
        self._group = group
        self._site = site

    def read(self, commands: Sequence[Command], deadline: Deadline) -> GroupState:
        """Read the keys that a decision about these commands needs, in one linearizable read.

        :raises EtcdError: etcd gave no answer, or refused
        """
        query = self._query(commands)
        if query.fits:
            result = self._etcd.txn([], query.ranges, deadline=deadline)
            return query.answer(result.revision, result.ranges)
        return self.list_group(deadline)

    def list_group(self, deadline: Deadline) -> GroupState:
        """Read every key of the group, linearizably and at one revision.

        :raises EtcdError: etcd gave no answer, or refused
        """
        query = self._query(())
        listing = self._etcd.list_prefix(self._keyspace.group_refs(self._group), deadline=deadline)
        # The records are read after the listing: a group record that is newer than the refs only makes a swap fail.
        result = self._etcd.txn([], query.fixed(), deadline=deadline)
        return query.answer(listing.revision, [*result.ranges, listing])

    def push_at(self, revision: int, deadline: Deadline) -> PushRecord | None:
        """Read which push made the change at this revision; None where the change was made by hand.

        :raises Compacted: etcd no longer has the history
        :raises EtcdError: etcd gave no answer, or refused
        """
        found = self._etcd.range(self._keyspace.ref(self._group, keys.PUSH), revision=revision, deadline=deadline).kvs
        return PushRecord.of(found[0] if found else None, revision)

    def _query(self, commands: Sequence[Command]) -> StateQuery:
        return StateQuery(self._keyspace, self._group, self._site, commands)
