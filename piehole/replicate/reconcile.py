"""One reconcile of one repository: bring the local refs to the desired state, and lose nothing on the way.

Orders that must hold:

* Local refs are read first, the desired state after them; else a push that lands in between looks like a change made by hand.
* The revision that is claimed as reached is read before the pushes in flight, and these before the local refs: a push whose swap is as
  old as the claim is then seen in flight, or its ref as it left it.
* A ref never moves to an oid whose closure is not proven to be here, and not before its objects are protected from pruning.
* A local tip that the new value does not contain is kept before the ref moves.
* The desired state is read again between git's locking of the refs and their move (:mod:`piehole.replicate.recheck`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from piehole.errors import GitError
from piehole.fastpath.failpoints import Step, reached
from piehole.group import rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.refs import HEAD, Command
from piehole.replicate import incremental, recheck
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.incremental import Baseline, Changed
from piehole.replicate.local_changes import local_changes
from piehole.replicate.plan import DesiredState, Plan, Value, desired_state, only, plan, without
from piehole.replicate.pushes_here import InFlight, PushesHere, in_flight
from piehole.replicate.ref_digest import HeldRefs, held_refs
from piehole.replicate.repair import Repairer
from piehole.repository import kept_tips, stale_locks
from piehole.repository.ref_moves import RefMover
from piehole.repository.ref_transaction import RefTransaction
from piehole.repository.repository import ObservedState
from piehole.transfer.keep_files import Hold

# A lock younger than this (seconds) belongs to a process at work (git gc packing refs); an older one is stale.
_BRIEF: Final = 3.0
_HAVES: Final = 64  # tips that are offered to a peer
_INCREMENTAL_FOR: Final = 30.0  # seconds after a full reconcile in which incremental ones may follow


@dataclass(frozen=True, slots=True)
class Report:
    """What one reconcile did. ``converged``: every managed ref here holds the value it had at ``revision`` or a later one.

    ``undone``: the moves among them (and HEAD) that undid what was changed here without a push.
    ``full``: it compared all refs, and not only those whose keys have changed. ``tips``: some commits that refs hold here, the newest first.
    ``corrupt``: what is corrupt among the objects here, as far as that is known; ``repaired``: what was, until now.
    ``held``: the refs here, where all of them were found to be what the group had at exactly this ``revision``.
    """

    revision: int
    moved: Mapping[str, Command] = field(default_factory=dict)
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
    undone: Mapping[str, Command] = field(default_factory=dict)
    full: bool = True
    tips: tuple[str, ...] = ()
    corrupt: str = ""
    repaired: str = ""
    held: HeldRefs | None = None

    @property
    def converged(self) -> bool:
        return not (self.stuck or self.deferred or self.corrupt)


class Reconciler:
    """Reconciles one repository. One at a time: the caller sees to it that there is no second one in this process."""

    def __init__(
        self,
        replica: Replica,
        fetcher: ObjectFetcher,
        view: Callable[[], GroupState],
        claim: Callable[[], int],
        changed: Callable[[int], Changed] = lambda _: None,
    ) -> None:
        """
        :param view: the group's keys; called after the local refs were read
        :param claim: a revision that the next view has reached; called before anything else is read
        :param changed: the names that have changed after a revision, at least those up to the last claim
        """
        self._replica = replica
        self._fetcher = fetcher
        self._repairer = Repairer(replica, fetcher)
        self._view = view
        self._claim = claim
        self._changed = changed
        self._baseline: Baseline | None = None
        self._pushes = PushesHere(replica.git_dir)

    def run(self, stop: threading.Event | None = None) -> Report:
        """Bring this repository to the desired state, as far as that is possible now.

        :param stop: ends a fetch at once
        :raises Halted: etcd is no longer the one that the view is of
        :raises EtcdError: etcd could not be used
        :raises GitError: git failed where it must not
        :raises PieholeError: this process runs under another account than the repository's owner
        """
        started = time.monotonic()
        reached(Step.RECONCILING)
        self._replica.repository.check_owner()
        stale_locks.clear(self._replica.git_dir)
        corrupt = self._repairer.repair(stop)
        try:
            report = self._run(started, stop)
        except GitError as error:
            self._repairer.suspect(str(error))
            raise
        if report.stuck and not corrupt:
            self._repairer.suspect(repr(sorted(report.stuck.items())))
        held = None if corrupt else report.held
        seconds, repaired = time.monotonic() - started, self._repairer.repaired
        return replace(report, corrupt=corrupt, repaired=repaired, held=held, seconds=seconds)

    def _run(self, started: float, stop: threading.Event | None) -> Report:
        # There is no baseline while this runs: where it fails, the next reconcile is a full one.
        baseline, self._baseline = self._baseline, None
        since = started if baseline is None or baseline.since is None else baseline.since
        # Changes that come all the time must not put off the full reconcile for long.
        recent = started - since < _INCREMENTAL_FOR
        report = self._run_incremental(baseline, stop) if baseline is not None and recent else None
        if report is None or report.stuck:
            full = self._run_full(stop)
            report = full if report is None else replace(full, moved={**report.moved, **full.moved})
        if report.converged:
            full_at = None if report.full else since
            self._baseline = Baseline(
                report.revision, report.newest, report.locked, report.unadopted, report.tips, full_at
            )
        return report

    def forget(self) -> None:
        """Make the next reconcile a full one: what was found before may not hold any more."""
        self._baseline = None

    def _run_incremental(self, baseline: Baseline, stop: threading.Event | None) -> Report | None:
        """Reconcile the few refs whose keys have changed since the baseline; None where a full reconcile is needed."""
        claim = self._claim()
        changed = self._changed(baseline.revision)
        refs = incremental.refs_to_compare(baseline, changed)
        if changed is None or refs is None or claim < baseline.revision:
            return None
        in_flight = self._in_flight()
        here = incremental.read_refs(self._replica.repository, refs)
        in_flight |= self._in_flight()
        state = self._view()
        found = incremental.compare(self._replica.config, changed, here, state)
        if found is None:
            return None
        claimed = min(claim, state.revision)
        planned = self._plan(found.desired, found.observed, in_flight)
        report = Report(
            revision=claimed,
            locked=baseline.locked,
            unadopted=tuple(ref for ref in baseline.unadopted if ref not in found.desired.refs),
            deferred=planned.deferred,
            stuck=dict(planned.stuck),
            newest=min(max(baseline.newest, found.desired.newest), claimed),
            full=False,
        )
        return self._apply(planned, found.desired, baseline.tips, report, stop, found.origin)

    def _run_full(self, stop: threading.Event | None) -> Report:
        reached_before = rollback_guard.published_revision(
            self._replica.git_dir
        )  # before the refs are read, which are as new then
        claim = self._claim()
        in_flight = self._in_flight()
        observed = self._replica.repository.observe()
        in_flight |= self._in_flight()
        state = self._view()
        claimed = min(claim, state.revision)
        desired = desired_state(state.entries, self._replica.config.object_format, self._replica.config.exclude)
        planned = self._plan(desired, observed, in_flight)
        if planned.moves or planned.head:
            names = {move.ref for move in planned.moves}
            desired = recheck.refreshed(self._replica, desired, names, state.revision)
            planned = only(self._plan(desired, observed, in_flight), names)
        report = Report(
            revision=claimed,
            locked=planned.locked,
            unadopted=planned.unadopted,
            deferred=planned.deferred,
            stuck=dict(planned.stuck),
            newest=min(desired.newest, claimed),
            held=None
            if in_flight.refs
            else held_refs(planned, desired, observed, claimed, self._replica.config.exclude),
        )
        changed = local_changes(planned, desired, observed, reached_before)
        report = self._apply(planned, desired, self._tips(observed), report, stop)
        undone = {ref: move for ref, move in changed.items() if ref in report.moved or (ref == HEAD and report.head)}
        return replace(report, undone=undone)

    def _plan(self, desired: DesiredState, observed: ObservedState, in_flight: InFlight) -> Plan:
        config = self._replica.config
        held = in_flight.left_alone((ref, value.oid) for ref, value in desired.refs.items())
        return plan(desired, observed, object_format=config.object_format, exclude=config.exclude, in_flight=held)

    def _in_flight(self) -> InFlight:
        return in_flight(str(self._replica.git_dir))

    def _apply(
        self,
        planned: Plan,
        desired: DesiredState,
        tips: Sequence[str],
        report: Report,
        stop: threading.Event | None,
        origin: str = "",
    ) -> Report:
        """Carry out a plan, and complete the report of it.

        :param tips: commits that local refs hold
        :param origin: the site whose push the newest change is, ``""`` where that is not known
        """
        repository = self._replica.repository
        stuck = dict(report.stuck)
        deferred = set(report.deferred)
        moves = list(planned.moves)
        kept: list[str] = []
        message = f"piehole: revision {report.revision}"
        # The objects of a push come within milliseconds, so git is started while they are fetched.
        begun = RefTransaction(repository.git_dir, message, len(moves)) if moves and origin else None
        with begun or nullcontext(), Hold() as hold:
            haves = list(dict.fromkeys([*(move.old for move in moves if not move.creates), *tips]))[:_HAVES]
            fetched = self._fetcher.fetch(self._wanted(moves, desired), haves, hold, stop, origin=origin)
            stuck |= {move.ref: fetched.lacking[move.new] for move in moves if move.new in fetched.lacking}
            # A push may have announced one of these refs during the fetch: its receive-pack is about to move it.
            announced = self._in_flight().left_alone((move.ref, move.new) for move in moves) & {
                move.ref for move in moves
            }
            deferred |= announced
            moves = without(planned, announced | {move.ref for move in moves if move.new in fetched.lacking})
            if moves:
                kept = repository.not_contained(moves, parents=fetched.parents)
                kept_tips.keep(repository, kept)
                reached(Step.TIPS_KEPT)
                seen = max(report.revision, desired.newest)
                still_wanted = recheck.StillWanted(self._replica, planned, moves, desired, seen, self._pushes)
                unmoved = RefMover(repository, message, still_wanted, begun).move(moves)
                failed = {move.ref: move for move in moves if move.ref in unmoved.failed}
                moves = [move for move in moves if move.ref not in failed and move.ref not in unmoved.unwanted]
                deferred |= unmoved.unwanted
                self._judge_failures(failed, unmoved.failed, stuck, deferred)
        head = self._set_head(planned.head, stuck, deferred)
        news = [move.new for move in moves if not move.deletes]
        return replace(
            report,
            tips=tuple(dict.fromkeys([*news, *tips]))[: incremental.TIPS],
            moved={move.ref: move for move in moves},
            head=head,
            stuck=stuck,
            deferred=tuple(sorted(deferred)),
            kept=tuple(kept),
            peers=fetched.peers,
            bytes=fetched.bytes,
        )

    def _judge_failures(
        self, moves: Mapping[str, Command], why: Mapping[str, str], stuck: dict[str, str], deferred: set[str]
    ) -> None:
        """Add each ref that git did not move to those that another process moves right now (or just did), or to the stuck ones."""
        if not moves:
            return
        now = self._replica.repository.observe().refs
        zero = self._replica.repository.zero
        for ref, move in moves.items():
            found = now.get(ref, zero)
            if found == move.new:
                continue
            age = self._replica.repository.lock_age(ref)
            gone = age is None and any(words in why[ref] for words in ("File exists", "cannot lock references"))
            if found != move.old or gone or (age is not None and abs(age) < _BRIEF):
                deferred.add(ref)
            else:
                stuck[ref] = f"git could not move it: {why[ref]}"

    def _set_head(self, target: str, stuck: dict[str, str], deferred: set[str]) -> str:
        try:
            if target:
                self._replica.repository.set_head(target)
                reached(Step.HEAD_SET)
        except GitError as error:
            age = self._replica.repository.lock_age(HEAD)
            if age is not None and abs(age) < _BRIEF:
                deferred.add(HEAD)
            else:
                stuck[HEAD] = f"git could not point it to {target}: {error.stderr or error}"
            return ""
        return target

    def _wanted(self, moves: Sequence[Command], desired: DesiredState) -> dict[str, Value]:
        """The oids that must be here before the moves, each with the value that asks for it."""
        return {move.new: desired.refs[move.ref] for move in moves if not move.deletes}

    def _tips(self, observed: ObservedState) -> list[str]:
        """Tips that local refs hold, the likeliest bases first: they bound the connectivity check and the negotiation."""
        head = [observed.refs[observed.head]] if observed.head in observed.refs else []
        heads = (oid for ref, oid in observed.refs.items() if ref.startswith("refs/heads/"))
        return list(dict.fromkeys([*head, *islice(heads, _HAVES)]))
