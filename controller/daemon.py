"""The controller: finds the repositories of this server, keeps each one at its desired state, answers hooks.

Starting and stopping have an order. The socket opens before any repository points to it. At the end the socket closes first; then
the informers end, so that no new work comes; then the workers, whose fetches are aborted; then the pointers in the repositories.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog

from controller.folders import Folders
from controller.hook_server import HookServer
from controller.memory import give_back, share_arenas
from controller.registry import Registry
from controller.served_repository import NextTurn, ServedRepository
from controller.systemd import Notifier
from controller.worker_pool import WorkerPool
from piehole.errors import PieholeError
from piehole.group.config import Overrides
from piehole.transfer.watchdog import Limits

_WORKERS: Final = 16
_BACKLOG: Final = 8  # workers that a backlog may take; the others are for fresh pushes
_GIVE_BACK: Final = 60.0  # seconds between two times that free memory is given back
_RESYNC: Final = 600.0  # seconds; every repository is looked at this often, whatever was or was not heard
_TICK: Final = 1.0  # seconds between two looks at the workers


@dataclass(frozen=True, slots=True)
class Options:
    """What a controller serves, and how.

    :param overrides: settings that count for every repository (:func:`piehole.group.config.parse`)
    :param scan_every: seconds between two looks for repositories that came or went
    """

    roots: tuple[Path, ...]
    limits: Limits = field(default_factory=Limits)
    overrides: Overrides = field(default_factory=dict)
    scan_every: float = 5.0


class Controller:
    """One controller of this server."""

    def __init__(self, options: Options) -> None:
        """
        :raises PieholeError: there is no directory for the socket, or another controller serves these folders
        """
        self._options = options
        self._stop = threading.Event()
        # A put from within a signal handler is safe (a SimpleQueue is reentrant); setting an Event there may deadlock.
        self._orders: queue.SimpleQueue[Literal["reload", "end"]] = queue.SimpleQueue()
        share_arenas()
        self._ending = False
        self._death: BaseException | None = None
        self._log = structlog.get_logger()
        self._tidying = WorkerPool("tidy", 1, 1, self._tidy, self._died)
        self._reporting = WorkerPool("report", 2, 2, self._report, self._died, then=self._tidying)
        self._reconciling = WorkerPool(
            "reconcile", _WORKERS, _BACKLOG, self._reconcile, self._died, then=self._reporting
        )
        self._lanes = (self._reconciling, self._reporting, self._tidying)
        self._notifier = Notifier()
        self._server = HookServer(",".join(str(root.resolve()) for root in options.roots), self._find)
        self._roster = Registry(
            Folders(options.roots),
            self._server.path,
            options.limits,
            options.overrides,
            lambda key, fresh, delay: self._reconciling.queue.add(key, fresh=fresh, delay=delay),
            self._died,
            lambda: self._ending,
        )

    def reload(self) -> None:
        """Read every configuration anew, soon. Safe to call from a signal handler."""
        self._orders.put("reload")

    def shutdown(self) -> None:
        """End :meth:`run`. Safe to call from a signal handler."""
        self._ending = True
        self._orders.put("end")

    def run(self) -> None:
        """Serve until :meth:`shutdown`.

        :raises PieholeError: a thread has died of a bug; what it was is chained
        """
        try:
            for lane in self._lanes:
                lane.start()
            self._server.start()
            self._roster.scan()
            self._log.info("controller.started", repositories=len(self._roster), socket=str(self._server.path))
            self._tell_ready()
            self._serve()
        finally:
            self._end()
        if self._death is not None:
            raise PieholeError(f"the controller ended because of a bug: {self._death!r}") from self._death

    def _serve(self) -> None:
        now = time.monotonic()
        scan, resync, give = now + self._options.scan_every, now + _RESYNC, now + _GIVE_BACK
        while not self._ending:
            order = self._next_order()
            self._notifier.alive()
            if order == "reload":
                self._log.info("controller.reloading")
                self._notifier.reloading()
                self._roster.forget()
            for lane in self._lanes:
                lane.relieve()
            now = time.monotonic()
            if order == "reload" or now >= scan:
                self._roster.scan()
                scan = time.monotonic() + self._options.scan_every
                if order == "reload":
                    self._tell_ready()
            if now >= give:
                give = now + _GIVE_BACK
                give_back()
            if now >= resync:
                resync = now + _RESYNC
                self._resync()

    def _tell_ready(self) -> None:
        self._notifier.ready(f"{len(self._roster)} repositories")

    def _next_order(self) -> Literal["reload", "end"] | None:
        try:
            return self._orders.get(timeout=min(_TICK, self._options.scan_every))
        except queue.Empty:
            return None

    def _resync(self) -> None:
        for key in self._roster:
            served = self._roster.find(key)
            if served is not None:
                served.doubt()
                # Spread over time, so that it is no burst.
                self._reconciling.queue.add(key, delay=random.uniform(0, _RESYNC / 4))  # noqa: S311

    def _end(self) -> None:
        self._log.info("controller.stopping")
        self._notifier.stopping()
        self._stop.set()
        self._server.stop()
        self._roster.stop()
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.join()
        self._roster.close()
        self._log.info("controller.stopped")

    def _died(self, error: BaseException) -> None:
        """A thread that nobody waits for has ended: better no controller than one that is deaf and does not say so."""
        self._log.critical("controller.broken", error=repr(error))
        self._death = error
        self.shutdown()

    # ---- the work of the lanes, and of the server

    def _find(self, key: str) -> ServedRepository | None:
        return self._roster.find(key)

    def _reconcile(self, key: str) -> NextTurn | None:
        served = self._roster.find(key)
        return None if served is None else served.turn(self._stop)

    def _report(self, key: str) -> NextTurn | None:
        served = self._roster.find(key)
        return None if served is None else served.report(self._stop)

    def _tidy(self, key: str) -> NextTurn | None:
        served = self._roster.find(key)
        return None if served is None else served.tidy(self._stop)
