"""No swap goes out for a group that promises copies before the other sites hold what it brings.

Loads nothing that a push to a group without this promise does not need: :mod:`piehole.push.copies` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from piehole.deadline import Deadline
from piehole.etcd.model import KeyValue
from piehole.group.group_state import GroupState
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.push.rules import Refuse
from piehole.push.swap import Accepted, Basis, HeldCopies, Proposal
from piehole.refs import Command

if TYPE_CHECKING:
    from piehole.push.copies import CopyCollector

_KNOWN: Final = 16  # records of the group
_DOUBTED: Final = 1000  # pushes
_USUAL: Final = 8  # answers that one swap compares, while it is not known how many these are
_NOTHING: Final = HeldCopies()


class CopiesGate:
    """Knows the group's record at each mod_revision at which a push was judged. Safe to use from many threads.

    :param build: makes what asks the other sites; None: one that reads from etcd
    """

    def __init__(self, replica: Replica, build: Callable[[], CopyCollector] | None) -> None:
        self._replica = replica
        self._build = build
        self._copies: CopyCollector | None = None
        self._promised: dict[int, bool] = {}
        self._doubted: dict[str, None] = {}

    def learn(self, group: KeyValue | None) -> None:
        """Note what the group's record promises.

        :raises RecordError: it cannot be read, so nobody knows
        """
        if group is not None and group.mod_revision not in self._promised:
            promised = GroupRecord.parse(group.value).promises_copies
            known = {**self._promised, group.mod_revision: promised}
            self._promised = {one: known[one] for one in sorted(known)[-_KNOWN:]}

    def asks(self, basis: Basis, new: str) -> bool:
        """Whether copies must be asked for, before a ref moves to this value on this basis."""
        return basis.writes and bool(new.strip("0")) and self._promised.get(basis.group, False)

    def foresee(self, group: KeyValue | None, oids: Sequence[str]) -> None:
        """Prepare for a push that brings these objects, before git has moved them into the repository."""
        if group is not None and self._promised.get(group.mod_revision):
            self._copies_here().foresee([oid for oid in oids if oid.strip("0")])

    def obtain(
        self, push_id: str, commands: Sequence[Command], deadline: Deadline, awaited: Callable[[], bool]
    ) -> str | Refuse:
        """Have the other sites hold what these commands bring; returns a warning to the pusher, ``""`` where there is none.

        :raises EtcdError: etcd could not be used, and nothing changed
        """
        return self._copies_here().obtain(push_id, commands, deadline, awaited)

    def confirm(
        self, push_id: str, items: Sequence[tuple[Command, Basis]], deadline: Deadline, *, more: bool
    ) -> tuple[Refuse | None, HeldCopies]:
        """The refusal, or what the swap of these compares so that the promise is kept.

        :param more: other swaps of this push may follow
        :raises EtcdError: etcd was needed and could not be used
        """
        # Of bases that were read at different times the oldest counts, as in the swap.
        group = min(basis.group for _, basis in items)
        if not self._promised.get(group, True):
            return None, _NOTHING
        wanted: dict[str, list[str]] = {}
        for move, basis in items:
            if basis.writes and not move.deletes:
                wanted.setdefault(move.new, []).append(move.ref)
        if not wanted:
            return None, _NOTHING
        fence = min(basis.fence for _, basis in items)
        sure = push_id in self._doubted
        proof = self._copies_here().proof
        found = proof.confirm(push_id, wanted, max(fence, group), deadline, sure=sure, more=more)
        return (found, _NOTHING) if isinstance(found, Refuse) else (None, found)

    def lost(self, proposal: Proposal, now: GroupState) -> bool:
        """The swap did not succeed, so the next one of this push believes no view. Returns whether the group's record was another one."""
        if self._copies is not None:
            self._doubted = dict.fromkeys([*self._doubted, proposal.push.id][-_DOUBTED:])
        group = now.group.mod_revision if now.group else 0
        return group != min(basis.group for _, basis in proposal.items)

    def accepted(self, proposal: Proposal, outcome: Accepted) -> Accepted:
        if self._copies is not None and proposal.copies.removals:
            self._copies.done(proposal.push.id)
        return replace(outcome, warning=proposal.copies.warning) if proposal.copies.warning else outcome

    def answers(self, group: KeyValue | None) -> int:
        """How many answers of other sites one swap compares, about."""
        if group is None or not self._promised.get(group.mod_revision):
            return 0
        return (self._copies.others if self._copies is not None else None) or _USUAL

    def end(self, push_id: str) -> None:
        """This push has ended: what it has asked for and not used is removed."""
        if self._copies is not None:
            self._copies.end(push_id)

    def _copies_here(self) -> CopyCollector:
        if self._copies is None:
            self._copies = (self._build or self._reading_from_etcd)()
        return self._copies

    def _reading_from_etcd(self) -> CopyCollector:
        from piehole.etcd.leases import SharedLease
        from piehole.push.copies import CopyCollector
        from piehole.push.copy_answers import PolledAnswers

        return CopyCollector(self._replica, PolledAnswers(self._replica), SharedLease(self._replica.etcd))
