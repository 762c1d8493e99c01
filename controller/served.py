"""One repository as the controller serves it: what is known of its standing, and one turn of work on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from controller.cluster import Cluster
from piehole import once, progress, standing
from piehole.admission import Admission
from piehole.config import Config
from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdUnreachable, Halted, PieholeError
from piehole.etcd.model import KeyValue
from piehole.judge import Command
from piehole.local import Local
from piehole.peers import Health
from piehole.readout import Readout
from piehole.reaping import reap
from piehole.reconcile import Reconciler, Report
from piehole.sources import Linearizable
from piehole.supply import Supply
from piehole.transfer import maintenance
from piehole.transfer.hold import sweep
from piehole.transfer.limits import Limits

_PATIENCE: Final = 5.0  # seconds for each question to etcd
_PUBLISH_EVERY: Final = 1.0  # seconds between two progress records of one repository
_LOOK_AGAIN: Final = 0.03  # seconds until a ref that a push holds is looked at again
_HALTED_LOOK: Final = 30.0  # seconds until a halted site asks again whether a person has decided
_TIDY_EVERY: Final = 3600.0  # seconds between looks at kept tips
_REAP_EVERY: Final = 60.0  # seconds between looks at tombstones


@dataclass(frozen=True, slots=True)
class Next:
    """When to look at the repository again: ``retry`` with growing delay, else after ``delay`` seconds, else when told."""

    retry: bool = False
    delay: float | None = None


class Served:
    """One at a time works on it (the queue sees to that); hooks' questions come in beside that at any time."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        health: Health,
        limits: Limits,
        nudge: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param nudge: has this repository reconciled soon, before any backlog
        """
        self.config = config
        self.cluster = cluster
        self._clock = clock
        self._nudge = nudge
        self._log = structlog.get_logger(repository=str(config.git_dir), group=config.group, site=config.site)
        self.local = Local.of(config, cluster.etcd)
        self._source = Cached(self)
        self.admission = Admission(config, self.local.repository, self.local.swapper, self._source)
        supply = Supply(self.local, health, limits=limits)
        self._reconciler = Reconciler(self.local, supply, lambda: cluster.view(config.group))
        self._checked_in = -1
        self._group: KeyValue | None = None
        self._halted: Halted | None = None
        self._published_at = float("-inf")
        self._tidied_at = float("-inf")
        self._reaped_at = clock()
        self.report: Report | None = None
        self.trouble = ""

    @property
    def halted(self) -> Halted | None:
        return self._halted

    def standing(self) -> KeyValue | None:
        """The group's record as it was when this site's standing was last found good; None where it is not known now."""
        if self._checked_in != self.cluster.epoch or self._halted is not None:
            return None
        return self._group

    def nudge(self) -> None:
        self._nudge()

    def describe(self) -> list[str]:
        """What `piehole status` asks: one line each, ``WORD REST``."""
        lines = [f"halted {self._halted.token} {self._halted}"] if self._halted else []
        lines += [f"trouble {' '.join(self.trouble.split())}"] if self.trouble else []
        if self.report is not None:
            lines.append(f"revision {self.report.revision}")
            lines += [f"stuck {ref} {' '.join(why.split())}" for ref, why in self.report.stuck.items()]
        return lines

    def turn(self, stop: threading.Event) -> Next:
        """One turn of work: check the standing where that is due, reconcile, publish, tidy up.

        Faults of this repository end here, in its log and its next turn.
        """
        try:
            self._check_standing()
            report = self._reconciler.run(stop)
        except Halted as halted:
            if self._halted is None or str(halted) != str(self._halted):
                self._log.error("site.halted", token=halted.token, reason=str(halted))
            self._halted = halted
            return Next(delay=_HALTED_LOOK)
        except (PieholeError, OSError) as error:
            self._trouble(error)
            return Next(retry=True)
        self.trouble = ""
        self._tell(report)
        self.report = report
        if report.deferred:
            return Next(delay=_LOOK_AGAIN)
        if report.stuck:
            return Next(retry=True)
        return self._after(report, stop)

    def _check_standing(self) -> None:
        epoch = self.cluster.epoch
        if self._checked_in == epoch and self._halted is None:
            return
        readout = progress.check(self.local, Deadline(_PATIENCE))
        if self._halted is not None:
            self._log.info("site.resumed")
        # A view from before this check may be of another etcd's past: only one that has reached it may be acted on.
        if not self.cluster.informer.wait_for(self._newest(readout), Deadline(_PATIENCE)):
            raise EtcdUnreachable("the watch of the refs has not caught up with etcd yet")
        self._group = readout.group
        self._halted = None
        self._checked_in = epoch
        sweep(self.config.git_dir)

    def _newest(self, readout: Readout) -> int:
        """The newest revision that the readout proves to be in the watched range."""
        return max((kv.mod_revision for kv in readout.entries.values()), default=0)

    def _after(self, report: Report, stop: threading.Event) -> Next:
        """What follows a reconcile that left everything in step."""
        wait = self._published_at + _PUBLISH_EVERY - self._clock()
        known = standing.load(self.config.git_dir).published
        if known is None or report.newest > known.revision:
            if wait > 0:
                return Next(delay=wait)
            self._published_at = self._clock()
            if not self._guarded("progress.failed", lambda: once.publish(self.local, report)):
                return Next(retry=True)
        self._tidy(stop)
        return Next()

    def _tidy(self, stop: threading.Event) -> None:
        repository = self.local.repository
        now = self._clock()
        if maintenance.due(self.config.git_dir):
            self._guarded("maintenance.failed", lambda: maintenance.maintain(self.config.git_dir, stop=stop))
        if now - self._tidied_at > _TIDY_EVERY:
            self._tidied_at = now
            self._guarded("expiry.failed", lambda: repository.expire_kept(repository.expiry()))
        if now - self._reaped_at > _REAP_EVERY:
            self._reaped_at = now
            self._guarded("reaping.failed", lambda: reap(self.local, Deadline(_PATIENCE)))

    def _guarded(self, event: str, work: Callable[[], object]) -> bool:
        """Whether it went well. These are not the reconcile itself: what fails is tried again some other time."""
        try:
            work()
        except Halted as halted:
            self._halted = halted
            self._log.error("site.halted", token=halted.token, reason=str(halted))
            return False
        except (PieholeError, OSError) as error:
            self._log.warning(event, error=str(error))
            return False
        return True

    def _trouble(self, error: Exception) -> None:
        text = str(error)
        # etcd's absence is told once by the informer, not by each of a thousand repositories at each try.
        log = self._log.debug if isinstance(error, EtcdError) else self._log.warning
        log("reconcile.failed", error=text, kind=type(error).__name__)
        self.trouble = text

    def _tell(self, report: Report) -> None:
        if report.quiet and not (report.locked and (self.report is None or self.report.locked != report.locked)):
            return
        # A ref in a push's hands is nothing to report: that push moves it, and this repository is looked at again at once.
        working = report.moved or report.head or report.stuck or report.locked
        self._log.log(
            30 if report.stuck else 20 if working else 10,
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


class Cached(Linearizable):
    """The informer's view first, which costs nothing; a linearizable read where that one would refuse."""

    def __init__(self, served: Served) -> None:
        super().__init__(served.local, served.nudge)
        self._served = served

    def readouts(self, commands: Sequence[Command], deadline: Deadline) -> Iterator[Readout]:
        record = self._served.standing()
        if record is not None:
            yield self._served.cluster.view(self._served.config.group, record)
        yield from super().readouts(commands, deadline)

    def halted(self, readout: Readout) -> Halted | None:
        if readout.from_view:  # it was only used because the standing is known to be good
            return None
        return super().halted(readout)
