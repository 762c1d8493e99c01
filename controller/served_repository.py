"""One repository as the controller serves it: what is known of its standing, and one turn of work on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from controller.etcd_view import EtcdView
from controller.ref_log_writer import Past, RefLogWriter
from controller.tidying import Tidying
from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdUnreachable, Halted, PieholeError
from piehole.etcd.model import KeyValue
from piehole.group import keys, progress, rollback_guard
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.push.admission import Admission
from piehole.push.consensus_source import CachedSource
from piehole.refs import zero
from piehole.replicate import once
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.incremental import Changed
from piehole.replicate.peers import PeerHealth
from piehole.replicate.reconcile import Reconciler, Report
from piehole.repository.stale_locks import StaleLockMonitor
from piehole.transfer.keep_files import sweep
from piehole.transfer.watchdog import Limits

_PATIENCE: Final = 5.0  # seconds for each question to etcd
_OWN: Final = 0.3  # seconds until a push that went through this site is followed up
_WHOLE: Final = 5.0  # seconds until all refs are looked at, after those that have changed were
_PUBLISH_EVERY: Final = 1.0  # seconds between two progress records of one repository
_LOOK_AGAIN: Final = 0.03  # seconds until a ref that a push holds is looked at again, doubled each time
_LOOK_LATEST: Final = 1.0
_HALTED_LOOK: Final = 1.0  # seconds until a halted site looks whether a person has decided, and
_HALTED_ASK: Final = 30.0  # seconds until it asks etcd again, though nothing seems to have changed
_NEVER: Final = (0, 0, 0, 0.0)  # has a halted site looked


@dataclass(frozen=True, slots=True)
class NextTurn:
    """When to come back: ``retry`` with growing delay, else after ``delay`` seconds, else when told.

    ``then``: seconds after which the next lane of work has something to do for this repository; None: nothing.
    """

    retry: bool = False
    delay: float | None = None
    then: float | None = None


class ServedRepository:
    """Three lanes of work, each for one worker at a time: ``reconcile``, which must be quick, ``publish`` and ``tidy``.

    Hooks' questions come in beside that at any time.
    """

    def __init__(
        self,
        config: Config,
        cluster: EtcdView,
        health: PeerHealth,
        limits: Limits,
        nudge: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param nudge: has this repository reconciled soon, before any backlog
        """
        self.config = config
        self.cluster = cluster
        self.lookout = StaleLockMonitor(config.git_dir)
        self.replica = Replica.of(config, cluster.etcd)
        source = CachedSource(self.replica, nudge, self.view)
        self.admission = Admission(self.replica, source)
        self.trouble = ""
        self._clock = clock
        self._log = structlog.get_logger(repository=str(config.git_dir), group=config.group, site=config.site)
        self._reconciler = Reconciler(
            self.replica,
            ObjectFetcher(self.replica, health, limits=limits, failed=self._tell_peer),
            lambda: cluster.view(config.group),
            lambda: cluster.view(config.group).revision,
            self._changed,
        )
        self._peers: dict[str, str] = {}  # what was last said of a peer that failed
        self._chronicle = RefLogWriter(config.git_dir, zero(config.object_format), self._push_at, self._past)
        self._tidying = Tidying(self.replica, self._guarded, clock)
        self._checked_in = -1
        self._fence = 0  # of the group, when the standing was last found good
        self._group: KeyValue | None = None  # both records as they were when the standing was last found good
        self._site: KeyValue | None = None
        self._halted: Halted | None = None
        self._halted_since = 0.0  # by this process's clock
        self._halted_at: tuple[int, int, int, float] = _NEVER
        self._deferred = 0  # turns in a row
        self._seen = 0  # the newest revision that this process has acted on, and the state on disk at that time
        self._seen_stamp = rollback_guard.stamp(config.git_dir)
        self._report: Report | None = None
        self._converged: Report | None = None  # the newest that was
        self._published_at = float("-inf")
        self._vouched = 0  # the newest change of the group that the last progress record came after

    def _changed(self, revision: int) -> Changed:
        return self.cluster.changed(self.config.group, revision)

    def _past(self, revision: int) -> Past:
        return self.cluster.changes(self.config.group, revision)

    def view(self) -> GroupState | None:
        """The group's keys as the informer has them, for a push; None where this site's standing is not known to be good now."""
        if self._checked_in != self.cluster.epoch or self._halted is not None:
            return None
        return self.cluster.view(self.config.group, self._group, self._site)

    def doubt(self) -> None:
        """Have the next turn check the standing again, whatever was found before."""
        self._checked_in = -1

    def describe(self) -> list[str]:
        """What `piehole status` asks: one line each, ``WORD REST``."""
        halted, report = self._halted, self._report
        lines = [f"halted {halted.token} {halted}"] if halted else []
        lines += [f"trouble {' '.join(self.trouble.split())}"] if self.trouble else []
        if report is not None:
            lines.append(f"revision {report.revision}")
            lines += [f"stuck {ref} {' '.join(why.split())}" for ref, why in report.stuck.items()]
        return lines

    # ---- the first lane

    def reconcile(self, stop: threading.Event) -> NextTurn:
        """Check the standing where that is due, and reconcile. Faults of this repository end here, in its log and its next turn."""
        if self._still_halted():
            return NextTurn(delay=_HALTED_LOOK)
        try:
            self._check_standing()
            report = self._reconciler.run(stop)
        except Halted as halted:
            self._halt(halted)
            return NextTurn(delay=_HALTED_LOOK)
        except (PieholeError, OSError) as error:
            self._trouble(error)
            return NextTurn(retry=True)
        self.trouble = ""
        self._remember(report.revision)
        self._tell(report)
        self._report = report
        return self._after(report)

    def patience(self) -> float:
        """Seconds for which the group's newest change can wait. One that was pushed here moves its ref here itself, so what is left is
        to publish that; meanwhile the other sites fetch from this one. Called from an informer's thread.
        """
        push = PushRecord.of(self.cluster.newest_push(self.config.group))
        return _OWN if push is not None and push.site == self.config.site else 0.0

    def _chronicle_see(self) -> None:
        self._guarded("log.failed", lambda: self._chronicle.see(self.cluster.view(self.config.group)))

    def _after(self, report: Report) -> NextTurn:
        self._chronicle_see()
        if report.deferred:
            delay = min(_LOOK_AGAIN * 2 ** min(self._deferred, 10), _LOOK_LATEST)
            self._deferred += 1
            return NextTurn(delay=delay, then=_PUBLISH_EVERY)
        self._deferred = 0
        if report.stuck:
            return NextTurn(retry=True, then=_PUBLISH_EVERY)
        self._converged = report
        then = max(0.0, self._published_at + _PUBLISH_EVERY - self._clock())
        return NextTurn(delay=None if report.full else _WHOLE, then=then)

    def _still_halted(self) -> bool:
        """Whether nothing has happened since the site was halted that could have ended it."""
        if self._halted is None:
            return False
        now = (
            self.cluster.epoch,
            self.cluster.view(self.config.group).revision,
            rollback_guard.stamp(self.config.git_dir),
        )
        if now == self._halted_at[:3] and self._clock() < self._halted_at[3]:
            return True
        self._halted_at = (*now, self._clock() + _HALTED_ASK)
        return False

    def _check_standing(self) -> None:
        epoch = self.cluster.epoch
        # Who registers a site, or makes one leave, writes the fence, too: another machine may have this one's name now.
        fence = self.cluster.view(self.config.group).mod(keys.FENCE)
        if (self._checked_in, self._fence) == (epoch, fence) and self._halted is None:
            return
        # A person's decision is written to the state on disk, and ends what this process remembers of etcd.
        seen = self._seen if rollback_guard.stamp(self.config.git_dir) == self._seen_stamp else 0
        state = progress.check(self.replica, Deadline(_PATIENCE), seen=seen)
        # A view from before this check may be of another etcd's past: only one that has reached it may be acted on.
        if not self.cluster.informer.wait_for(self._newest(state), Deadline(_PATIENCE)):
            raise EtcdUnreachable("the watch of the refs has not caught up with etcd yet")
        if self._halted is not None:
            if not self.cluster.was_listed_since(self._halted_since):
                self._halted_at = _NEVER
                raise EtcdUnreachable("the refs are listed anew, since this site was halted")
            self._log.info("site.resumed")
        self._group, self._site = state.group, state.site
        self._halted = None
        self._checked_in, self._fence = epoch, fence
        self._remember(state.revision, anew=True)
        self._reconciler.forget()
        sweep(self.config.git_dir)

    def _remember(self, revision: int, *, anew: bool = False) -> None:
        self._seen = revision if anew else max(self._seen, revision)
        self._seen_stamp = rollback_guard.stamp(self.config.git_dir)

    def _newest(self, state: GroupState) -> int:
        """The newest revision that the state proves to be in the watched range."""
        return max((kv.mod_revision for kv in state.entries.values()), default=0)

    # ---- the second lane

    def publish(self, _stop: threading.Event) -> NextTurn:
        """Write down what was seen and publish how far this site has come, at most once a second."""
        self._guarded("log.failed", self._chronicle.write)
        last, converged = self._report, self._converged
        if last is None or self._halted is not None:
            return NextTurn()
        wait = self._published_at + _PUBLISH_EVERY - self._clock()
        if wait > 0:
            return NextTurn(delay=wait)
        known = rollback_guard.load(self.config.git_dir).published
        publish: Callable[[], object] | None = None
        if converged is not None and (known is None or converged.newest > known.revision):
            publish = partial(once.publish, self.replica, converged)
        elif known is not None and last.newest > max(known.revision, self._vouched):
            # Something keeps the progress back, and pushes go on: a backup of etcd must be recognised all the same.
            publish = partial(progress.republish, self.replica, Deadline(_PATIENCE))
        if publish is not None:
            self._published_at = self._clock()
            if not self._guarded("progress.failed", publish):
                return NextTurn(retry=True)
            self._vouched = last.newest
            self._remember(last.revision)
        return NextTurn(then=0.0)

    def _push_at(self, revision: int) -> PushRecord | None:
        return self.replica.reader.push_at(revision, Deadline(_PATIENCE))

    # ---- the third lane

    def tidy(self, stop: threading.Event) -> NextTurn:
        """What can wait: roll up small packs, let go of old kept tips, reap tombstones."""
        if self.view() is None:
            return NextTurn()
        return NextTurn(delay=self._tidying.run(self.cluster.view(self.config.group), stop))

    # ---- what is told

    def _guarded(self, event: str, work: Callable[[], object]) -> bool:
        """Whether it went well. These are not the reconcile itself: what fails is tried again some other time."""
        try:
            work()
        except Halted as halted:
            self._halt(halted)
            return False
        except (PieholeError, OSError) as error:
            log = self._log.debug if isinstance(error, EtcdError) else self._log.warning
            log(event, error=str(error))
            return False
        return True

    def _halt(self, halted: Halted) -> None:
        if self._halted is None or str(halted) != str(self._halted):
            self._log.error("site.halted", token=halted.token, reason=str(halted))
            self._halted_since = time.monotonic()
        self._halted = halted

    def _trouble(self, error: Exception) -> None:
        text = str(error)
        # etcd's absence is told once by the informer, not by each of a thousand repositories at each try.
        log = self._log.debug if isinstance(error, EtcdError) or text == self.trouble else self._log.warning
        log("reconcile.failed", error=text, kind=type(error).__name__)
        self.trouble = text

    def _tell_peer(self, site: str, why: str) -> None:
        """Once for each reason: such a peer is asked again and again."""
        if self._peers.get(site) != why:
            self._log.warning("peer.failed", peer=site, reason=why)
        self._peers[site] = why

    def _tell(self, report: Report) -> None:
        known = self._report
        # What stays as it was is told once, not at each of its retries.
        trouble = (report.stuck, report.locked) != ((known.stuck, known.locked) if known else ({}, {}))
        news = bool(report.moved or report.head or trouble)
        # A ref in a push's hands is nothing to report: that push moves it, and this repository is looked at again at once.
        if not news and not report.deferred:
            return
        self._log.log(
            10 if not news else 30 if report.stuck else 20,
            "reconcile",
            revision=report.revision,
            moved=len(report.moved),
            refs=list(report.moved)[:5],
            peer=",".join(report.peers),
            bytes=report.bytes,
            ms=round(report.seconds * 1000, 1),
            **({"stuck": dict(list(report.stuck.items())[:5])} if report.stuck else {}),
            **({"locked": list(report.locked)[:5]} if report.locked else {}),
            **({"deferred": list(report.deferred)[:5]} if report.deferred else {}),
            **({"kept": list(report.kept)[:5]} if report.kept else {}),
            **({"head": report.head} if report.head else {}),
        )
