"""Reaping: a tombstone's key is deleted when every registered site has passed it. Then no disk holds the ref any more.

A deleted key has mod_revision 0 again, as if it had never existed. So each reaping writes ``@fence``, which every swap compares:
a creation that was judged before the deletion cannot succeed after the reaping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from piehole.deadline import Deadline
from piehole.errors import EtcdRefused
from piehole.etcd.model import LARGEST_TXN, Compare, Delete, KeyValue, Put, prefix_end, smaller_txn
from piehole.fastpath.failpoints import Step, reached
from piehole.group import keys
from piehole.group.group_state import live
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, read_sites
from piehole.refs import is_ref_name, is_zero, value_of


def reap(replica: Replica, deadline: Deadline, entries: Mapping[str, KeyValue] | None = None) -> int:
    """Reap all tombstones that every site has passed; returns how many.

    Any site may do this at any time: each transaction compares all that the decision was based on, so at worst it does nothing.

    :param entries: the group's keys (names without the group), where the caller has them; they may be old
    :raises EtcdError: etcd could not be used; some may have been reaped
    """
    k, group = replica.keyspace, replica.config.group
    sites = read_sites(replica, deadline)
    passed = passed_by_all(sites.sites)
    if passed == 0:
        return 0
    if entries is None:
        entries = replica.reader.list_group(deadline).entries
    dead = tombstones(entries, replica.config.object_format, passed)
    # The transaction fails where a site registers after the sites were read.
    unchanged = Compare(k.sites(group), prefix_end(k.sites(group)), "<", sites.revision + 1)
    reaped = 0
    size = LARGEST_TXN
    while reaped < len(dead):
        batch = dead[reaped : reaped + size]
        try:
            if not _reap(replica, batch, unchanged, deadline):
                return reaped  # a key or a site changed meanwhile; the next run decides anew
        except EtcdRefused as error:
            size = smaller_txn(size, error)
            continue
        reaped += len(batch)
    return reaped


def passed_by_all(sites: Iterable[GroupSite]) -> int:
    """The revision that every registered site has reached; sites that left do not count. 0: reap nothing.

    It is 0 where a record cannot be read.
    """
    return max(0, min((one.revision for one in sites if not one.left), default=0))


def tombstones(entries: Mapping[str, KeyValue], object_format: str, passed: int) -> list[tuple[str, int]]:
    """The tombstones that have not changed since the revision ``passed``, each with its mod_revision."""
    return [
        (name, kv.mod_revision)
        for name, kv in entries.items()
        # (The cheapest test first: most keys hold an oid, and a group may have 100,000 of them.)
        if kv.mod_revision <= passed and not live(kv) and is_ref_name(name) and _is_tombstone(kv, object_format)
    ]


def _is_tombstone(kv: KeyValue, object_format: str) -> bool:
    try:
        return is_zero(value_of(kv.value, object_format) or "?")
    except ValueError:
        return False


def _reap(replica: Replica, batch: Sequence[tuple[str, int]], sites: Compare, deadline: Deadline) -> bool:
    k, group = replica.keyspace, replica.config.group
    fence = PushRecord.create(replica.config.site, "reaped")
    operations: Iterable[Put | Delete] = (
        *(Delete(k.ref(group, name)) for name, _ in batch),
        Put(k.ref(group, keys.FENCE), fence.dump()),
    )
    compares = [sites, *(Compare(k.ref(group, name), mod_revision=mod) for name, mod in batch)]
    reached(Step.REAPING)
    reaped = replica.etcd.txn(compares, list(operations), deadline=deadline).succeeded
    reached(Step.REAPED)
    return reaped
