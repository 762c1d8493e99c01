"""Requests to etcd and its answers, as plain data. Imports nothing heavy.

A *revision* counts the changes of the whole cluster; a key's *mod_revision* is the revision that changed it last, its
*create_revision* the one that created it, its *version* the number of changes since then. A key that does not exist
has mod_revision 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from piehole.errors import EtcdRefused

LARGEST_TXN: Final = 4000  # operations of one kind in a transaction, where deploy/ has raised --max-txn-ops
SMALLEST_TXN: Final = 120  # where etcd has its default --max-txn-ops, 128


class KeyValue(NamedTuple):
    """One key at one revision. In a deletion ``value`` is empty, and ``version`` and ``create_revision`` are 0.

    (A tuple, since a group may have 100,000 of them: it is made in half the time of a frozen dataclass.)
    """

    key: bytes
    value: bytes
    mod_revision: int
    create_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction, always on mod_revision, since a value may change and change back.

    With ``range_end`` it must hold for every key in [key, range_end); it holds when there is none. A missing key has
    mod_revision 0, so ``Compare(key)`` means "does not exist".
    """

    key: bytes
    range_end: bytes = b""
    op: Literal["=", "<"] = "="
    mod_revision: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """``lease``: the key goes when this lease ends; 0: it stays."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, or every key in [key, range_end)."""

    key: bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class Range:
    """Read one key, or every key in [key, range_end) up to ``limit`` (0: no limit).

    ``newest_first``: in the order of their last changes. etcd then reads all keys of the range, whatever the limit.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    keys_only: bool = False
    newest_first: bool = False


Operation: TypeAlias = Put | Delete | Range


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer of one range: ``kvs`` in the order of their keys as they were at ``revision``.

    ``more``: the limit cut the answer short. ``count``: how many keys the range has, whatever the limit.
    ``cluster_id``: which cluster answered.
    """

    revision: int
    kvs: list[KeyValue]
    more: bool
    count: int
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class TxnResult:
    """``succeeded``: every compare held. ``revision``: after the transaction (its own, where it wrote something).

    ``ranges``: the answers to the Range operations of the branch that ran, in their order.
    """

    succeeded: bool
    revision: int
    ranges: list[Snapshot] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Event:
    kind: Literal["put", "delete"]
    kv: KeyValue


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything up to ``revision`` was delivered, ``events`` last. Without events it is a progress message."""

    revision: int
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Head:
    """Proof by a linearizable read that ``endpoint`` reaches a quorum of ``cluster_id``, which is at ``revision``."""

    endpoint: str
    cluster_id: int
    revision: int


# Nobody answered; etcd answered that it could not decide; etcd refused; something answered that is no etcd.
Trouble: TypeAlias = Literal["", "unreachable", "undecided", "refused", "foreign"]


@dataclass(frozen=True, slots=True)
class Lease:
    """``remaining``: seconds until the lease ends, by the clock of etcd's leader; -1: there is no such lease. ``granted``: its whole time."""

    id: int
    remaining: int
    granted: int


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """The health of one endpoint.

    ``version``: empty where etcd does not tell it to this user; then nothing below is known but ``needs_no_login``. ``latency``: seconds of
    one linearizable read. ``leader``: this member leads. ``error``: a sentence, empty when all is well (with one, the other fields may
    hold zeros), and ``trouble`` its kind. ``alarms``: the alarms of the cluster that this member names, such as NOSPACE. ``size``: bytes of
    the database. ``quota``: how many it may have, as far as etcd tells (since 3.6). ``needs_no_login``: a login is configured, and etcd's
    authentication is off.
    """

    endpoint: str
    version: str = ""
    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    leader: bool = False
    latency: float = 0.0
    error: str = ""
    trouble: Trouble = ""
    alarms: tuple[str, ...] = ()
    size: int = 0
    quota: int = 0
    needs_no_login: bool = False


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range that holds exactly the keys with this prefix.

    Where no such key exists (an empty prefix, or one of 0xff only) it is ``b"\\0"``, which etcd takes as "to the end".
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def smaller_txn(size: int, error: EtcdRefused) -> int:
    """The number of operations to try after etcd refused a transaction with ``size`` of them.

    :raises EtcdRefused: it was not refused for its size, or the size is the smallest
    """
    if not error.too_many or size == SMALLEST_TXN:
        raise error
    return SMALLEST_TXN
