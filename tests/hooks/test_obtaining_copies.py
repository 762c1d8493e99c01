"""Copies for commands that write refs into the consensus, and the keys with which they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from piehole.deadline import Deadline
from piehole.etcd.model import Compare, Put
from piehole.group.replica import Replica
from piehole.push.copies import ObtainedCopies, TooFewCopies, obtain
from tests.support.copying import holding, keys, promise, requests
from tests.support.groups import Group
from tests.support.wait import until

pytestmark = pytest.mark.etcd_versions


@pytest.fixture
def replica(world: Group) -> Replica:
    world["a"].build(settings={"piehole.copiesTimeout": "5"})
    world["b"].build()
    promise(world, 2)
    return world["a"].replica()


def _oids(count: int) -> list[str]:
    return [f"{number:040x}" for number in range(1, count + 1)]


def _compares(found: ObtainedCopies, oids: list[str]) -> list[Compare]:
    """What the transaction that writes these compares."""
    return list(dict.fromkeys([*found.guards, *(one for oid in oids for one in found.answers.get(oid, ()))]))


def _writes(world: Group, replica: Replica, compares: list[Compare]) -> bool:
    put = Put(replica.keyspace.ref("g", "refs/heads/x"), b"1" * 40)
    return replica.etcd.txn(compares, [put], deadline=Deadline(5)).succeeded


def test_a_command_writes_what_enough_sites_hold(world: Group, replica: Replica) -> None:
    oids = _oids(3)
    with holding(world, "b") as seen:
        found = obtain(replica, oids, Deadline(10), bases=_oids(1))
    assert [(one["oids"], one["bases"]) for one in seen] == [(oids, _oids(1))]
    assert not found.warning and _writes(world, replica, _compares(found, oids))
    replica.etcd.txn([], found.removals, deadline=Deadline(5))
    assert keys(world) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.etcd.delete(next(key for key in keys(world) if key.endswith("/b"))),
        lambda world: promise(world, 3, told=False),
        lambda world: world.put("@fence", "{}"),
    ],
    ids=["taken back", "promise changed", "sites changed"],
)
def test_a_command_writes_nothing_when_what_it_relied_on_has_changed(
    world: Group, replica: Replica, change: Callable[[Group], object]
) -> None:
    with holding(world, "b"):
        found = obtain(replica, _oids(1), Deadline(10))
    change(world)
    assert not _writes(world, replica, _compares(found, _oids(1)))


def test_a_command_is_told_of_the_sites_that_did_not_answer(world: Group, replica: Replica) -> None:
    replica = replace(replica, config=replace(replica.config, copies_timeout=0.5))
    with pytest.raises(TooFewCopies, match=r"^copies: .*b: no controller there has given a sign of life"):
        obtain(replica, _oids(1), Deadline(10))
    assert keys(world) == []
    promise(world, 2, "warn")
    assert "goes on all the same" in obtain(replica, _oids(1), Deadline(10)).warning


def test_nothing_is_asked_for_where_nothing_is_promised(world: Group, replica: Replica) -> None:
    promise(world, 1)
    assert _compares(obtain(replica, _oids(1), Deadline(10)), _oids(1)) == []
    promise(world, 2)
    assert _compares(obtain(replica, ["0" * 40], Deadline(10)), _oids(1)) == []
    assert keys(world) == []


def test_more_objects_than_one_record_takes_are_asked_for_with_several_keys(world: Group, replica: Replica) -> None:
    """Each key is a request of its own, and the objects of one that nobody answers are not held."""
    oids = _oids(5_000)
    with holding(world, "b") as seen:
        found = obtain(replica, oids, Deadline(30))
    assert sorted(oid for one in seen for oid in one["oids"]) == oids and len(seen) == 7
    assert len(_compares(found, oids)) == 2 + 7 and len(_compares(found, oids[:1])) == 2 + 1
    assert all(name.startswith(min(requests(world))) for name in requests(world))
    replica.etcd.txn([], found.removals, deadline=Deadline(5))
    until(lambda: not keys(world), 5)
