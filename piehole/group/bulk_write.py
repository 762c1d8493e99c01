"""Writes many keys of a group to etcd, in as few transactions as etcd takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdRefused
from piehole.etcd.model import LARGEST_TXN, SMALLEST_TXN, Compare, Delete, Operation, Put, Range, TxnResult, smaller_txn
from piehole.group import keys
from piehole.group.group_state import GroupState, live
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.refs import HEAD, encode, is_managed, is_zero, parents

_BYTES: Final = 1_000_000  # in one transaction; etcd takes 1.5 MB by default (--max-request-bytes)


@dataclass(frozen=True, slots=True)
class KeyWrite:
    """The write of one key: the value that was read (None: absent) and its mod_revision, and the new value.

    ``guards``: what the transaction compares instead of the key's mod_revision (see :func:`guarded`).
    """

    name: str
    before: bytes | None
    mod_revision: int
    after: str
    guards: tuple[Compare, ...] = ()


def write(
    replica: Replica,
    changes: Sequence[KeyWrite],
    pusher: str,
    *,
    kind: str = "adopted",
    guards: Sequence[Compare] = (),
    patience: float = 60.0,
    whole: bool = False,
    push_id: str = "",
    last: Sequence[Delete] = (),
) -> list[KeyWrite]:
    """Write these keys in this order, each only if it is unchanged since it was read; return those that have changed.

    Each transaction carries a push record, so that the other sites know where the objects are.

    :param kind: the word that `piehole log` shows
    :param guards: compares of single keys that must hold as well; when one fails, nothing more is written
    :param patience: seconds to wait for etcd, for each transaction
    :param whole: where one key has changed, nothing of its transaction is written, nor what comes after it
    :param push_id: the id in these push records, if not one for each
    :param last: also done by the transaction that writes the last of the changes
    :raises EtcdError: etcd could not be used; earlier transactions stay written, and running it again continues
    """
    refused: list[KeyWrite] = []
    size = LARGEST_TXN
    start = 0
    most = len(changes)  # halved while a batch is refused, so that the key that has changed ends up alone
    doing("writing refs to etcd", 0, len(changes), "refs")
    while start < len(changes):
        batch = _batch(replica, changes, start, min(size - len(guards), most), size - len(guards))
        push = PushRecord.create(replica.config.site, kind, pusher)
        push = replace(push, id=push_id or push.id)
        also = last if start + len(batch) == len(changes) else ()
        try:
            result = _write_batch(replica, batch, push, guards, also, Deadline(patience))
        except EtcdRefused as error:
            size = smaller_txn(size, error)
            continue
        if not result.succeeded and (whole or not _hold(guards, result)):
            return [*refused, *changes[start:]]
        if not result.succeeded and len(batch) > 1:
            most = len(batch) // 2
            continue
        if not result.succeeded:
            refused += batch
        start += len(batch)
        most = min(most * 2, len(changes)) if result.succeeded else most
        doing("writing refs to etcd", start, len(changes), "refs")
    return refused


def parts(replica: Replica, changes: Sequence[KeyWrite], guards: int, deadline: Deadline) -> int:
    """In how many transactions :func:`write` will write these changes, with so many guards.

    :raises EtcdError: etcd could not be used
    """
    batches = _batches(replica, changes, LARGEST_TXN - guards)
    # The largest number of compares or puts: etcd is asked whether it takes so many, with compares that change nothing.
    compares = [
        len({guard.key for one in batch for guard in one.guards} | {one.name for one in batch}) for batch in batches
    ]
    wanted = max([len(batch) + 1 for batch in batches] + [count + guards for count in compares], default=0)
    if wanted <= SMALLEST_TXN:
        return len(batches)
    try:
        key = replica.keyspace.group(replica.config.group)
        replica.etcd.txn([Compare(key)] * wanted, [], deadline=deadline)
    except EtcdRefused as error:
        return len(_batches(replica, changes, smaller_txn(LARGEST_TXN, error) - guards))
    return len(batches)


def _batches(replica: Replica, changes: Sequence[KeyWrite], most: int) -> list[Sequence[KeyWrite]]:
    found: list[Sequence[KeyWrite]] = []
    start = 0
    while start < len(changes):
        found.append(_batch(replica, changes, start, most, most))
        start += len(found[-1])
    return found


def _batch(replica: Replica, changes: Sequence[KeyWrite], start: int, most: int, compares: int) -> Sequence[KeyWrite]:
    """The next changes that fit into one transaction: at most ``most``, with at most ``compares`` compares, and at least one."""
    names: set[bytes] = set()
    used = 0
    for end in range(start, min(start + most, len(changes))):
        change = changes[end]
        compared = [guard.key for guard in change.guards] or [encode(change.name)]
        names.update(compared)
        used += 2 * sum(map(len, compared)) + len(replica.keyspace.ref(replica.config.group, change.name)) + 120
        if end > start and (len(names) > compares or used > _BYTES):
            return changes[start:end]
    return changes[start : start + most]


def _write_batch(
    replica: Replica,
    batch: Sequence[KeyWrite],
    push: PushRecord,
    guards: Sequence[Compare],
    also: Sequence[Delete],
    deadline: Deadline,
) -> TxnResult:
    k, group = replica.keyspace, replica.config.group
    compares = dict.fromkeys(guards)
    for change in batch:
        compares.update(dict.fromkeys(change.guards))
        if not change.guards:
            compares[Compare(k.ref(group, change.name), mod_revision=change.mod_revision)] = None
    puts = [Put(k.ref(group, change.name), encode(change.after)) for change in batch]
    writes: list[Operation] = [*puts, Put(k.ref(group, keys.PUSH), push.dump()), *also]
    held = [Range(guard.key, keys_only=True) for guard in guards]
    return replica.etcd.txn(list(compares), writes, held, deadline=deadline)


def _hold(guards: Sequence[Compare], result: TxnResult) -> bool:
    """Whether all guards held when the transaction failed."""
    found = [snapshot.kvs[0].mod_revision if snapshot.kvs else 0 for snapshot in result.ranges]
    return found == [guard.mod_revision for guard in guards]


def guarded(replica: Replica, state: GroupState, changes: Sequence[KeyWrite]) -> list[KeyWrite]:
    """These changes in the order of their names, guarded as those of a push: a new ref must not conflict with another name.

    No key above or below its name may have changed since the state was read. (In this order the changes do not make each other
    fail: `main`, whose range of names holds `main-2`, is written first.)
    """
    k, group = replica.keyspace, replica.config.group
    found: list[KeyWrite] = []
    above: dict[str, Compare] = {}  # (most of 100,000 refs are below the same few names)
    for change in sorted(changes, key=lambda one: encode(one.name)):
        creates = change.name != HEAD and not is_zero(change.after) and not live(state.entries.get(change.name))
        guards: list[Compare] = []
        if creates:
            key = k.ref(group, change.name)
            guards.append(Compare(key, key + b"0", "<", state.revision + 1))
            for name in parents(change.name):
                if name not in above:
                    above[name] = Compare(k.ref(group, name), mod_revision=state.mod(name))
                guards.append(above[name])
        found.append(replace(change, guards=tuple(guards)))
    return found


def changes(state: GroupState, wanted: Mapping[str, str]) -> list[KeyWrite]:
    """The changes that give these names these values (oids, or ``ref: …`` for HEAD); names that have them already are left out."""
    found = []
    for name, value in wanted.items():
        held = state.value(name)
        if held is None or held.removesuffix(b"\n") != encode(value):
            found.append(KeyWrite(name, held, state.mod(name), value))
    return found


def local_refs(replica: Replica) -> dict[str, str]:
    """This repository's managed refs, and HEAD as ``ref: …``, with the values that their keys would have."""
    observed = replica.repository.observe()
    wanted = {ref: oid for ref, oid in observed.refs.items() if is_managed(ref, replica.config.exclude)}
    if observed.head:
        wanted[HEAD] = f"ref: {observed.head}"
    return wanted
