"""What the swap of a push compares, so that etcd itself makes sure that enough other sites hold what it brings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from piehole.deadline import Deadline
from piehole.errors import COPIES
from piehole.etcd.leases import SharedLease
from piehole.etcd.model import Compare, KeyValue
from piehole.push import request_keys
from piehole.push.copy_answers import Answers
from piehole.push.copy_reading import CopyReader, Reading
from piehole.push.held_elsewhere import HeldElsewhere, Wanted
from piehole.push.request_keys import Request
from piehole.push.rules import Refuse
from piehole.push.swap import HeldCopies

_Found = Mapping[str, tuple[Compare, ...] | None]  # for each oid what is compared; None: too few sites hold it


class CopyProof:
    """Asks nobody for anything: git holds its locks meanwhile."""

    def __init__(self, reader: CopyReader, answers: Answers, elsewhere: HeldElsewhere, lease: SharedLease) -> None:
        self._reader = reader
        self._answers = answers
        self._elsewhere = elsewhere
        self._lease = lease

    def confirm(
        self, push_id: str, wanted: Wanted, since: int, deadline: Deadline, *, sure: bool, more: bool
    ) -> HeldCopies | Refuse:
        """What the swap of these objects compares.

        :param since: the newer one of ``@fence`` and the group's record, whose mod_revisions the swap compares: after it no site has joined
            or left, and the promise has not changed
        :param sure: what a view shows was not true any more
        :param more: other swaps of this push may follow
        :raises EtcdError: etcd was needed and could not be used
        """
        known = None if sure else self._reader.last
        reading = known if known is not None and known.revision >= since else None
        if reading is not None:
            kvs = self._answers.look(push_id, deadline).kvs
            found = self.find(wanted, kvs, reading)
        if reading is None or None in found.values():
            reading = self._reader.read(push_id, deadline)
            found = self.find(wanted, reading.kvs, reading)
            lacking = {oid: wanted[oid] for oid, compares in found.items() if compares is None}
            examined = self._elsewhere.examine(push_id, lacking, deadline) if lacking else None
            if examined is not None:
                reading = examined
                found = self.find(wanted, reading.kvs, reading)
            kvs = reading.kvs
        requests = self._reader.requests(kvs, reading)
        warning = self._objection(found, requests, reading)
        if isinstance(warning, Refuse):
            return warning
        if more:
            for lease in {one.lease for one in requests if one.lease}:
                self._lease.prolong(lease, deadline)
        removals = (self._reader.keys.removal(push_id),) if requests and not more else ()
        some = {oid: request_keys.some(requests, oid) if one is None else one for oid, one in found.items()}
        return HeldCopies(tuple(dict.fromkeys(compare for one in some.values() for compare in one)), removals, warning)

    def read(self, push_id: str, oids: Collection[str], deadline: Deadline) -> _Found:
        """What is compared for each of these objects, from a linearizable read.

        :raises EtcdError: etcd could not be used
        """
        reading = self._reader.read(push_id, deadline)
        return self.find(oids, reading.kvs, reading)

    def find(self, oids: Collection[str], kvs: Sequence[KeyValue], reading: Reading) -> _Found:
        """What is compared for each of these objects."""
        requests = self._reader.requests(kvs, reading)
        asked = {oid: [request for request in requests if oid in request.oids] for oid in oids}
        members, others = reading.members, reading.others
        return {oid: request_keys.compares(asked[oid], self._elsewhere.holders(oid, members), others) for oid in oids}

    def _objection(self, found: _Found, requests: Collection[Request], reading: Reading) -> str | Refuse:
        """The refusal, or the warning; ``""`` where enough sites hold everything, or the pusher was warned when these were asked."""
        lacking = [oid for oid, compares in found.items() if compares is None]
        if not lacking or reading.record is None:
            return ""
        sentence = (
            f"the group promises {reading.record.copies} copies, and {reading.others + 1} sites are not confirmed to hold {lacking[0]}: the "
            "promise or the sites have changed meanwhile, or it took too long"
        )
        if not reading.record.warns:
            return Refuse(COPIES, f"{sentence}; nothing changed, push again")
        if all(any(oid in one.oids for one in requests) for oid in lacking):
            return ""
        return f"{sentence}. It goes on all the same (copiesElse = warn)"
