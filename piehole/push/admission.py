"""The decision about a push, in two steps: ``admit`` (may this ref move?) and ``propose`` (the swap).

The controller answers a hook with these functions; where no controller answers, the hook runs the very same ones itself. Only where
the values come from differs (:class:`piehole.push.consensus_source.Source`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from piehole.deadline import Deadline
from piehole.errors import NO_ACCESS, RESERVED, STALE, EtcdError
from piehole.fastpath.failpoints import Step, reached
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.push import rules
from piehole.push.completeness import CompletenessCheck
from piehole.push.consensus_source import Source
from piehole.push.copies_gate import CopiesGate
from piehole.push.deletion_limit import DeletionLimit
from piehole.push.judged import JudgedBases
from piehole.push.recent_kinds import RecentKinds
from piehole.push.rules import Accept, Free, Refuse, refusal
from piehole.push.site_limits import SiteLimitsCheck
from piehole.push.swap import Accepted, Basis, Lost, Proposal, Swapper, Unknown
from piehole.push.transaction_size import TransactionSize
from piehole.refs import Command, is_managed, is_zero
from piehole.repository import kept_tips

if TYPE_CHECKING:
    from piehole.push.copies import CopyCollector

_FAIR: Final = (
    0.5  # seconds in which etcd must have had the chance to answer, before a whole push is refused for its silence
)
_MANY: Final = 30  # refs of a push that may not fit into one transaction of etcd, if their names are deep
LEAST: Final = 0.1  # seconds: what each question may take of a push whose patience is used up


@dataclass(frozen=True, slots=True)
class Again:
    """The swap lost against another change, and the refs may still move: record these bases, then propose again."""

    bases: dict[str, Basis]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will become of each command of a push, and how many of them one transaction of etcd takes.

    None: only :meth:`Admission.admit` can tell. Refused is only what etcd would be needed for, where it could not be used.
    """

    each: list[Free | Basis | Refuse | None]
    most: int


@dataclass(frozen=True, slots=True)
class Pusher:
    """Who pushes: the random id of this push, and the name for the push record."""

    push_id: str
    name: str


