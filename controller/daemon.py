"""The controller: finds the repositories of this server, reconciles each one, and answers their hooks.

Starting and stopping have an order. The socket opens before any repository points to it. At the end the socket closes first; then
the informers end, so that no new work comes; then the workers, whose fetches are aborted; then the pointers in the repositories.
"""

from __future__ import annotations

import ctypes
import queue
import random
import resource
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import structlog

from controller.etcd_view import EtcdAddress
from controller.folders import Folders
from controller.health import Health
from controller.heartbeat import Heartbeat
from controller.hook_server import HookServer
from controller.meters import Meters
from controller.registry import Registry
from controller.served_repository import ServedRepository
from controller.systemd import Notifier
from controller.verifier import Verifier
from controller.work_queue import NextTurn, WorkQueue
from controller.worker_pool import WorkerPool
from piehole.errors import PieholeError
from piehole.group.config import Overrides
from piehole.repository.controller_pointer import ControllerPointer
from piehole.transfer.watchdog import Limits

if TYPE_CHECKING:
    from controller.web.server import WebAddress
    from controller.web.service import WebService

_WORKERS: Final = 16
_PUBLISHERS: Final = 2
_HOLDERS: Final = 12
_BACKLOG: Final = 8  # workers that a backlog may take; the others are for fresh pushes
_GIVE_BACK: Final = 60.0  # seconds between two returns of free memory to the system
_RESYNC: Final = 600.0  # seconds; every repository is reconciled this often, also without a change
_M_ARENA_MAX: Final = -8  # <malloc.h>
_ARENAS: Final = 2
_DESCRIPTORS: Final = 65536  # as deploy/ has it
_TICK: Final = 1.0  # seconds between two rounds of the main loop


