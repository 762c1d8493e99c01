"""Leases: keys that are bound to one go when it ends."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Final

from piehole.deadline import Deadline
from piehole.etcd import json_gateway
from piehole.etcd.client import Etcd
from piehole.etcd.model import Lease


def grant(etcd: Etcd, seconds: int, deadline: Deadline) -> int:
    """Make a lease that ends after so many seconds, unless it is kept alive; returns its id. (One whose answer was lost ends unused.)"""
    return etcd.ask("/lease/grant", {"TTL": str(seconds)}, json_gateway.granted, deadline)


def keep_alive(etcd: Etcd, lease: int, deadline: Deadline) -> bool:
    """Give a lease its whole time again, which writes nothing; returns whether there still was one."""
    return etcd.ask("/lease/keepalive", {"ID": str(lease)}, json_gateway.kept_alive, deadline)


def look(etcd: Etcd, lease: int, deadline: Deadline) -> Lease:
    """How much time a lease has left."""
    return etcd.ask("/lease/timetolive", {"ID": str(lease)}, json_gateway.lease, deadline)


_LASTS: Final = 120  # seconds
_PROLONGED_EVERY: Final = 30.0


class SharedLease:
    """A lease for keys of many owners that die with it, soon after the last of them was put. Safe to use from many threads.

    It is kept alive for nobody but those who say that they still need it. When half of its time is over, a new one follows.
    """

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._lock = threading.Lock()
        self._lease = 0
        self._half = 0.0  # monotonic seconds: when half of its time is over
        self._end = 0.0
        self._prolonged: dict[int, float] = {}

    def get(self, seconds: float, deadline: Deadline, *, instead_of: int = 0) -> int:
        """A lease that lasts for at least so many seconds.

        :param instead_of: a lease that etcd has no more
        :raises EtcdError: etcd could not be used
        """
        with self._lock:
            now = monotonic()
            if self._lease == instead_of or not self.lasts(seconds):
                lasts = max(_LASTS, int(2 * seconds) + 1)
                self._lease = grant(self._etcd, lasts, deadline)
                self._half, self._end = now + lasts / 2, now + lasts
            return self._lease

    def lasts(self, seconds: float) -> bool:
        """Whether :meth:`get` has such a lease, and need not ask etcd for one."""
        now = monotonic()
        return bool(self._lease) and now <= self._half and now + seconds <= self._end

    def prolong(self, lease: int, deadline: Deadline) -> None:
        """Keep a lease alive that is still needed, if that was not done just now.

        :raises EtcdError: etcd could not be used
        """
        now = monotonic()
        with self._lock:
            if now - self._prolonged.get(lease, float("-inf")) < _PROLONGED_EVERY:
                return
            self._prolonged = {one: at for one, at in self._prolonged.items() if now - at < _LASTS}
            self._prolonged[lease] = now
        keep_alive(self._etcd, lease, deadline)
