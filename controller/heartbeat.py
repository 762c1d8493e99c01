"""Says regularly in etcd that this controller lives, whatever the number of its repositories."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final

import structlog

from controller.etcd_view import EtcdAddress, EtcdView
from controller.served_repository import ServedRepository
from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.fastpath import processes
from piehole.group import alive
from piehole.group.alive import Presence

_ETCD_TIMEOUT: Final = 5.0  # seconds


class Heartbeat:
    """Its thread gives a sign of life when the main loop beats: where that hangs, nothing is said.

    :param name: what tells this controller from others of the same account
    :param served: the repositories that are served now
    :param on_crash: called with an error that has ended the thread
    """

    def __init__(
        self, name: str, served: Callable[[], Iterable[ServedRepository]], on_crash: Callable[[BaseException], None]
    ) -> None:
        self._controller = _identity(name)
        self._served = served
        self._on_crash = on_crash
        self._presences: dict[EtcdAddress, Presence] = {}
        self._trouble: dict[EtcdAddress, str] = {}
        self._beaten_at = float("-inf")
        self._due = threading.Event()
        self._ending = False
        self._log = structlog.get_logger()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def beat(self) -> None:
        """Call this from the main loop, as often as it likes."""
        if time.monotonic() - self._beaten_at >= alive.EVERY:
            self._beaten_at = time.monotonic()
            self._due.set()

    def stop(self) -> None:
        self._ending = True
        self._due.set()

    def _run(self) -> None:
        try:
            while True:
                self._due.wait()
                self._due.clear()
                if self._ending:
                    return
                self._give_signs()
        except BaseException as error:  # noqa: BLE001 -- without this thread the site would look dead
            self._on_crash(error)

    def _give_signs(self) -> None:
        views: dict[EtcdAddress, EtcdView] = {}
        serves: dict[EtcdAddress, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for one in self._served():
            address = one.etcd_view.address
            views[address] = one.etcd_view
            serves[address][one.config.site].add(one.config.site_id)
        for address, view in views.items():
            if address not in self._presences:
                self._presences[address] = Presence(view.etcd, view.keyspace, self._controller)
            try:
                self._presences[address].give(serves[address], Deadline(_ETCD_TIMEOUT))
                self._trouble.pop(address, None)
            except PieholeError as error:
                # It is tried for as long as etcd is away: the same error is logged once.
                if self._trouble.get(address) != str(error):
                    self._log.warning("heartbeat.failed", etcd=",".join(address.etcd), error=str(error))
                self._trouble[address] = str(error)


def _identity(name: str) -> str:
    """A name of this controller that it has after a restart, too, and no other one anywhere."""
    return sha256(f"{processes.machine()}\n{os.geteuid()}\n{name}".encode()).hexdigest()[:16]
