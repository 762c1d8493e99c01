"""One linearizable read of all that copies depend on: the sites, the group's record, and the keys of one push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from piehole.deadline import Deadline
from piehole.etcd.model import KeyValue, Range, TxnResult
from piehole.group import promise
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.group.sites import GroupSites, parse_sites, site_ranges
from piehole.push.request_keys import Request, RequestKeys


@dataclass(frozen=True, slots=True)
class Reading:
    """``record``: of the group; None where it is gone. ``kvs``: the keys of one push. ``refs``: the mod_revisions of some refs."""

    sites: GroupSites
    record: GroupRecord | None
    kvs: Sequence[KeyValue]
    refs: Mapping[str, int]

    @property
    def revision(self) -> int:
        return self.sites.revision

    @property
    def members(self) -> dict[str, str]:
        return promise.members(self.sites.sites)

    @property
    def others(self) -> int:
        """How many other sites must hold an object."""
        return promise.needed(self.record, self.members) - 1 if self.record else 0


class CopyReader:
    """Reads for one site of a group. Safe to use from many threads."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.keys = RequestKeys(replica)
        self.last: Reading | None = None  # of any push

    def ranges(self, push_id: str) -> list[Range]:
        """What a transaction reads for :meth:`parse`."""
        group = self._replica.keyspace.group(self._replica.config.group)
        return [*site_ranges(self._replica), Range(group), self.keys.all_of(push_id)]

    def read(self, push_id: str, deadline: Deadline, names: Sequence[str] = ()) -> Reading:
        """
        :param names: of refs whose mod_revisions are read as well
        :raises EtcdError: etcd could not be used
        """
        k, group = self._replica.keyspace, self._replica.config.group
        refs = [Range(k.ref(group, name), keys_only=True) for name in names]
        return self.parse(self._replica.etcd.txn([], [*self.ranges(push_id), *refs], deadline=deadline), names)

    def parse(self, result: TxnResult, names: Sequence[str] = ()) -> Reading:
        """
        :raises RecordError: the group's record cannot be read
        """
        sites = parse_sites(self._replica, result)
        group, found, *refs = sites.more
        record = GroupRecord.parse(group.kvs[0].value) if group.kvs else None
        mods = {name: one.kvs[0].mod_revision if one.kvs else 0 for name, one in zip(names, refs, strict=True)}
        self.last = reading = Reading(sites, record, found.kvs, mods)
        return reading

    def requests(self, kvs: Sequence[KeyValue], reading: Reading) -> list[Request]:
        """The requests among these keys, with the answers that count."""
        return self.keys.parse(kvs, reading.members)
