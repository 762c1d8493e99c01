"""The controller: finds the repositories of this server, keeps each one at its desired state, answers hooks.

Starting and stopping have an order. The socket opens last, when there is something to answer from, and closes first; then the
informers end, so that no new work comes; then the workers, whose fetches are aborted; then the pointers in the repositories.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from controller.cluster import Address, Cluster
from controller.folders import Folders
from controller.queue import WorkQueue
from controller.served import Served
from controller.server import Server
from piehole import ask, config
from piehole.config import Config
from piehole.errors import PieholeError
from piehole.peers import Health
from piehole.transfer.limits import Limits

_WORKERS: Final = 16
_BACKLOG: Final = 8  # workers that a backlog may take; the others are for fresh pushes
_RESYNC: Final = 600.0  # seconds; every repository is looked at this often, whatever was or was not heard


@dataclass(frozen=True, slots=True)
class Options:
    """``scan_every``: seconds between two looks for repositories that came or went."""

    roots: tuple[Path, ...]
    limits: Limits = field(default_factory=Limits)
    scan_every: float = 5.0


class Controller:
    """One controller of this server."""

    def __init__(self, options: Options) -> None:
        """
        :raises PieholeError: there is no directory for the socket
        """
        self._options = options
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._reload = False
        self._log = structlog.get_logger()
        self._queue = WorkQueue(backlog_limit=_BACKLOG)
        self._health = Health()
        self._served: dict[str, Served] = {}
        self._clusters: dict[Address, Cluster] = {}
        self._folders = Folders(options.roots)
        self._complaints: dict[str, str] = {}
        self._server = Server(",".join(str(root.resolve()) for root in options.roots), self._served.get)

    def reload(self) -> None:
        """Read every configuration anew, soon. Safe to call from a signal handler."""
        self._reload = True
        self._wake.set()

    def shutdown(self) -> None:
        """End :meth:`run`. Safe to call from a signal handler."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Serve until :meth:`shutdown`."""
        workers = [threading.Thread(target=self._work, name=f"worker {n}") for n in range(_WORKERS)]
        for worker in workers:
            worker.start()
        try:
            self._scan()
            self._server.start()
            self._log.info("controller.started", repositories=len(self._served), socket=str(self._server.path))
            self._keep_scanning()
        finally:
            self._log.info("controller.stopping")
            self._stop.set()
            self._server.stop()
            for cluster in self._clusters.values():
                cluster.stop()
            self._queue.stop()
            for worker in workers:
                worker.join()
            for served in self._served.values():
                self._unpoint(served.config.git_dir)
            self._log.info("controller.stopped")

    def _keep_scanning(self) -> None:
        resync = time.monotonic() + _RESYNC
        while not self._stop.is_set():
            self._wake.wait(self._options.scan_every)
            self._wake.clear()
            if self._stop.is_set():
                return
            if self._reload:
                self._reload = False
                self._log.info("controller.reloading")
                self._folders.forget()
            self._scan()
            if time.monotonic() > resync:
                resync = time.monotonic() + _RESYNC
                for key in self._served:
                    self._queue.add(key, delay=random.uniform(0, _RESYNC / 4))  # noqa: S311 -- spreads load, hides nothing

    def _scan(self) -> None:
        """Serve what is there, leave what is gone, start anew what was configured otherwise."""
        found = self._folders.look()
        for key in [key for key in self._served if key not in found.present]:
            self._leave(key)
        for git_dir in found.changed:
            key = str(git_dir)
            try:
                fresh = config.load(git_dir)
                self._complaints.pop(key, None)
            except PieholeError as error:
                self._complain(key, str(error))
                continue
            served = self._served.get(key)
            if served is not None and served.config == fresh:
                continue
            if served is not None:
                self._leave(key)
            self._serve(key, fresh)

    def _serve(self, key: str, fresh: Config) -> None:
        address = Address.of(fresh)
        twin = next(
            (
                other
                for other, served in self._served.items()
                if (Address.of(served.config), served.config.group, served.config.site)
                == (address, fresh.group, fresh.site)
            ),
            None,
        )
        if twin is not None:
            self._complain(
                key,
                f"it is the site {fresh.site!r} of the group {fresh.group!r}, and so is {twin}: give one of them another site name",
            )
            self._folders.forget(fresh.git_dir)  # looked at again, in case the other one goes
            return
        try:
            cluster = self._clusters.get(address) or self._connect(address)
            served = Served(
                fresh, cluster, self._health, self._options.limits, lambda: self._queue.add(key, fresh=True)
            )
            served.local.repository.check_owner()
            self._point(fresh.git_dir)
        except (PieholeError, OSError) as error:
            self._complain(key, str(error))
            return
        self._served[key] = served
        self._log.info("repository.served", repository=key, group=fresh.group, site=fresh.site)
        self._queue.add(key)

    def _connect(self, address: Address) -> Cluster:
        cluster = Cluster(
            address,
            on_change=lambda groups, fresh: self._changed(address, groups, fresh),
            on_connect=lambda: self._changed(address, None, False),
        )
        self._clusters[address] = cluster
        cluster.start()
        return cluster

    def _changed(self, address: Address, groups: set[str] | None, fresh: bool) -> None:
        """Enqueue the repositories of these groups (None: of all). Called from an informer's thread."""
        for key, served in list(self._served.items()):
            if served.cluster.address == address and (groups is None or served.config.group in groups):
                self._queue.add(key, fresh=fresh)

    def _leave(self, key: str) -> None:
        served = self._served.pop(key)
        self._queue.drop(key)
        self._unpoint(served.config.git_dir)
        self._log.info("repository.left", repository=key)
        address = served.cluster.address
        if not any(other.cluster.address == address for other in self._served.values()):
            self._clusters.pop(address).stop()

    def _complain(self, key: str, why: str) -> None:
        """Say once, not at each scan, why a repository is not served."""
        if self._complaints.get(key) != why:
            self._complaints[key] = why
            self._log.error("repository.refused", repository=key, reason=why)

    def _point(self, git_dir: Path) -> None:
        """Tell the repository's hooks where to ask."""
        pointer = git_dir / ask.POINTER
        scratch = pointer.with_name(f"{pointer.name}.{os.getpid()}.tmp")
        scratch.write_text(f"{self._server.path}\n")
        scratch.chmod(0o644)
        scratch.replace(pointer)

    def _unpoint(self, git_dir: Path) -> None:
        pointer = git_dir / ask.POINTER
        try:
            # Another controller may have taken the repository over meanwhile.
            if pointer.read_text().strip() == str(self._server.path):
                pointer.unlink()
        except OSError:  # the repository itself is gone
            pass

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            try:
                self._turn(key)
            except Exception:  # noqa: BLE001 -- a bug in one repository's turn must not end the worker; it is told in full
                self._log.exception("turn.crashed", repository=key)
                self._queue.retry(key)
            finally:
                self._queue.done(key)

    def _turn(self, key: str) -> None:
        served = self._served.get(key)
        if served is None:
            return
        following = served.turn(self._stop)
        if following.retry:
            self._queue.retry(key)
            return
        self._queue.forget(key)
        if following.delay is not None:
            self._queue.add(key, delay=following.delay)