@dataclass(frozen=True, slots=True)
class Options:
    """What a controller serves, and how.

    :param overrides: settings that override those of every repository (:func:`piehole.group.config.parse`)
    :param scan_every: seconds between two scans of the folders
    :param http: where the page and the metrics are served; None: nowhere, and nothing of them is loaded
    """

    roots: tuple[Path, ...]
    limits: Limits = field(default_factory=Limits)
    overrides: Overrides = field(default_factory=dict)
    scan_every: float = 5.0
    http: WebAddress | None = None


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
        _share_arenas()
        self._ending = False
        self._web: WebService | None = None
        self._crash: BaseException | None = None
        self._log = structlog.get_logger()
        self._notifier = Notifier()
        _allow_descriptors()
        name = ",".join(str(root.resolve()) for root in options.roots)
        self._asked_at = float("-inf")  # when a hook asked last (monotonic seconds)
        meters = Meters() if options.http is not None else None
        self._server = HookServer(name, self._find_for_hook, meters.answered if meters is not None else None)
        self._reconcile_queue = WorkQueue(backlog_limit=_BACKLOG)
        copies_queue = WorkQueue(backlog_limit=_HOLDERS // 2)
        self._registry = Registry(
            Folders(options.roots),
            ControllerPointer(self._server.path, name),
            options.limits,
            options.overrides,
            self._reconcile_queue,
            copies_queue,
            self._crashed,
            lambda: self._ending,
            self._refs_changed if meters is not None else None,
            meters,
        )
        self._heartbeat = Heartbeat(name, self._registry.all_served, self._crashed)
        etcd = options.overrides.get("etcd", "")
        self._verifier = Verifier(
            self._registry.all_served,
            lambda: max(self._asked_at, self._reconcile_queue.fresh_at),
            etcd if isinstance(etcd, str) else ",".join(etcd),
            self._crashed,
        )
        pool = partial(WorkerPool[ServedRepository], find=self._registry.find, stop=self._stop, on_crash=self._crashed)
        publish_queue, tidy_queue = WorkQueue(backlog_limit=_PUBLISHERS), WorkQueue(backlog_limit=1)
        self._pools = (
            pool("reconcile", _WORKERS, self._reconcile_queue, work=self._reconcile, then=publish_queue),
            pool("publish", _PUBLISHERS, publish_queue, work=ServedRepository.publish, then=tidy_queue),
            pool("tidy", 1, tidy_queue, work=ServedRepository.tidy),
            WorkerPool(
                "copies",
                _HOLDERS,
                copies_queue,
                find=self._registry.copies_turn,
                work=lambda turn, stop: turn(stop),
                stop=self._stop,
                on_crash=self._crashed,
            ),
        )
        self._health = Health(
            lambda: [
                ("the hooks' socket", self._server.is_alive),
                ("the heartbeat", self._heartbeat.is_alive),
                ("the verifier", self._verifier.is_alive),
                *((f"the workers of {pool.name}", pool.is_alive) for pool in self._pools),
                *(
                    (f"the watch of {','.join(view.address.etcd)}", view.is_alive)
                    for view in self._registry.all_views()
                ),
                *([("the web server", self._web.is_alive)] if self._web is not None else []),
            ]
        )
        if options.http is not None and meters is not None:
            from controller.web.service import WebService

            self._web = WebService(options.http, self._registry, self._health, meters, self._load, self._crashed)

    def _load(self) -> dict[str, dict[str, tuple[int, float]]]:
        return {pool.name: pool.load() for pool in self._pools}

    def _refs_changed(self, address: EtcdAddress, buckets: set[str]) -> None:
        if self._web is not None:
            self._web.observer.refs_changed(address, buckets)

    def _reconcile(self, served: ServedRepository, stop: threading.Event) -> NextTurn:
        following = served.reconcile(stop)
        if self._web is not None:
            self._web.observer.turned(served)
        return following

    def _find_for_hook(self, key: str) -> ServedRepository | None:
        self._asked_at = time.monotonic()
        return self._registry.find(key)

    def reload(self) -> None:
        """Read every configuration again, soon. Safe to call from a signal handler."""
        self._orders.put("reload")

    def shutdown(self) -> None:
        """End :meth:`run`. Safe to call from a signal handler."""
        self._ending = True
        self._orders.put("end")

    def run(self) -> None:
        """Serve until :meth:`shutdown`.

        :raises PieholeError: a bug has ended a thread; the error is chained
        """
        try:
            for pool in self._pools:
                pool.start()
            self._server.start()
            self._heartbeat.start()
            self._verifier.start()
            if self._web is not None:
                self._web.start()
            self._registry.scan()
            self._health.scanned()
            self._log.info("controller.started", repositories=len(self._registry), socket=str(self._server.path))
            self._report_ready()
            self._serve()
        finally:
            self._end()
        if self._crash is not None:
            raise PieholeError(f"the controller ended because of a bug: {self._crash!r}") from self._crash

    def _serve(self) -> None:
        now = time.monotonic()
        scan, resync, give = now + self._options.scan_every, now + _RESYNC, now + _GIVE_BACK
        while not self._ending:
            self._heartbeat.beat()
            order = self._next_order()
            self._health.beat()
            if not self._health.faults():  # else systemd starts the controller again
                self._notifier.alive()
            if order == "reload":
                self._log.info("controller.reloading")
                self._notifier.reloading()
                self._registry.forget()
            for pool in self._pools:
                pool.replace_slow()
            now = time.monotonic()
            if order == "reload" or now >= scan:
                self._server.look_after()
                self._registry.scan()
                scan = time.monotonic() + self._options.scan_every
                if order == "reload":
                    self._report_ready()
            if now >= give:
                give = now + _GIVE_BACK
                _give_back_memory()
            if now >= resync:
                resync = now + _RESYNC
                self._resync()

    def _report_ready(self) -> None:
        self._notifier.ready(f"{len(self._registry)} repositories")

    def _next_order(self) -> Literal["reload", "end"] | None:
        try:
            return self._orders.get(timeout=min(_TICK, self._options.scan_every))
        except queue.Empty:
            return None

    def _resync(self) -> None:
        for key in self._registry:
            served = self._registry.find(key)
            if served is not None:
                served.check_again()
                # Spread over time, so that it is no burst.
                self._reconcile_queue.add(key, delay=random.uniform(0, _RESYNC / 4))  # noqa: S311 -- jitter, not a secret

    def _end(self) -> None:
        self._log.info("controller.stopping")
        self._notifier.stopping()
        self._stop.set()
        if self._web is not None:
            self._web.stop()
        self._heartbeat.stop()
        self._verifier.stop()
        self._server.stop()
        self._registry.stop()
        for pool in self._pools:
            pool.stop()
        for pool in self._pools:
            pool.join()
        self._verifier.join()
        self._registry.close()
        if self._web is not None:
            self._web.join()
        self._log.info("controller.stopped")

    def _crashed(self, error: BaseException) -> None:
        """End the controller after the crash of a thread: without that thread it would miss changes and not say so."""
        self._log.critical("controller.broken", error=repr(error))
        self._crash = error
        self.shutdown()


def _give_back_memory() -> None:
    """Return free memory to the system, also from between blocks that are in use. It takes milliseconds."""
    _call_libc("malloc_trim", 0)


def _share_arenas() -> None:
    """Have all threads allocate from few arenas; before there are threads.

    By default glibc makes eight for each processor, and memory that one thread has freed in one is not available in another: over some
    ten thousand pushes the controller's forty threads, which all do the same work in turn, kept a third more than they needed.
    """
    _call_libc("mallopt", _M_ARENA_MAX, _ARENAS)


def _allow_descriptors() -> None:
    """Take as many descriptors as this process may have: the soft limit is often 1024, for the sake of programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), hard))


def _call_libc(function: str, *numbers: int) -> None:
    """Call a function of glibc; another libc may lack it, and then nothing happens."""
    try:
        getattr(ctypes.CDLL(None), function)(*numbers)
    except (OSError, AttributeError):
        pass
