"""One repository as the controller serves it: its turns of work, and what its hooks ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from controller.arrivals import Arrivals
from controller.copy_answers import CachedAnswers
from controller.copy_holding import CopyHolding
from controller.etcd_view import EtcdView
from controller.progress_publisher import EVERY, ProgressPublisher
from controller.readers import Readers
from controller.ref_log_writer import RefLogWriter
from controller.repository_log import RepositoryLog
from controller.site_check import SiteCheck
from controller.tidying import Tidying
from controller.work_queue import NextTurn
from piehole.deadline import Deadline
from piehole.errors import Halted, PieholeError
from piehole.fastpath import processes
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.keys import FENCE
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.push.admission import Admission
from piehole.push.consensus_source import CachedSource
from piehole.push.copies import CopyCollector
from piehole.refs import zero
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.holdings import Holdings
from piehole.replicate.peers import PeerHealth
from piehole.replicate.reconcile import Reconciler, Report
from piehole.repository import controller_pointer, held_refs, verification
from piehole.repository.stale_locks import StaleLockMonitor, unjudged
from piehole.transfer import removal
from piehole.transfer.keep_files import sweep
from piehole.transfer.watchdog import Limits

_ETCD_TIMEOUT: Final = 5.0  # seconds
_OWN_PUSH: Final = 0.3  # seconds from a push that went through this site until the reconcile after it
_FULL: Final = 5.0  # seconds from a reconcile of the refs that have changed to one of all refs
_DEFERRED: Final = 0.03  # seconds until a ref that a push holds is reconciled again, doubled each time
_DEFERRED_MOST: Final = 1.0
# Seconds until a corrupt repository is looked after again; a repair that failed has its own, longer pauses.
_CORRUPT: Final = 5.0
_HALTED: Final = 1.0  # seconds until a halted site looks whether an administrator has decided


class ServedRepository:
    """Has three kinds of work, each for one worker at a time: ``reconcile``, which must be quick, ``publish`` and ``tidy``.

    Hooks ask :attr:`admission` meanwhile, and readers :attr:`readers`, from any thread.
    """

    def __init__(
        self,
        config: Config,
        etcd_view: EtcdView,
        health: PeerHealth,
        limits: Limits,
        enqueue: Callable[[], None],
        enqueue_copies: Callable[[], None],
    ) -> None:
        """
        :param enqueue: has this repository reconciled soon, before any backlog
        :param enqueue_copies: has :meth:`settle_copies` follow soon
        """
        self.config = config
        self.etcd_view = etcd_view
        self.stale_locks = StaleLockMonitor(config.git_dir)
        self._enqueue = enqueue
        self._replica = Replica.of(config, etcd_view.etcd)
        self._log = RepositoryLog(config)
        self._check = SiteCheck(self._replica, etcd_view, self._log.log, lambda: self._publisher.forget())
        source = CachedSource(
            self._replica, enqueue, self._check.view, heard_since=etcd_view.heard_since, doubt=self._doubt
        )
        self.admission = Admission(
            self._replica,
            source,
            lambda: CopyCollector(self._replica, CachedAnswers(self._replica, etcd_view), etcd_view.lease),
        )
        self.readers = Readers(
            self._replica,
            etcd_view,
            may_act=self._still_counts,
            halted=lambda: self._check.halted,
            enqueue=enqueue,
            doubt=self._doubt,
        )
        holdings = Holdings(partial(held_refs.is_held, self._replica.repository))
        fetcher = ObjectFetcher(
            self._replica,
            health,
            limits=limits,
            failed=self._log.peer_failed,
            fence=lambda: self._group_state().mod(FENCE),
            holdings=holdings,
        )
        self._copies = CopyHolding(
            self._replica,
            etcd_view,
            fetcher,
            holdings,
            self._check_again_where_due,
            lambda: self._check.view() is not None,
            enqueue_copies,
            enqueue,
            self._log.log,
        )
        self._reconciler = Reconciler(
            self._replica,
            fetcher,
            self._group_state,
            lambda: self._group_state().revision,
            partial(etcd_view.changed, config.group),
        )
        self._checked = 0  # the check after which the last reconcile began
        self._stamp: controller_pointer.Stamp | None = None  # of the repository that it reconciled
        self._deferred = 0  # turns in a row
        changes = partial(etcd_view.changes, config.group)
        self._arrivals = Arrivals(config.site, config.group, self._log.log)
        known = self._arrivals.noted
        self.ref_log = RefLogWriter(config.git_dir, zero(config.object_format), self._push_at, changes, known)
        self._publisher = ProgressPublisher(self._replica, self._check.acted_on, self._check.seen)
        self._tidying = Tidying(self._replica, self._attempt)

    @property
    def awaits_repair(self) -> bool:
        """Whether some process has found that the repository is corrupt, and no reconcile has met that yet."""
        return not self._log.is_corrupt and bool(verification.corrupt(self.config.git_dir))

    @property
    def halted(self) -> Halted | None:
        """Why this site must not move, None where it may."""
        return self._check.halted

    @property
    def report(self) -> Report | None:
        """Of the last reconcile that did not fail."""
        return self._log.report

    @property
    def trouble(self) -> str:
        """Why the last reconcile failed, ``""`` where it did not."""
        return self._log.trouble

    @property
    def copies_held(self) -> int:
        """For how many pushes to other sites this one holds what they bring."""
        return self._copies.held

    def _group_state(self) -> GroupState:
        return self.etcd_view.view(self.config.group)

    def describe(self) -> list[str]:
        """The lines of the answer to ``piehole status``, each ``WORD REST``."""
        if self.awaits_repair:  # the command that asks has just found it out
            self._enqueue()
        lines = ["hidden"] if processes.some_are_hidden() else []
        lines += [f"unjudged {path} is of {origin}" for path, origin in unjudged(self.config.git_dir).items()]
        return self._log.describe(self._check.halted) + lines + self._copies.describe()

    def proven(self) -> None:
        """All objects were proven: the other sites are told, or what is corrupt is repaired."""
        self._enqueue()

    def check_again(self) -> None:
        """Have the next turn check whether this site may act, whatever was found before."""
        self._check.expire()
        self._copies.look_again()

    def _doubt(self) -> None:
        self.check_again()
        self._enqueue()

    def delay_of_change(self) -> float:
        """Seconds for which the group's newest change can wait. Called from an informer's thread.

        receive-pack moves the refs of a push to this site itself. Only the progress record is missing, and meanwhile the other sites
        fetch from this one.
        """
        self._arrivals.heard(self.etcd_view.informer.cache.newest(self.config.group))
        push = PushRecord.of(self.etcd_view.newest_push(self.config.group))
        return _OWN_PUSH if push is not None and push.site == self.config.site else 0.0

    def reconcile(self, stop: threading.Event) -> NextTurn:
        """Check whether this site may act, where that is due, and reconcile. Errors of this repository are logged, and retried later."""
        if self._check.still_halted():
            return NextTurn(delay=_HALTED)
        stamp = controller_pointer.stamp(self.config.git_dir)
        if stamp != self._stamp:
            # It may be another repository: a new one, a copy, or a backup. Nothing is known of it.
            self.check_again()
            self._publisher.forget()
        try:
            checked = self._check.run()
            if (checked, stamp) != (self._checked, self._stamp):
                self._reconciler.forget()
                self.readers.forget()
                # Last: until then no reader is told what was reached before.
                self._checked, self._stamp = checked, stamp
                sweep(self.config.git_dir)
            with removal.excluded(self.config.git_dir):
                report = self._reconciler.run(stop)
        except Halted as halted:
            self._check.halt(halted)
            self.readers.wake()
            return NextTurn(delay=_HALTED)
        except (PieholeError, OSError) as error:
            self._log.reconcile_failed(error)
            return NextTurn(retry=True)
        self._check.acted_on(report.revision)
        self.readers.reconciled(report)
        self._log.reconciled(report)
        self._arrivals.reconciled(report)
        self._attempt("log.failed", lambda: self.ref_log.note(self._group_state()))
        self._publisher.add(report)
        self._copies.reconciled(report)
        if report.moved:
            self._tidying.refs_moved()
        return self._after(report)

    def _after(self, report: Report) -> NextTurn:
        if report.deferred:
            delay = min(_DEFERRED * 2 ** min(self._deferred, 10), _DEFERRED_MOST)
            self._deferred += 1
            return NextTurn(delay=delay, then=EVERY)
        self._deferred = 0
        if report.corrupt:
            return NextTurn(delay=_CORRUPT, then=EVERY)
        if report.stuck:
            return NextTurn(retry=True, then=EVERY)
        return NextTurn(delay=None if report.full else _FULL, then=self._publisher.wait())

    def publish(self, _stop: threading.Event) -> NextTurn:
        """Write the ref log, and publish how far this site has replicated, at most once a second."""
        self._attempt("log.failed", self.ref_log.write)
        if self._check.halted is not None:
            return NextTurn()
        if controller_pointer.stamp(self.config.git_dir) != self._stamp:
            self._enqueue()  # what was reconciled is not what is here now
            return NextTurn()
        wait = self._publisher.wait()
        if wait > 0:
            return NextTurn(delay=wait)
        if not self._attempt("progress.failed", self._publisher.publish):
            return NextTurn(retry=True)
        return NextTurn(then=0.0)

    def _still_counts(self) -> bool:
        """Whether what the last reconcile has found still counts: since then nobody had to check this site again, and the repository is the
        one that was reconciled.
        """
        same = self._check.count == self._checked and controller_pointer.stamp(self.config.git_dir) == self._stamp
        return same and self._check.passed()

    def copies_changed(self) -> list[str]:
        """The pushes to other sites whose requests for copies have a turn to come. Called from an informer's thread."""
        return self._copies.changed()

    def look_for_copies(self) -> None:
        """Have the next turn look for held refs that this process does not know."""
        self._copies.look_again()

    def hold_copy(self, push_id: str, stop: threading.Event) -> NextTurn:
        """Hold what a push to another site brings, and say so."""
        try:
            with removal.excluded(self.config.git_dir):
                return self._copies.hold(push_id, stop)
        except Halted as halted:
            self._check.halt(halted)
            return NextTurn(retry=True)

    def settle_copies(self, stop: threading.Event) -> NextTurn:
        """Release what was held for pushes that are over."""
        try:
            return self._copies.settle(stop)
        except (PieholeError, OSError) as error:
            self._log.upkeep_failed("copies.failed", error)
            return NextTurn(retry=True)

    def _check_again_where_due(self) -> None:
        """
        :raises Halted: this site must not act
        :raises EtcdError: nobody knows whether it may
        """
        if self._check.halted is not None:
            raise self._check.halted
        if self._check.view() is None:
            # A reconcile may take long, and it checks only when it begins.
            self._check.run()
            self.readers.forget()
            self._enqueue()

    def _push_at(self, revision: int) -> PushRecord | None:
        return self._replica.reader.push_at(revision, Deadline(_ETCD_TIMEOUT))

    def tidy(self, stop: threading.Event) -> NextTurn:
        """Do what can wait: roll up small packs, expire old kept tips, drop what was asked for, reap tombstones."""
        if self._check.view() is None:
            return NextTurn()
        drops = self.etcd_view.drops(self.config.group)
        return NextTurn(delay=self._tidying.run(self._group_state(), drops, stop))

    def _attempt(self, event: str, work: Callable[[], object]) -> bool:
        """Whether the work succeeded; where it did not, that is logged as ``event``, and the work is tried again some other time."""
        try:
            work()
        except Halted as halted:
            self._check.halt(halted)
            return False
        except (PieholeError, OSError) as error:
            self._log.upkeep_failed(event, error)
            return False
        return True