class Admission:
    """Decides about the pushes to one repository."""

    def __init__(self, replica: Replica, source: Source, copies: Callable[[], CopyCollector] | None = None) -> None:
        """:param copies: makes what asks other sites for copies; None: one that reads from etcd"""
        self._config = replica.config
        self._repository = replica.repository
        self._swapper = Swapper(replica)
        self._size = TransactionSize(replica, self._swapper)
        self._source = source
        self._judged = JudgedBases()
        self.copies = CopiesGate(replica, copies)
        self._kinds = RecentKinds(replica.repository)
        self._completeness = CompletenessCheck(replica.config)
        self._site_limits = SiteLimitsCheck(replica)
        self.deletion_limit = DeletionLimit(replica.config)

    def admit(self, command: Command, deadline: Deadline) -> Free | Basis | Refuse:
        """Whether one ref may move, without changing anything. The basis is what its swap will compare.

        :raises EtcdError: etcd was needed and could not be used
        """
        refused = self._out_of_bounds([command]).get(command)
        if refused:
            return refused
        if not is_managed(command.ref, self._config.exclude):
            return Free()
        refused = self._broken_deletion(command)
        if refused:
            return refused
        verdicts, basis = self._judge([command], deadline)
        if basis is not None:
            refused = self._hindered(command, deadline, basis[command.ref])
            refused = refused or self._completeness.refusal([command], deadline)
            if not refused and self._repository.has_reftable:
                self._keep(self._repository.not_contained([command]))
            return refused or basis[command.ref]
        return self._after_catching_up(command, verdicts[0], deadline)

    def foresee(self, commands: Sequence[Command], deadline: Deadline) -> Forecast:
        """What :meth:`admit` would say of each command, from one read of the group and without the objects that the push brings."""
        outside = self._out_of_bounds(commands)
        bounded = [command for command in commands if command not in outside]
        managed = [command for command in bounded if is_managed(command.ref, self._config.exclude)]
        deleted = [command.old for command in managed if command.deletes and not command.creates]
        here = self._repository.kinds(deleted) if deleted else {}
        gaps = self._completeness.gaps()
        sound = [command for command in managed if (command.old in here if command.deletes else gaps is None)]
        blocked = self._repository.blockers([command.ref for command in sound if command.creates])
        sound = [one for one in sound if one.ref not in blocked and self._site_limits.refusal(one, deadline) is None]
        known: dict[Command, Free | Basis | Refuse] = dict.fromkeys(set(bounded).difference(managed), Free())
        most = len(commands)
        fair = deadline.remaining() > _FAIR
        try:
            state = next(iter(self._source.states(sound, deadline)))
            _, bases = self._judge_by(sound, state, lambda _, __: False)
            self.copies.foresee(state.group, [command.new for command in sound])
            if len(sound) > _MANY:
                most = self._size.most(sound, state, deadline, self.copies.answers(state.group))
        except EtcdError as error:
            # Of a push whose patience is used up, no ref is refused for that alone: each is asked about by itself.
            known |= dict.fromkeys(sound, refusal(error)) if fair else {}
        else:
            # With reftable, `update` keeps what a move leaves behind.
            reftable = self._repository.has_reftable
            sure = {ref: basis for ref, basis in bases.items() if basis.writes}
            known |= {one: sure[one.ref] for one in sound if one.ref in sure and (one.creates or not reftable)}
        return Forecast([known.get(command) for command in commands], most)

    def _out_of_bounds(self, commands: Sequence[Command]) -> dict[Command, Refuse]:
        symbolic = self._repository.symref_targets([command.ref for command in commands])
        found = {one: rules.out_of_bounds(one.ref, symbolic=one.ref in symbolic, namespace="") for one in commands}
        return {command: refused for command, refused in found.items() if refused}

    def propose(
        self,
        pusher: Pusher,
        items: Sequence[tuple[Command, Basis]],
        deadline: Deadline,
        *,
        may_go: Callable[[], bool],
        earlier: bool = False,
        more: bool = False,
    ) -> Accepted | Again | Refuse | Unknown | None:
        """Swap all refs of one transaction of git, which holds their locks meanwhile.

        :param may_go: asked last of all before the proposal is sent; where it says no (the hook or its receive-pack is gone and
            with it the locks), nothing is sent and the answer is None
        :param earlier: this proposal may have been sent before, by a process that fell silent
        :param more: other proposals of this push may follow
        :raises EtcdError: etcd could not be used, and nothing changed
        """
        moves = [command for command, _ in items]
        if self._repository.adds(moves):
            kinds, left_behind = dict.fromkeys((move.new for move in moves), "commit"), []
        else:
            kinds = self._kinds.of(moves)
            left_behind = self._repository.not_contained(moves, kinds)
        refused = self._unfit(moves, kinds) or self._completeness.refusal(moves, deadline)
        if refused:
            # What may have been sent before was let pass then.
            return Unknown(refused.sentence) if earlier else refused
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        proposal = Proposal(PushRecord(pusher.push_id, self._config.site, pusher.name, time), tuple(items))
        try:
            found = None if self._judged.take(items) else self._judge_proposal(items, deadline)
            if found is None:
                found, copies = self.copies.confirm(pusher.push_id, items, deadline, more=more)
                proposal = replace(proposal, copies=copies)
            if found is None:
                self._keep(left_behind, locked=True)
            if not may_go():
                return None
            if found is None:
                half = deadline.at_most(deadline.remaining() / 2)
                outcome = self._swapper.propose(proposal, half, deadline, earlier=earlier)
            elif earlier:
                outcome = self._swapper.settle(proposal, deadline)
            else:
                return found
        except EtcdError as error:
            if earlier:
                return Unknown(str(error))
            raise
        if isinstance(outcome, Lost):
            if self.copies.lost(proposal, outcome.now):
                self._source.doubt()
            return self._again(moves, outcome.now, deadline)
        return self.copies.accepted(proposal, outcome) if isinstance(outcome, Accepted) else outcome

    def _keep(self, tips: Sequence[str], *, locked: bool = False) -> None:
        """Keep tips that the push leaves behind. With reftable git has one lock for all refs: nothing can be kept while it holds it
        (``locked``), so `update` has done it.
        """
        reached(Step.KEEPING)
        if locked and self._repository.has_reftable:
            tips = kept_tips.not_kept(self._repository, tips)
        kept_tips.keep(self._repository, tips)

    def _judge(self, commands: Sequence[Command], deadline: Deadline) -> tuple[list[Refuse], dict[str, Basis] | None]:
        refusals: list[Refuse] = []
        for state in self._source.states(commands, deadline):
            refusals, bases = self._judge_by(commands, state)
            if not refusals:
                return [], bases
        return refusals, None

    def _judge_by(
        self, commands: Sequence[Command], state: GroupState, fast_forward: Callable[[str, str], bool] | None = None
    ) -> tuple[list[Refuse], dict[str, Basis]]:
        halted = self._source.halted(state)
        if halted:
            return [Refuse(halted.token, str(halted))], {}
        self.copies.learn(state.group)
        refusals: list[Refuse] = []
        bases: dict[str, Basis] = {}
        for command in commands:
            verdict = rules.judge(
                command,
                state.value(command.ref),
                object_format=self._repository.object_format,
                conflict=state.conflict(command.ref) if command.creates else None,
                fast_forward=fast_forward or self._is_fast_forward,
            )
            if isinstance(verdict, Accept):
                basis = bases[command.ref] = Basis.of(command, state, writes=verdict.writes)
                self._judged.add(command, basis)
            else:
                refusals.append(verdict)
        return refusals, bases

    def _judge_proposal(self, items: Sequence[tuple[Command, Basis]], deadline: Deadline) -> Again | Refuse | None:
        """Judge by the rules what a swap on these bases would do, and nothing else: None where they allow it.

        A basis that :meth:`admit` has not given can name any mod_revisions, and a swap compares nothing else. So it counts only where
        the state has these mod_revisions, and by the values that it has at them.
        """
        moves = [command for command, _ in items]
        for refused in self._out_of_bounds(moves).values():
            return refused
        for state in self._source.states(moves, deadline):
            refusals, bases = self._judge_by(moves, state)
            if not refusals and all(basis.holds(command, bases[command.ref]) for command, basis in items):
                return None
        return self._again(moves, state, deadline)

    def _is_fast_forward(self, old: str, new: str) -> bool:
        return self._repository.contains(new, old)

    def _again(self, commands: Sequence[Command], now: GroupState, deadline: Deadline) -> Again | Refuse:
        refusals, bases = self._judge_by(commands, now)
        if not refusals and deadline.remaining() < LEAST:
            refs = ", ".join(command.ref for command in commands[:3])
            return Refuse(
                STALE,
                f"cannot move {refs} in time: other changes came first, or etcd is too slow; nothing changed, push again",
            )
        return refusals[0] if refusals else Again(bases)

    def _after_catching_up(self, command: Command, refused: Refuse, deadline: Deadline) -> Refuse:
        """So that the advised pull helps, give the site the chance to reach what the group has before saying no."""
        if not refused.wants:
            return refused
        behind = self._source.catch_up(command.ref, refused.wants, deadline.at_most(self._config.catch_up))
        return Refuse(refused.token, f"{refused.sentence}{f'. {behind}' if behind else ''}", refused.wants)

    def _unfit(self, moves: Sequence[Command], kinds: Mapping[str, str]) -> Refuse | None:
        """Refuse what no hook of piehole proposes, since it has asked before. Others than hooks can use the socket, and a push whose
        objects went somewhere else (``GIT_OBJECT_DIRECTORY``) gets as far as this: the group would name objects that no site has.
        """
        for move in moves:
            if not is_managed(move.ref, self._config.exclude):
                return Refuse(RESERVED, f"{move.ref} is no ref of the group at this site")
            if not move.deletes and move.new not in kinds:
                return Refuse(
                    NO_ACCESS,
                    f"cannot move {move.ref}: the object {move.new} is not in this repository; nothing changed, push again",
                )
        return None

    def _hindered(self, command: Command, deadline: Deadline, basis: Basis) -> Refuse | None:
        # Git finds both out only under its locks, and may then reject this ref alone after the group has taken all.
        blockers = self._repository.blockers([command.ref]) if command.creates and not command.deletes else {}
        if blockers:
            return rules.blocked_here(command.ref, blockers[command.ref])
        # Where the group has the new value, this site may have followed it after git had shown the old value to the pusher.
        repeated = not basis.writes and command.old != command.new
        if repeated and self._repository.read_ref(command.ref) == command.new:
            return rules.already_here(command)
        return self._site_limits.refusal(command, deadline)

    def _broken_deletion(self, command: Command) -> Refuse | None:
        # Git announces such a deletion as `OLD 0` and prepares it as `0 0`, exactly like the packed half of a sound one:
        # the gate could not tell them apart. Neither does git compare anything then, whatever the client said of the old value.
        if not command.deletes:
            return None
        if command.creates:
            here = self._repository.read_ref(command.ref)
            if is_zero(here):
                return None
            return Refuse(STALE, f"{command.ref} is at {here} here meanwhile; pull and push again")
        if self._repository.kinds([command.old]):
            return None
        return Refuse(
            STALE,
            f"{command.ref} is at {command.old}, and that object is missing here; run `piehole check` at this site, or delete the ref in "
            f"the group with `piehole clobber --delete {command.ref}`",
        )
