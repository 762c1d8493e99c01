"""One etcd cluster and prefix, as the repositories of this server share it: a connection and an informer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from controller.informer import Informer
from piehole.config import Config
from piehole.etcd.client import Etcd
from piehole.etcd.endpoint import Credentials
from piehole.etcd.model import Head, KeyValue
from piehole.keys import Keyspace
from piehole.readout import Readout


@dataclass(frozen=True, slots=True)
class Address:
    """Repositories with equal addresses share one connection and one informer."""

    etcd: tuple[str, ...]
    credentials: Credentials
    prefix: str

    @classmethod
    def of(cls, config: Config) -> Address:
        return cls(config.etcd, config.credentials, config.prefix)


class Cluster:
    """The connection, the informer of the ref prefix, and the number of times it has (re)connected.

    ``on_change(groups, fresh)`` and ``on_connect()`` are called from the informer's thread and must not block.
    """

    def __init__(
        self, address: Address, on_change: Callable[[set[str], bool], None], on_connect: Callable[[], None]
    ) -> None:
        self.address = address
        self.keyspace = Keyspace(address.prefix)
        self.etcd = Etcd(address.etcd, address.credentials)
        self._log = structlog.get_logger(etcd=",".join(address.etcd), prefix=address.prefix)
        self._on_connect = on_connect
        self._connections = 0
        self._counted = threading.Lock()
        self.informer = Informer(
            self.etcd,
            self.keyspace.refs,
            bucket=self._group_of,
            on_change=on_change,
            on_connect=self._connected,
            on_trouble=lambda error: self._log.warning("etcd.trouble", error=str(error)),
        )

    @property
    def epoch(self) -> int:
        """Grows with each (re)connect: whether etcd went back is checked anew in each epoch."""
        with self._counted:
            return self._connections

    def view(self, group: str, record: KeyValue | None = None) -> Readout:
        """The group's keys as the informer has them now."""
        view = self.informer.view(group)
        entries = {}
        for key, kv in view.entries.items():
            split = self.keyspace.split_ref(key)
            if split is not None:
                entries[split[1]] = kv
        return Readout(view.revision, entries, record, from_view=True)

    def start(self) -> None:
        self.informer.start()

    def stop(self) -> None:
        self.informer.stop()
        self.etcd.close()

    def _group_of(self, key: bytes) -> str | None:
        split = self.keyspace.split_ref(key)
        return None if split is None else split[0]

    def _connected(self, head: Head) -> None:
        with self._counted:
            self._connections += 1
        self._log.info("etcd.connected", endpoint=head.endpoint, revision=head.revision)
        self._on_connect()
