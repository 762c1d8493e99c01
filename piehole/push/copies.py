"""Copies before the answer: the other sites hold what a push brings, before its swap is sent.

A site asks with a key below ``@copies``, and the others answer with keys of their own (docs/development/architecture.md,
"Keys"). :meth:`CopyCollector.hold` asks and waits, before git takes a lock. Under the locks :class:`CopyProof` says what the
swap compares: the answers themselves, so etcd makes sure that none of them was taken back, nor has ended with its lease. What
is known between the two is in etcd: another process may go on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import COPIES, EtcdError, EtcdRefused, PieholeError
from piehole.etcd.leases import SharedLease
from piehole.etcd.model import Compare, Delete, KeyValue, Operation, Put, TxnResult
from piehole.fastpath.failpoints import Step, reached
from piehole.group import keys
from piehole.group.promise import CopiesRequest
from piehole.group.records import GroupRecord, now
from piehole.group.replica import Replica
from piehole.push import request_keys
from piehole.push.copy_answers import Answers, PolledAnswers
from piehole.push.copy_proof import CopyProof
from piehole.push.copy_reading import CopyReader, Reading
from piehole.push.held_elsewhere import HeldElsewhere, Wanted
from piehole.push.missing_copies import Shortfall, missing
from piehole.push.rules import Refuse
from piehole.refs import Command, is_zero

_MARGIN: Final = 60.0  # seconds between the last answer and the swap
_SURE_EVERY: Final = 1.0  # seconds between two linearizable reads while answers are awaited: a watch may hang
_AWAITED_EVERY: Final = 0.5  # seconds between two looks whether the hook still waits
_AT_ONCE: Final = 20  # requests of one transaction, of at most 54 kB each
_KNOWN: Final = 10_000  # pushes
_BASES: Final = 16
_TIDY: Final = 2.0  # seconds for removing keys that a lease would remove as well


class CopyCollector:
    """Asks the other sites of one group for copies, for the pushes to one repository. Safe to use from many threads."""

    def __init__(self, replica: Replica, answers: Answers, lease: SharedLease) -> None:
        self._replica = replica
        self._answers = answers
        self._lease = lease
        self._reader = CopyReader(replica)
        self._keys = self._reader.keys
        self._elsewhere = HeldElsewhere(replica, self._reader, answers)
        self.proof = CopyProof(self._reader, answers, self._elsewhere, lease)
        self._lock = threading.Lock()
        self._asked: dict[str, None] = {}  # pushes whose keys may be in etcd

    @property
    def others(self) -> int | None:
        """How many other sites must hold an object; None where the sites were not read yet."""
        return self._reader.last.others if self._reader.last else None

    def foresee(self, oids: Collection[str]) -> None:
        """Prepare for a push of these objects, which git has not moved into the repository yet. Waits for nothing."""
        self._elsewhere.foresee(oids)
        if not self._lease.lasts(self._replica.config.copies_timeout + _MARGIN):
            threading.Thread(target=self._prepare, name="lease", daemon=True).start()

    def _prepare(self) -> None:
        try:
            self._lease.get(self._replica.config.copies_timeout + _MARGIN, Deadline(_TIDY))
        except EtcdError:
            pass  # whoever asks for copies will say so

    def note_holders(self, holders: Mapping[str, Mapping[str, str]]) -> None:
        """Note which sites hold an object for certain, each with its id."""
        self._elsewhere.note_holders(holders)

    def obtain(
        self, push_id: str, commands: Sequence[Command], deadline: Deadline, awaited: Callable[[], bool]
    ) -> str | Refuse:
        """Have enough other sites hold what these commands bring; returns the warning to the pusher, ``""`` where there is none.

        :param deadline: for etcd
        :param awaited: whether the hook still waits
        :raises EtcdError: etcd could not be used, and nothing changed
        """
        wanted: dict[str, list[str]] = {}
        for command in commands:
            if not command.deletes:
                wanted.setdefault(command.new, []).append(command.ref)
        bases = list(dict.fromkeys(command.old for command in commands if not is_zero(command.old)))
        patience = self._replica.config.copies_timeout
        short = self.hold(push_id, wanted, bases[:_BASES] or self._likely_base(), deadline, patience, awaited)
        if short is None:
            return ""
        return short.sentence if short.warns else Refuse(COPIES, short.sentence)

    def _likely_base(self) -> list[str]:
        repository = self._replica.repository
        found = repository.read_ref(repository.head() or "HEAD")
        return [] if is_zero(found) else [found]

    def hold(
        self,
        push_id: str,
        wanted: Wanted,
        bases: Sequence[str],
        deadline: Deadline,
        patience: float,
        awaited: Callable[[], bool] = lambda: True,
    ) -> Shortfall | None:
        """Have enough other sites hold these objects; None where they do. Where that is refused, the request is taken back."""
        oids = list(wanted)
        known = self._elsewhere.examine(push_id, self._elsewhere.unclear(wanted), deadline)
        if known is None and self._elsewhere.knows_some(oids):
            known = self._reader.read(push_id, deadline)
        if known is not None:
            oids = [oid for oid, compares in self.proof.find(oids, known.kvs, known).items() if compares is None]
        if not oids:
            return None
        reached(Step.COPIES_ASKING)
        names, reading = self._ask(push_id, oids, bases, deadline, patience)
        reached(Step.COPIES_ASKED)
        until = Deadline(patience)
        held_by, reading = self._wait(push_id, names, reading, until, deadline, awaited)
        short = None
        if len(held_by) < reading.others and reading.record is not None:
            waited = patience - until.remaining()
            short = missing(self._replica, reading.record, reading.sites.sites, held_by, waited, Deadline(_TIDY))
        if reading.others <= 0 or (short is not None and not short.warns):
            self._remove(self._keys.removals(names))
        reached(Step.COPIES_HELD)
        return short

    def _ask(
        self, push_id: str, oids: Sequence[str], bases: Sequence[str], deadline: Deadline, patience: float
    ) -> tuple[list[str], Reading]:
        """Ask, and read in the same transaction who could answer."""
        parts = request_keys.parts(oids)
        with self._lock:
            first = push_id not in self._asked
            self._asked[push_id] = None
            while len(self._asked) > _KNOWN:
                del self._asked[next(iter(self._asked))]
        names = request_keys.names(push_id, len(parts), first=first)
        for start in range(0, len(parts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            result = self._put(push_id, names[some], parts[some], bases, deadline, patience)
            if not result.succeeded:  # this push has asked before, by another process
                names[0] = request_keys.names(push_id, 1, first=False)[0]
                result = self._put(push_id, names[some], parts[some], bases, deadline, patience)
        return names, self._reader.parse(result)

    def _put(
        self,
        push_id: str,
        names: Sequence[str],
        parts: Sequence[tuple[str, ...]],
        bases: Sequence[str],
        deadline: Deadline,
        patience: float,
    ) -> TxnResult:
        reads = self._reader.ranges(push_id)
        compares = [Compare(self._keys.key(push_id))] if names[0] == push_id else []
        gone = 0
        while True:
            lease = self._lease.get(patience + _MARGIN, deadline, instead_of=gone)
            requests = [CopiesRequest(self._replica.config.site, part, now(), lease, tuple(bases)) for part in parts]
            puts: list[Operation] = [
                Put(self._keys.key(name), one.dump(), lease) for name, one in zip(names, requests, strict=True)
            ]
            try:
                return self._replica.etcd.txn(compares, [*puts, *reads], reads, deadline=deadline)
            except EtcdRefused as error:
                if error.status != 404 or gone:  # else the lease has ended
                    raise
                gone = lease

    def _wait(
        self,
        push_id: str,
        names: Collection[str],
        reading: Reading,
        until: Deadline,
        deadline: Deadline,
        awaited: Callable[[], bool],
    ) -> tuple[set[str], Reading]:
        """Wait until enough other sites have answered all of these requests; returns those that have, and the newest reading."""

        def answered(kvs: Sequence[KeyValue]) -> set[str]:
            found = {one.name: set(one.copies) for one in self._reader.requests(kvs, reading)}
            return set.intersection(*(found.get(name, set()) for name in names))

        held_by: set[str] = set()
        sure = monotonic() + _SURE_EVERY
        while len(reading.members) > reading.others > len(held_by) and not until.passed and awaited():
            seen = self._answers.look(push_id, deadline)
            held_by = answered(seen.kvs)
            if len(held_by) >= reading.others:
                break
            if seen.fence > reading.revision or monotonic() > sure:  # a site has joined or left, or the watch may hang
                reading, sure = self._reader.read(push_id, deadline), monotonic() + _SURE_EVERY
                held_by = answered(reading.kvs)
            else:
                self._answers.wait(seen, until.at_most(_AWAITED_EVERY))
        if len(held_by) < reading.others:
            reading = self._reader.read(push_id, deadline)
            held_by = answered(reading.kvs)
        return held_by, reading

    def removals(self, push_id: str) -> tuple[Delete, ...]:
        """The removal of all that this push has asked for."""
        with self._lock:
            return (self._keys.removal(push_id),) if push_id in self._asked else ()

    def done(self, push_id: str) -> None:
        """The swap has removed the keys of this push."""
        with self._lock:
            self._asked.pop(push_id, None)

    def end(self, push_id: str) -> None:
        """The push has ended, whatever has become of it: no swap of it may follow."""
        with self._lock:
            asked = push_id in self._asked
            self._asked.pop(push_id, None)
        if asked:
            self._remove([self._keys.removal(push_id)])

    def _remove(self, removals: Sequence[Delete]) -> None:
        try:
            self._replica.etcd.txn([], removals, deadline=Deadline(_TIDY))
        except EtcdError:
            pass  # they end with their lease


class TooFewCopies(PieholeError):
    """Fewer sites hold the objects than the group promises, and nothing has changed."""


@dataclass(frozen=True, slots=True)
class ObtainedCopies:
    """What a command compares that writes refs into the consensus, so that the group's promise is kept.

    ``guards``: for each of its transactions: the promise and the sites are the same. ``answers``: for those that write these oids;
    ``removals``: for the last one, of the request ``push_id``. ``warning``: for people, ``""`` where all is well.
    """

    guards: tuple[Compare, ...] = ()
    answers: Mapping[str, tuple[Compare, ...]] = field(default_factory=dict)
    removals: tuple[Delete, ...] = ()
    warning: str = ""
    push_id: str = ""


def obtain(
    replica: Replica,
    oids: Collection[str],
    deadline: Deadline,
    *,
    bases: Sequence[str] = (),
    holders: Mapping[str, Mapping[str, str]] | None = None,
) -> ObtainedCopies:
    """Have as many other sites hold these objects as the group promises, before a command writes refs that name them.

    :param deadline: for etcd
    :param bases: commits that the objects are likely built upon
    :param holders: for some objects, the sites that hold them for certain, each with its id
    :raises TooFewCopies: fewer sites answered in time, and the group's setting is to refuse
    :raises EtcdError: etcd could not be used
    """
    state = replica.reader.read((), deadline)
    wanted = list(dict.fromkeys(oid for oid in oids if not is_zero(oid)))
    if state.group is None or not GroupRecord.parse(state.group.value).promises_copies or not wanted:
        return ObtainedCopies()
    push_id = os.urandom(16).hex()
    copies = CopyCollector(replica, PolledAnswers(replica), SharedLease(replica.etcd))
    copies.note_holders(holders or {})
    short = copies.hold(push_id, dict.fromkeys(wanted, ()), bases[:_BASES], deadline, replica.config.copies_timeout)
    if short is not None and not short.warns:
        raise TooFewCopies(f"{COPIES}: {short.sentence}")
    k, group = replica.keyspace, replica.config.group
    # Whatever changes either of them after this makes the command's transactions fail; what was asked for was judged later.
    guards = (
        Compare(k.group(group), mod_revision=state.group.mod_revision),
        Compare(k.ref(group, keys.FENCE), mod_revision=state.mod(keys.FENCE)),
    )
    found = copies.proof.read(push_id, wanted, deadline)
    if short is None and None in found.values():
        raise TooFewCopies(
            f"{COPIES}: a site has taken back what it said at this very moment. Nothing changed; run the command again."
        )
    answers_found = {oid: compares or () for oid, compares in found.items()}
    return ObtainedCopies(guards, answers_found, copies.removals(push_id), short.sentence if short else "", push_id)
