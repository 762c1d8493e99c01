"""How many refs one transaction of etcd takes: known before git locks the refs, so that `update` can refuse a larger push in words."""

from __future__ import annotations

from collections.abc import Sequence

from piehole.deadline import Deadline
from piehole.errors import EtcdRefused
from piehole.etcd.model import SMALLEST_TXN, Compare
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.push.swap import Basis, Swapper
from piehole.refs import Command

_DEFAULT = 128  # etcd's --max-txn-ops where nobody has raised it


class TransactionSize:
    """etcd does not say what its --max-txn-ops is, so it is tried with transactions that only compare.

    That a size was taken is remembered; that one was refused never is, since an administrator may raise it at any time.
    """

    def __init__(self, replica: Replica, swapper: Swapper) -> None:
        self._etcd = replica.etcd
        self._key = replica.keyspace.group(replica.config.group)
        self._swapper = swapper
        self._taken = SMALLEST_TXN

    def most(self, commands: Sequence[Command], state: GroupState, deadline: Deadline, copies: int = 0) -> int:
        """How many of these commands, in their order, one swap can move.

        :param copies: how many answers of other sites it compares
        :raises EtcdError: etcd could not be asked
        """
        items = [(command, Basis.of(command, state, writes=True)) for command in commands]
        wanted = self._swapper.operations(items, copies)
        room = self._room(wanted, deadline)
        if room >= wanted:
            return len(items)
        low, high = 0, len(items)
        while high - low > 1:
            middle = (low + high) // 2
            if self._swapper.operations(items[:middle], copies) <= room:
                low = middle
            else:
                high = middle
        return low

    def _room(self, wanted: int, deadline: Deadline) -> int:
        """The largest size that etcd takes, of those up to ``wanted``."""
        if wanted <= self._taken:
            return wanted
        if self._fits(wanted, deadline):
            self._taken = wanted
            return wanted
        low, high = SMALLEST_TXN, wanted
        tries = [_DEFAULT, _DEFAULT + 1]
        while high - low > 1:
            size = tries.pop(0) if tries else (low + high) // 2
            if not low < size < high:
                continue
            if self._fits(size, deadline):
                low = size
            else:
                high = size
        return low

    def _fits(self, size: int, deadline: Deadline) -> bool:
        try:
            self._etcd.txn([Compare(self._key)] * size, [], deadline=deadline)
        except EtcdRefused as error:
            if not error.too_many:
                raise
            return False
        return True
