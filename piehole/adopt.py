"""Writing many of a repository's refs into the consensus: adopting them, or making them the consensus."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from piehole import keys
from piehole.deadline import Deadline
from piehole.errors import EtcdRefused
from piehole.etcd.model import Compare, Put
from piehole.keys import encode
from piehole.local import Local
from piehole.progress import now
from piehole.readout import Readout
from piehole.records import PushRecord

_LARGE: Final = 4000  # keys in one transaction, where etcd's --max-txn-ops allows it; about 600 KB of its 1.5 MB
_SMALL: Final = 120  # of etcd's default 128


@dataclass(frozen=True, slots=True)
class Change:
    """One key of the consensus: what it holds (None: absent), under which mod_revision, and what it shall hold."""

    name: str
    before: bytes | None
    mod_revision: int
    after: str


def write(
    local: Local,
    changes: Sequence[Change],
    pusher: str,
    *,
    patience: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> list[Change]:
    """Write these keys, each only if it is still as it was read; return those that somebody changed meanwhile.

    In as few transactions as etcd takes. Each is compare-guarded as a swap is, and carries a push record, so that the other
    sites know where the objects are.

    :param patience: seconds to wait for etcd, for each transaction
    :raises EtcdError: etcd could not be used; what was written so far is written, and running it again continues
    """
    refused: list[Change] = []
    size = _LARGE
    start = 0
    while start < len(changes):
        batch = changes[start : start + size]
        try:
            held = _write_batch(local, batch, pusher, Deadline(patience))
        except EtcdRefused as error:
            if not error.too_many or size == _SMALL:
                raise
            size = _SMALL
            continue
        if held:
            start += len(batch)
            if progress is not None:
                progress(start)
        elif len(batch) == 1:
            refused += batch
            start += 1
        else:
            # Some key of the batch has moved. Halve until it stands alone; then take large steps again.
            refused += write(local, batch[: len(batch) // 2], pusher, patience=patience)
            refused += write(local, batch[len(batch) // 2 :], pusher, patience=patience)
            start += len(batch)
    return refused


def _write_batch(local: Local, batch: Sequence[Change], pusher: str, deadline: Deadline) -> bool:
    k, group = local.keyspace, local.config.group
    push = PushRecord(str(uuid.uuid4()), local.config.site, pusher, now(), {"kind": "adopted"})
    compares = [Compare(k.ref(group, change.name), mod_revision=change.mod_revision) for change in batch]
    puts = [Put(k.ref(group, change.name), encode(change.after)) for change in batch]
    puts.append(Put(k.ref(group, keys.PUSH), push.dump()))
    return local.etcd.txn(compares, puts, deadline=deadline).succeeded


def changes(readout: Readout, wanted: Mapping[str, str]) -> list[Change]:
    """The changes that bring these names to these values (oids, or ``ref: …`` for HEAD); those already there are left out."""
    found = []
    for name, value in wanted.items():
        held = readout.value(name)
        if held is None or held.removesuffix(b"\n") != encode(value):
            found.append(Change(name, held, readout.mod(name), value))
    return found


def local_refs(local: Local) -> dict[str, str]:
    """This repository's managed refs, and HEAD as ``ref: …``, as the consensus would hold them."""
    observed = local.repository.observe()
    wanted = {ref: oid for ref, oid in observed.refs.items() if keys.is_managed(ref, local.config.exclude)}
    if observed.head:
        wanted[keys.HEAD] = f"ref: {observed.head}"
    return wanted
