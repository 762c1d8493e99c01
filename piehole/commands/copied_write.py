"""Commands that write refs into the consensus keep the group's promise of copies, as a push does: other sites hold what is new first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdError
from piehole.etcd.model import Compare, Operation, Put
from piehole.group import bulk_write, keys
from piehole.group.bulk_write import KeyWrite
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.push.copies import ObtainedCopies, obtain
from piehole.refs import decode, is_oid, is_zero

_PATIENCE: Final = 60.0  # seconds for etcd, for each transaction
_TIDY: Final = 5.0  # seconds for keys that a lease would remove as well


def write(
    replica: Replica,
    changes: Sequence[KeyWrite],
    pusher: str,
    say: Callable[[str], None],
    *,
    kind: str = "adopted",
    guards: Sequence[Compare] = (),
    whole: bool = False,
    holders: Mapping[str, Mapping[str, str]] | None = None,
) -> list[KeyWrite]:
    """Write these keys as :func:`piehole.group.bulk_write.write` does, once enough other sites hold their new values.

    :param say: gets the warning where fewer do and the group's setting lets it pass
    :param holders: for some oids, the sites that hold them for certain, each with its id
    :raises TooFewCopies: fewer sites hold them than the group promises, and nothing is written
    :raises EtcdError: etcd could not be used; earlier transactions stay written, and running it again continues
    """
    form = replica.config.object_format
    new = [one.after for one in changes if is_oid(one.after, form) and not is_zero(one.after)]
    bases = [old for one in changes if is_oid(old := decode(one.before or b"").strip(), form) and not is_zero(old)]
    doing("waiting until enough sites hold what is new")
    copies = obtain(replica, new, Deadline(_PATIENCE), bases=bases, holders=holders)
    if copies.warning:
        say(copies.warning)
    left: Sequence[KeyWrite] | None = None
    try:
        left = bulk_write.write(
            replica,
            [_compared(replica, change, copies) for change in changes],
            pusher,
            kind=kind,
            guards=tuple(dict.fromkeys([*guards, *copies.guards])),
            patience=_PATIENCE,
            whole=whole,
            push_id=copies.push_id,
            last=copies.removals,
        )
    finally:
        if left is None or left:
            _end(replica, copies, pusher, kind, written=left is None or len(left) < len(changes))
    return left


def _compared(replica: Replica, change: KeyWrite, copies: ObtainedCopies) -> KeyWrite:
    """The change, which is made only as long as the other sites say that they hold its new value."""
    answers = copies.answers.get(change.after, ())
    if not answers:
        return change
    key = replica.keyspace.ref(replica.config.group, change.name)
    own = change.guards or (Compare(key, mod_revision=change.mod_revision),)
    return replace(change, guards=(*own, *answers))


def _end(replica: Replica, copies: ObtainedCopies, pusher: str, kind: str, *, written: bool) -> None:
    """Remove what was asked for, where not all was written. With a push record of its id the other sites know that some refs were, and
    release nothing too early.
    """
    if not copies.removals:
        return
    operations: list[Operation] = list(copies.removals)
    if written:
        record = replace(PushRecord.create(replica.config.site, kind, pusher), id=copies.push_id)
        operations.append(Put(replica.keyspace.ref(replica.config.group, keys.PUSH), record.dump()))
    with suppress(EtcdError):  # they end with their lease
        replica.etcd.txn([], operations, deadline=Deadline(_TIDY))
