"""The HTTP connections of one transfer: bounded, without redirects, and in the watchdog's reach."""

from __future__ import annotations

import socket
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from piehole.transfer.git_remote_config import HttpSettings
from piehole.transfer.limits import Limits
from piehole.transfer.watchdog import Watchdog

_GRACE = 30.0  # seconds after which urllib3 notices a stall by itself, should the watchdog fail


def make_pool(settings: HttpSettings, limits: Limits, watchdog: Watchdog) -> PoolManager:
    """A pool whose sockets the watchdog can shut. A redirect is an answer like any other: it is not followed."""
    manager = PoolManager(
        num_pools=1,
        maxsize=1,
        timeout=Timeout(connect=limits.connect, read=limits.stall + _GRACE),
        retries=Retry(total=0, redirect=False),
        ca_certs=settings.ca_info,
        ca_cert_dir=settings.ca_path,
        cert_file=settings.cert,
        key_file=settings.key,
        cert_reqs="CERT_REQUIRED" if settings.verify else "CERT_NONE",
    )

    def own(sock: socket.socket | None) -> None:
        if sock is not None:
            watchdog.own_socket(sock)

    class OwnedConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            own(self.sock)

    class OwnedTlsConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            own(self.sock)

    class Pool(HTTPConnectionPool):
        ConnectionCls = OwnedConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = OwnedTlsConnection

    classes: dict[str, Any] = {"http": Pool, "https": TlsPool}
    manager.pool_classes_by_scheme = classes
    return manager
