"""Leases: keys that are bound to one go when it ends."""

from __future__ import annotations

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
