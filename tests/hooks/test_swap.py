"""The swap itself, on a real etcd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from piehole.deadline import Deadline
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.push.swap import Accepted, Basis, Lost, Proposal, Swapper, Unknown
from piehole.refs import Command
from tests.support.etcd import EtcdProcess
from tests.support.etcd_raw import _b64
from tests.support.etcd_tamper import tampering
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group

ONE, TWO = "1" * 40, "2" * 40

pytestmark = pytest.mark.etcd_versions


class Pushes:
    """Proposals of one site, made and sent by hand."""

    def __init__(self, site: Path) -> None:
        replica = Replica.open(site)
        self.reader = replica.reader
        self.swapper = Swapper(replica)

    def make(self, *commands: Command, writes: bool = True) -> Proposal:
        state = self.reader.read(commands, Deadline(5))
        items = tuple((command, Basis.of(command, state, writes=writes)) for command in commands)
        return Proposal(PushRecord(uuid4().hex, "a", "somebody", "now"), items)

    def send(self, proposal: Proposal, *, earlier: bool = False) -> object:
        return self.swapper.propose(proposal, Deadline(3), Deadline(5), earlier=earlier)


@pytest.fixture
def pushes(world: Group) -> Pushes:
    return Pushes(world["a"].build().repository)


def test_reaped_create(world: Group, pushes: Pushes) -> None:
    """A creation that was read while a tombstone stood cannot succeed once that was reaped: the reaping moved the fence."""
    world.etcd.put(world.key(MAIN), ZERO_SHA1)
    stuck = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    reap = [
        {"request_delete_range": {"key": _b64(world.key(MAIN))}},
        {"request_put": {"key": _b64(world.key("@fence")), "value": _b64("reaped")}},
    ]
    world.etcd.call("/kv/txn", {"success": reap})
    assert isinstance(pushes.send(stuck), Lost)
    assert world.value() is None


def test_the_same_proposal_sent_twice_is_settled_as_accepted_by_its_identity(world: Group, pushes: Pushes) -> None:
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    first = pushes.send(proposal)
    assert isinstance(first, Accepted)
    assert pushes.send(proposal, earlier=True) == first
    assert world.history() == [ONE]


def test_the_same_proposal_is_settled_by_its_identity_after_others_have_moved_the_ref(
    world: Group, pushes: Pushes
) -> None:
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    first = pushes.send(proposal)
    assert isinstance(pushes.send(pushes.make(Command(MAIN, ONE, TWO))), Accepted)
    assert pushes.send(proposal, earlier=True) == first
    assert world.history() == [ONE, TWO]


def test_the_same_change_by_another_push_is_not_taken_for_ours(world: Group, pushes: Pushes) -> None:
    ours = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    theirs = replace(ours, push=replace(ours.push, id=uuid4().hex))
    assert isinstance(pushes.send(theirs), Accepted)
    assert isinstance(pushes.send(ours, earlier=True), Lost)
    assert isinstance(pushes.send(ours), Lost)


def test_a_proposal_that_was_fenced_never_succeeds(world: Group, pushes: Pushes) -> None:
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    world.etcd.put(world.key("@fence"), "somebody's")
    assert isinstance(pushes.send(proposal), Lost)
    assert isinstance(pushes.send(proposal, earlier=True), Lost)
    assert world.value() is None


@pytest.mark.parametrize("other", ["refs/heads/topic/one", "refs/heads", "refs/heads/topic"])
def test_a_creation_loses_against_any_change_above_or_below_its_name(world: Group, pushes: Pushes, other: str) -> None:
    proposal = pushes.make(Command("refs/heads/topic", ZERO_SHA1, ONE))
    world.etcd.put(world.key(other), TWO)
    assert isinstance(pushes.send(proposal), Lost)


def test_a_creation_does_not_lose_against_other_names(world: Group, pushes: Pushes) -> None:
    proposal = pushes.make(Command("refs/heads/topic", ZERO_SHA1, ONE))
    for other in ("refs/heads/other", "refs/heads/topics", "refs/heads/topic0", "refs/heads/a/topic"):
        world.etcd.put(world.key(other), TWO)
    assert isinstance(pushes.send(proposal), Accepted)


def test_a_swap_loses_against_a_change_of_the_group_s_record(world: Group, pushes: Pushes) -> None:
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    key = f"{world.prefix}/group/g"
    world.etcd.put(key, world.etcd.get(key) or "")
    assert isinstance(pushes.send(proposal), Lost)


def test_a_value_that_went_there_and_back_is_seen(world: Group, pushes: Pushes) -> None:
    world.etcd.put(world.key(MAIN), ONE)
    proposal = pushes.make(Command(MAIN, ONE, TWO))
    world.etcd.put(world.key(MAIN), TWO)
    world.etcd.put(world.key(MAIN), ONE)
    assert isinstance(pushes.send(proposal), Lost)
    assert world.history() == [ONE, TWO, ONE]


def test_half_a_swap_never_happens(world: Group, pushes: Pushes) -> None:
    refs = [f"refs/heads/b{n}" for n in range(4)]
    proposal = pushes.make(*(Command(ref, ZERO_SHA1, ONE) for ref in refs))
    world.etcd.put(world.key(refs[2]), TWO)
    assert isinstance(pushes.send(proposal), Lost)
    assert world.refs() == {refs[2]: TWO}


def test_a_loser_is_told_what_the_group_has_now(world: Group, pushes: Pushes) -> None:
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    world.etcd.put(world.key(MAIN), TWO)
    lost = pushes.send(proposal)
    assert isinstance(lost, Lost)
    assert lost.now.value(MAIN) == TWO.encode()


def test_a_push_of_what_the_group_has_writes_its_record_alone(world: Group, pushes: Pushes) -> None:
    world.etcd.put(world.key(MAIN), ONE)
    assert isinstance(pushes.send(pushes.make(Command(MAIN, ZERO_SHA1, ONE), writes=False)), Accepted)
    assert world.history() == [ONE]
    assert [record["pusher"] for record in world.pushes().values()] == ["the installer", "somebody"]


def test_another_group_s_refs_below_the_same_folder_are_not_seen(world: Group, pushes: Pushes) -> None:
    world.etcd.put(f"{world.prefix}/ref/g/nested/refs/heads/main", TWO)
    assert "refs/heads/main" not in pushes.reader.list_group(Deadline(5)).entries


def test_a_creation_that_was_deleted_and_reaped_since_is_settled_as_accepted(world: Group, pushes: Pushes) -> None:
    """The key is absent again, as it was before the push: that alone does not say that nothing happened in between."""
    proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
    first = pushes.send(proposal)
    assert isinstance(first, Accepted)
    assert isinstance(pushes.send(pushes.make(Command(MAIN, ONE, ZERO_SHA1))), Accepted)
    reap = [
        {"request_delete_range": {"key": _b64(world.key(MAIN))}},
        {"request_put": {"key": _b64(world.key("@fence")), "value": _b64("reaped")}},
    ]
    world.etcd.call("/kv/txn", {"success": reap})
    assert pushes.send(proposal, earlier=True) == first


@pytest.mark.slow
def test_a_swap_that_lost_is_unknown_where_what_there_is_cannot_be_read(world: Group, etcd: EtcdProcess) -> None:
    """Something on the way may have sent it twice, and brought the second answer."""
    with tampering(etcd.endpoint) as tamper:
        pushes = Pushes(world["a"].build(endpoints=[tamper.endpoint]).repository)
        proposal = pushes.make(Command(MAIN, ZERO_SHA1, ONE))
        assert isinstance(pushes.send(proposal), Accepted)
        tamper.always("lose request", "read")
        assert isinstance(pushes.send(proposal), Unknown)
