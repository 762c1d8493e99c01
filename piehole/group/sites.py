"""The sites of a group: their records in etcd, and how far each has replicated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from piehole.deadline import Deadline
from piehole.errors import Compacted
from piehole.etcd.model import KeyValue, Range, Snapshot, TxnResult, prefix_end
from piehole.group import keys
from piehole.group.group_state import GroupState
from piehole.group.limits import SiteLimits
from piehole.group.records import Progress, PushRecord, RecordError, SiteRecord
from piehole.group.replica import Replica


@dataclass(frozen=True, slots=True)
class GroupSite:
    """One site. ``fault`` says why a record of it cannot be used; such a site counts as never seen.

    ``replaced``: when another machine took over this name, ``""`` where none did. ``limits``: of the names that its disk can hold.
    """

    site: str
    id: str = ""
    url: str = ""
    left: bool = False
    progress: Progress | None = None
    fault: str = ""
    replaced: str = ""
    limits: SiteLimits = field(default_factory=SiteLimits)

    @property
    def revision(self) -> int:
        """The revision up to which the site has replicated; -1 where it never published one."""
        return self.progress.revision if self.progress else -1

    @property
    def corrupt(self) -> str:
        """What is corrupt at the site, ``""`` where nothing is known to be."""
        return self.progress.corrupt if self.progress else ""


def list_sites(replica: Replica, deadline: Deadline) -> list[GroupSite]:
    """All sites of the group, those that left included, in order of their names; read at one revision.

    :raises EtcdError: etcd could not be used
    """
    return read_sites(replica, deadline).sites


@dataclass(frozen=True, slots=True)
class GroupSites:
    """Some or all sites of a group, as of ``revision``. ``cut``: the group has more sites. ``more``: what the other ranges hold."""

    sites: list[GroupSite]
    revision: int
    cut: bool
    more: list[Snapshot]


def read_sites(replica: Replica, deadline: Deadline, *more: Range, limit: int = 0) -> GroupSites:
    """Read the sites of the group, in order of their names, and the ranges in ``more``, at one revision and in one round trip.

    :param limit: the number of sites and of progress records to read, the first by name; 0: all
    :raises EtcdError: etcd could not be used
    """
    return parse_sites(replica, replica.etcd.txn([], [*site_ranges(replica, limit), *more], deadline=deadline))


def site_ranges(replica: Replica, limit: int = 0) -> list[Range]:
    """What a transaction reads for :func:`parse_sites`; other ranges may follow."""
    k, group = replica.keyspace, replica.config.group
    return [Range(prefix, prefix_end(prefix), limit=limit) for prefix in (k.sites(group), k.all_progress(group))]


def parse_sites(replica: Replica, result: TxnResult) -> GroupSites:
    """The sites in the answer to a transaction that read :func:`site_ranges`."""
    records, progress, *others = result.ranges
    return GroupSites(_sites(replica, records.kvs, progress.kvs), result.revision, records.more, others)


def find_site(replica: Replica, site: str, deadline: Deadline) -> list[GroupSite]:
    """The site of this name, in a list; an empty list where the group has no such site.

    :raises EtcdError: etcd could not be used
    """
    k, group = replica.keyspace, replica.config.group
    ranges = [Range(k.site(group, site)), Range(k.progress(group, site))]
    record, progress = replica.etcd.txn([], ranges, deadline=deadline).ranges
    return _sites(replica, record.kvs, progress.kvs)


def _sites(replica: Replica, records: Sequence[KeyValue], progress: Sequence[KeyValue]) -> list[GroupSite]:
    k, group = replica.keyspace, replica.config.group
    said = {k.split_site(k.all_progress(group), kv.key): kv.value for kv in progress}
    named = [(k.split_site(k.sites(group), kv.key), kv.value) for kv in records]
    return [parse_site(name, record, said.get(name)) for name, record in named if name is not None]


def parse_site(name: str, record: bytes, progress: bytes | None) -> GroupSite:
    """The site of this name, from its record and its progress record."""
    try:
        site = SiteRecord.parse(record)
    except RecordError as error:
        return GroupSite(name, fault=str(error))
    try:
        seen = Progress.parse(progress) if progress is not None else None
    except RecordError as error:
        return GroupSite(name, site.id, site.url, site.left, fault=str(error), replaced=site.replaced)
    limits = SiteLimits.parse(site.extra)
    return GroupSite(name, site.id, site.url, site.left, seen, replaced=site.replaced, limits=limits)


def ref_revisions(state: GroupState) -> dict[str, int]:
    """The mod_revision of every ref of the group and of HEAD. A site's progress is compared with them."""
    return {name: kv.mod_revision for name, kv in state.entries.items() if name not in (keys.PUSH, keys.FENCE)}


def push_if_known(replica: Replica, revision: int, deadline: Deadline) -> PushRecord | None:
    """Read which push made the change at this revision; None where the change was made by hand, or the history is compacted.

    :raises EtcdError: etcd could not be used
    """
    try:
        return replica.reader.push_at(revision, deadline)
    except Compacted:
        return None


def is_ours(replica: Replica, everybody: Sequence[GroupSite]) -> bool:
    """Whether the record under this site's name belongs to this repository, not to another machine."""
    return any(one.site == replica.config.site and one.id == replica.config.site_id for one in everybody)
