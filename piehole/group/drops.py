"""Requests that every site removes an object for good, and what each site has answered: keys below ``@drop/`` in etcd.

The request for an object is ``@drop/OID``, the answer of a site is ``@drop/OID/SITE``. An answer counts for the request that it followed,
and only if it has the id of the site's present repository. Requests stay: a site that joins later, or comes back from a backup, follows
them as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.etcd.model import SMALLEST_TXN, Compare, Delete, KeyValue, Put, Range, prefix_end
from piehole.group import keys, records
from piehole.group.replica import Replica
from piehole.refs import decode, is_oid

DROPPED: Final = "dropped"
WAITING: Final = "waiting"  # the site goes on by itself
BLOCKED: Final = "blocked"  # somebody has to do something first
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of one object at one site. ``why``: what it waits for, what is in the way, or what could not be looked at."""

    result: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class DropAnswer:
    """What one site said last. ``id`` is that of its repository."""

    id: str
    time: str
    outcome: Outcome
    revision: int


@dataclass(frozen=True, slots=True)
class DropRequest:
    """One object that is to go, with the answers by site."""

    oid: str
    site: str
    pusher: str
    time: str
    revision: int
    answers: Mapping[str, DropAnswer] = field(default_factory=dict)

    def answer_of(self, site: str, site_id: str) -> Outcome | None:
        """What this site has answered to this request; None where it has not, or was another repository."""
        found = self.answers.get(site)
        return found.outcome if found is not None and found.id == site_id and found.revision > self.revision else None


def parse(entries: Mapping[str, KeyValue], object_format: str) -> dict[str, DropRequest]:
    """The requests among keys below ``@drop/``, by oid. What piehole has not written is left out.

    :param entries: by name in the group
    """
    answers: dict[str, dict[str, DropAnswer]] = {}
    asked: dict[str, tuple[dict[str, Any], int]] = {}
    for name, kv in entries.items():
        oid, _, site = name.removeprefix(f"{keys.DROP}/").partition("/")
        try:
            value = records.parse_record("a request to drop an object", kv.value)
        except PieholeError:
            continue
        if not is_oid(oid, object_format):
            continue
        if not site:
            asked[oid] = value, kv.mod_revision
        else:
            outcome = Outcome(str(value.get("result", "")), str(value.get("why", "")))
            answer = DropAnswer(str(value.get("id", "")), str(value.get("time", "")), outcome, kv.mod_revision)
            answers.setdefault(oid, {})[site] = answer
    return {
        oid: DropRequest(
            oid,
            str(value.get("site", "")),
            str(value.get("pusher", "")),
            str(value.get("time", "")),
            revision,
            answers.get(oid, {}),
        )
        for oid, (value, revision) in sorted(asked.items())
    }


def read(replica: Replica, deadline: Deadline) -> dict[str, DropRequest]:
    """All requests of the group, read linearizably. :raises EtcdError: etcd could not be used"""
    start = replica.keyspace.group_refs(replica.config.group)
    prefix = replica.keyspace.drops(replica.config.group)
    (found,) = replica.etcd.txn([], [Range(prefix, prefix_end(prefix))], deadline=deadline).ranges
    return parse({decode(kv.key[len(start) :]): kv for kv in found.kvs}, replica.config.object_format)


def ask(replica: Replica, oids: Sequence[str], pusher: str, deadline: Deadline) -> None:
    """Ask all sites to remove these objects. A request that is there already is made anew: all sites look again.

    :raises EtcdError: etcd could not be used
    """
    k, config = replica.keyspace, replica.config
    value = records.dump({"format": records.FORMAT, "site": config.site, "pusher": pusher, "time": records.now()})
    for start in range(0, len(oids), SMALLEST_TXN):
        puts = [Put(k.drop(config.group, oid), value) for oid in oids[start : start + SMALLEST_TXN]]
        replica.etcd.txn([], puts, deadline=deadline)


def answer(replica: Replica, request: DropRequest, outcome: Outcome, deadline: Deadline) -> None:
    """Say what has become of the object here, unless that was said already, or the request has changed meanwhile.

    :raises EtcdError: etcd could not be used
    """
    k, config = replica.keyspace, replica.config
    if request.answer_of(config.site, config.site_id) == outcome:
        return
    fields = {"id": config.site_id, "time": records.now(), "result": outcome.result, "why": outcome.why}
    value = records.dump({"format": records.FORMAT, **fields})
    guard = Compare(k.drop(config.group, request.oid), mod_revision=request.revision)
    replica.etcd.txn([guard], [Put(k.drop_answer(config.group, request.oid, config.site), value)], deadline=deadline)


def forget(replica: Replica, oid: str, deadline: Deadline) -> None:
    """Remove a request with its answers. :raises EtcdError: etcd could not be used"""
    key = replica.keyspace.drop(replica.config.group, oid)
    replica.etcd.txn([], [Delete(key), Delete(key + b"/", prefix_end(key + b"/"))], deadline=deadline)
