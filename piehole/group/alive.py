"""Signs of life: each controller says regularly that it lives, and every site can see how long another one has been silent.

A controller binds one key for each of its site names to a lease that ends in a year, and keeps that lease alive. That writes nothing to
etcd, and etcd's leader knows when it was: so no clocks are compared. After the leader has changed, a silence counts from that moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdRefused
from piehole.etcd import leases
from piehole.etcd.client import Etcd
from piehole.etcd.model import SMALLEST_TXN, Delete, KeyValue, Put, Range, prefix_end
from piehole.group.keys import Keyspace
from piehole.group.records import AliveRecord, RecordError
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite
from piehole.refs import decode, encode

EVERY: Final = 10.0  # seconds between two signs of life
SILENT_AFTER: Final = 45.0  # seconds without one; three may be late or lost
_LEASE: Final = 365 * 86400  # seconds; a site that was silent for longer counts as one that never gave a sign
_LOOK_EVERY: Final = 30  # signs until the keys are looked at again: somebody may have deleted one
_AT_ONCE: Final = 8
_LISTED: Final = 100  # controllers of one site name that are read


class Presence:
    """The signs of life of one controller in one etcd. For one thread.

    :param controller: a name of this controller that it has after a restart, too
    """

    def __init__(self, etcd: Etcd, keyspace: Keyspace, controller: str) -> None:
        self._etcd = etcd
        self._keyspace = keyspace
        self._controller = controller
        self._lease = 0
        self._said: dict[str, frozenset[str]] = {}
        self._signs = 0

    def give(self, serves: Mapping[str, Collection[str]], deadline: Deadline) -> None:
        """Give a sign of life.

        :param serves: the ids of the sites that are served, by the name of the site
        :raises EtcdError: etcd could not be used
        """
        if not serves and not self._said:
            return
        if self._signs % _LOOK_EVERY == 0:
            self._look(serves, deadline)
        self._signs += 1
        if not self._lease or not leases.keep_alive(self._etcd, self._lease, deadline):
            self._lease = leases.grant(self._etcd, _LEASE, deadline)
            self._said.clear()
        for site in serves.keys() | self._said.keys():
            ids = frozenset(serves.get(site, ()))
            if not ids:
                self._etcd.txn([], [Delete(self._keyspace.alive(site, self._controller))], deadline=deadline)
                self._said.pop(site, None)
            elif self._said.get(site) != ids:
                record = AliveRecord.create(self._lease, ids)
                put = Put(self._keyspace.alive(site, self._controller), record.dump(), self._lease)
                self._etcd.txn([], [put, *self._replaced(site, record, deadline)], deadline=deadline)
                self._said[site] = ids

    def _look(self, sites: Iterable[str], deadline: Deadline) -> None:
        """Go on with what this controller said before it was started again, or forget what it said where that is gone."""
        for site in sites:
            found = self._etcd.range(self._keyspace.alive(site, self._controller), deadline=deadline).kvs
            record = _parsed(found[0]) if found else None
            if record is None or self._lease not in (0, record.lease):
                self._said.pop(site, None)
            elif not self._lease:
                self._lease = record.lease

    def _replaced(self, site: str, record: AliveRecord, deadline: Deadline) -> list[Delete]:
        """What other controllers of this name have left, all of whose sites this one serves now."""
        own = self._keyspace.alive(site, self._controller)
        if record.serves is None:
            return []
        found = _controllers(self._etcd, self._keyspace, site, deadline)
        others = [(kv, _parsed(kv)) for kv in found if kv.key != own]
        return [
            Delete(kv.key) for kv, one in others if one is not None and one.serves is not None and one.ids <= record.ids
        ]


def heard(replica: Replica, sites: Collection[GroupSite], deadline: Deadline) -> dict[str, float] | None:
    """Seconds since the last sign of life of each site's controller; sites whose controllers give none (of older versions, too) are left out.

    None where this account may not read them.

    :raises EtcdError: etcd could not be used
    """
    etcd, keyspace = replica.etcd, replica.keyspace
    asked = [one for one in sites if not one.left and one.id]
    found: dict[str, list[int]] = {}
    for start in range(0, len(asked), SMALLEST_TXN):
        part = asked[start : start + SMALLEST_TXN]
        try:
            result = etcd.txn([], [_range(keyspace, one.site) for one in part], deadline=deadline)
        except EtcdRefused:  # this account may read the group alone
            return None
        for one, snapshot in zip(part, result.ranges, strict=True):
            records = [record for kv in snapshot.kvs if (record := _parsed(kv)) is not None]
            found[one.site] = [record.lease for record in records if record.includes(one.id)]
    silences = _silences(etcd, {lease for several in found.values() for lease in several}, deadline)
    known = {site: [silences[lease] for lease in several if lease in silences] for site, several in found.items()}
    return {site: min(several) for site, several in known.items() if several}


def listen(etcd: Etcd, keyspace: Keyspace, deadline: Deadline) -> dict[str, list[tuple[AliveRecord, float]]]:
    """The signs of life of the controllers of all sites, each with the seconds since it was given.

    :raises EtcdError: etcd could not be used
    """
    start = encode(f"{keyspace.prefix}/alive/")
    found = [(kv, _parsed(kv)) for kv in etcd.list_prefix(start, deadline=deadline).kvs]
    silences = _silences(etcd, {record.lease for _, record in found if record is not None}, deadline)
    heard: dict[str, list[tuple[AliveRecord, float]]] = {}
    for kv, record in found:
        if record is not None and record.lease in silences:
            heard.setdefault(decode(kv.key[len(start) :]).partition("/")[0], []).append(
                (record, silences[record.lease])
            )
    return heard


def _silences(etcd: Etcd, asked: Collection[int], deadline: Deadline) -> dict[int, float]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        seconds = pool.map(lambda lease: _silence(etcd, lease, deadline), asked)
        return {lease: one for lease, one in zip(asked, seconds, strict=True) if one is not None}


def _silence(etcd: Etcd, lease: int, deadline: Deadline) -> float | None:
    try:
        found = leases.look(etcd, lease, deadline)
    except EtcdRefused:  # another account's keys are bound to it
        return None
    # A new leader of etcd gives every lease some seconds more than its time.
    return float(_LEASE if found.remaining < 0 else max(0, found.granted - found.remaining))


def _controllers(etcd: Etcd, keyspace: Keyspace, site: str, deadline: Deadline) -> list[KeyValue]:
    wanted = _range(keyspace, site)
    return etcd.range(wanted.key, wanted.range_end, limit=wanted.limit, deadline=deadline).kvs


def _range(keyspace: Keyspace, site: str) -> Range:
    prefix = keyspace.all_alive(site)
    return Range(prefix, prefix_end(prefix), limit=_LISTED)


def _parsed(kv: KeyValue) -> AliveRecord | None:
    try:
        return AliveRecord.parse(kv.value)
    except RecordError:  # of a newer version, or not written by piehole
        return None
