"""One reconcile of one repository: bring the local refs to the desired state, and lose nothing on the way.

Orders that must hold:

* Local refs are read first, the desired state after them; else a push that lands in between looks like a stray local change.
* A ref never moves to an oid whose closure is not proven to be here, and not before its objects are protected from pruning.
* A local tip that the new value does not contain is kept before the ref moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from piehole import inflight, leftovers
from piehole.deadline import Deadline
from piehole.judge import Command
from piehole.local import Local
from piehole.oids import is_zero
from piehole.plan import Desired, Plan, Value, desired_state, plan
from piehole.readout import Readout
from piehole.repository import Move, Observed
from piehole.supply import Supply
from piehole.transfer.hold import Hold

# More refs than this are verified by listing the group, fewer by reading just them.
_FEW = 50


@dataclass(frozen=True, slots=True)
class Report:
    """What one reconcile did. ``converged``: every managed ref here holds the value it had at ``revision`` or a later one."""

    revision: int
    moved: Mapping[str, Move] = field(default_factory=dict)
    head: str = ""
    stuck: Mapping[str, str] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    unadopted: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    newest: int = 0

    @property
    def converged(self) -> bool:
        return not self.stuck and not self.deferred

    @property
    def quiet(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.moved or self.head or self.stuck or self.deferred)


class Reconciler:
    """Reconciles one repository. One at a time: the caller sees to it that there is no second one in this process."""

    def __init__(self, local: Local, supply: Supply, view: Callable[[], Readout], *, patience: float = 10.0) -> None:
        """
        :param view: the group's keys; called after the local refs were read
        :param patience: seconds to wait for etcd
        """
        self._local = local
        self._supply = supply
        self._view = view
        self._patience = patience

    def run(self, stop: threading.Event | None = None) -> Report:
        """Bring this repository to the desired state, as far as that is possible now.

        :param stop: ends a fetch at once
        :raises EtcdError: etcd could not be used
        :raises GitError: git failed where it must not
        :raises PieholeError: this process runs under another account than the repository's owner
        """
        started = time.monotonic()
        self._local.repository.check_owner()
        leftovers.clear(self._local.git_dir)
        observed = self._local.repository.observe()
        in_flight = self._in_flight()
        readout = self._view()
        desired = self._desired(readout)
        planned = self._plan(desired, observed, in_flight)
        if planned.moves:
            desired = self._verified(desired, planned.moves)
            planned = self._plan(desired, observed, in_flight)
        report = Report(
            revision=readout.revision,
            locked=planned.locked,
            unadopted=planned.unadopted,
            deferred=planned.deferred,
            stuck=dict(planned.stuck),
            newest=desired.newest,
        )
        report = self._carry_out(planned, desired, observed, report, stop)
        return replace(report, seconds=time.monotonic() - started)

    def _plan(self, desired: Desired, observed: Observed, in_flight: set[str]) -> Plan:
        config = self._local.config
        return plan(desired, observed, object_format=config.object_format, exclude=config.exclude, in_flight=in_flight)

    def _desired(self, readout: Readout) -> Desired:
        return desired_state(readout.entries, self._local.config.object_format, self._local.config.exclude)

    def _in_flight(self) -> set[str]:
        """Refs that a push, whose receive-pack lives or may live, is about to move."""
        return {ref for record in inflight.records(str(self._local.git_dir)) for ref in record.announced}

    def _verified(self, desired: Desired, moves: Sequence[Move]) -> Desired:
        """The desired state with the values of these refs read anew, now that the local refs have been read.

        The view may be older than the local refs: a push that went through here just now would look like a stray change.
        """
        deadline = Deadline(self._patience)
        if len(moves) > _FEW:
            listing = self._local.swapper.list_group(deadline)
            return self._desired(listing)
        commands = [Command(move.ref, "x", "x") for move in moves]
        fresh = self._desired(self._local.swapper.read(commands, deadline))
        refs = dict(desired.refs)
        locked = dict(desired.locked)
        for move in moves:
            refs.pop(move.ref, None)
            locked.pop(move.ref, None)
            if move.ref in fresh.refs:
                refs[move.ref] = fresh.refs[move.ref]
            elif move.ref in fresh.locked:
                locked[move.ref] = fresh.locked[move.ref]
        return replace(desired, refs=refs, locked=locked)

    def _carry_out(
        self, planned: Plan, desired: Desired, observed: Observed, report: Report, stop: threading.Event | None
    ) -> Report:
        repository = self._local.repository
        stuck = dict(report.stuck)
        moves = list(planned.moves)
        kept: list[str] = []
        with Hold() as hold:
            supplied = self._supply.bring(self._wanted(moves, desired), self._haves(moves, observed), hold, stop)
            stuck.update({move.ref: supplied.lacking[move.new] for move in moves if move.new in supplied.lacking})
            moves = [move for move in moves if move.new not in supplied.lacking]
            if moves:
                kept = repository.not_contained(moves)
                repository.keep(kept)
                failed = repository.move(moves, f"piehole: revision {report.revision}")
                stuck.update({ref: f"git could not move it: {why}" for ref, why in failed.items()})
                moves = [move for move in moves if move.ref not in failed]
        head = planned.head
        if head:
            repository.set_head(head)
        return replace(
            report,
            moved={move.ref: move for move in moves},
            head=head,
            stuck=stuck,
            kept=tuple(kept),
            peers=supplied.peers,
            bytes=supplied.bytes,
        )

    def _wanted(self, moves: Sequence[Move], desired: Desired) -> dict[str, Value]:
        """The oids that must be here before the moves, each with the value that asks for it."""
        return {move.new: desired.refs[move.ref] for move in moves if not move.deletes}

    def _haves(self, moves: Sequence[Move], observed: Observed) -> list[str]:
        """Tips that local refs hold, the likeliest bases first: they bound the connectivity check and the negotiation."""
        likely = [move.old for move in moves if not move.creates]
        likely += [observed.refs[ref] for ref in (observed.head,) if ref in observed.refs]
        likely += [oid for ref, oid in observed.refs.items() if ref.startswith("refs/heads/")]
        return [oid for oid in dict.fromkeys(likely) if not is_zero(oid)][:64]
