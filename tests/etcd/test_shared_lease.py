"""A lease that many owners share, one after the other."""

from __future__ import annotations

import pytest

from piehole.deadline import Deadline
from piehole.etcd import leases
from piehole.etcd.client import Etcd
from piehole.etcd.leases import SharedLease
from tests.support.etcd import EtcdProcess
from tests.support.wait import until

pytestmark = pytest.mark.etcd_versions


@pytest.fixture
def client(etcd: EtcdProcess) -> Etcd:
    return Etcd([etcd.endpoint])


def test_one_lease_serves_many_until_somebody_needs_a_longer_one(client: Etcd) -> None:
    shared = SharedLease(client)
    assert not shared.lasts(1)
    first = shared.get(10, Deadline(5))
    assert shared.lasts(60) and shared.get(60, Deadline(5)) == first
    assert not shared.lasts(200) and shared.get(200, Deadline(5)) != first
    assert leases.look(client, shared.get(1, Deadline(5)), Deadline(5)).granted > 2 * 200


def test_a_lease_that_etcd_has_no_more_is_replaced(client: Etcd) -> None:
    shared = SharedLease(client)
    first = shared.get(10, Deadline(5))
    second = shared.get(10, Deadline(5), instead_of=first)
    assert second != first and shared.get(10, Deadline(5), instead_of=first) == second


def test_a_lease_is_kept_alive_for_whoever_still_needs_it(client: Etcd) -> None:
    shared = SharedLease(client)
    lease = shared.get(10, Deadline(5))
    until(lambda: leases.look(client, lease, Deadline(5)).remaining < 119, 10)
    shared.prolong(lease, Deadline(5))
    assert leases.look(client, lease, Deadline(5)).remaining >= 119
