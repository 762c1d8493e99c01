"""All that the controller serves over HTTP: its routes, what they show, and the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from controller.health import Health
from controller.meters import Meters
from controller.observer import Observer
from controller.registry import Registry
from controller.web.page import StatusPage
from controller.web.routes import RouteTable, WebRequest, WebResponse
from controller.web.scrape import Load, Scrape
from controller.web.server import WebAddress, WebServer
from piehole.repository.fitness import git_version

_CONTACT: Final = 30.0  # seconds without etcd after which this server is not ready


class WebService:
    """
    :param load: gives the lanes of each work queue
    :param on_crash: called with an error that has ended a thread
    """

    def __init__(
        self,
        address: WebAddress,
        registry: Registry,
        health: Health,
        meters: Meters,
        load: Load,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        """
        :raises PieholeError: it cannot listen at this address
        """
        self._registry = registry
        self._health = health
        self.observer = Observer(registry, on_crash, meters.arrived)
        self.routes = RouteTable()
        self.routes.add("/healthz", self._healthz)
        self.routes.add("/readyz", self._readyz)
        scrape = Scrape(self.observer, registry, meters, load, ".".join(map(str, git_version())))
        self.routes.add("/metrics", scrape.answer)
        StatusPage(self.observer.overview, self.observer.wait, registry.find).add_to(self.routes)
        self._server = WebServer(address, self.routes)

    @property
    def is_alive(self) -> bool:
        return self._server.is_alive and self.observer.is_alive

    def start(self) -> None:
        self.observer.start()
        self._server.start()

    def stop(self) -> None:
        self.observer.stop()
        self._server.stop()

    def join(self) -> None:
        """Wait for the threads; after :meth:`stop`, and after the connections to etcd were closed."""
        self.observer.join()

    def _healthz(self, _request: WebRequest) -> WebResponse:
        """Whether the threads of this process live. A restart helps where they do not."""
        return _verdict(self._health.faults())

    def _readyz(self, _request: WebRequest) -> WebResponse:
        """Whether this controller serves: all folders were scanned, and each etcd was listed and gives signs of life."""
        faults = self._health.faults()
        if not self._health.has_scanned:
            faults.append("the folders are being scanned for the first time")
        for view in self._registry.all_views():
            status, etcd = view.informer.status(), ",".join(view.address.etcd)
            if not view.informer.synced.is_set():
                faults.append(f"the refs in etcd at {etcd} were not listed yet: {status.error or 'it has just begun'}")
            elif not status.connected and time.monotonic() - (status.last_contact or 0) > _CONTACT:
                faults.append(f"etcd at {etcd} gives no sign of life: {status.error}")
        return _verdict(faults)


def _verdict(faults: list[str]) -> WebResponse:
    if not faults:
        return WebResponse.text("ok")
    return WebResponse.text("\n".join(faults), HTTPStatus.SERVICE_UNAVAILABLE)
