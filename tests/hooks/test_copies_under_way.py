"""What changes while a push waits for copies or swaps: sites, answers, the promise, leases, controllers. The other sites answer by hand here."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from piehole.deadline import Deadline
from piehole.errors import COPIES
from piehole.fastpath import hook_messages
from piehole.group.replica import Replica
from piehole.push import hook_protocol
from piehole.push.admission import Admission, Again, Pusher
from piehole.push.consensus_source import LinearizableSource
from piehole.push.rules import Refuse
from piehole.push.swap import Accepted, Basis
from piehole.refs import Command
from tests.support.assertions import accepted, refused
from tests.support.copies import put_objects
from tests.support.copying import holding, keys, lease_of, patience, promise, requests, under_locks
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group, MakeGroup
from tests.support.hook_socket import Line, stub
from tests.support.pushes import chain, finish, receive_pack, start_push
from tests.support.wait import until


def test_an_answer_that_is_taken_back_before_the_swap_counts_no_more(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site

    def take_back() -> None:
        (copy,) = [key for key in keys(world) if key.endswith("/b")]
        world.etcd.delete(copy)

    with holding(world, "b"):
        sentence = refused(under_locks(a, work, take_back), "copies")
    assert "push again" in sentence
    assert world.value() is None and git(a, "rev-parse", "-q", "--verify", MAIN, check=False).stdout == ""


def test_a_promise_that_is_raised_while_a_push_is_under_way_is_kept(world: Group, site: tuple[Path, Path]) -> None:
    """Its refusal under the locks says to push again, and then it passes, also where nobody told the controller."""
    a, work = site
    promise(world, 1)
    with holding(world, "b"):
        accepted(push(work, a, "HEAD:main"))
        commit(work, "second")
        pushed = under_locks(a, work, lambda: promise(world, 2, told=False))
        assert "push again" in refused(pushed, "copies")
        accepted(push(work, a, "HEAD:main"))


def test_a_promise_that_is_raised_under_way_may_warn_alone(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    promise(world, 1)
    said = accepted(under_locks(a, work, lambda: promise(world, 2, "warn", told=False))).stderr
    assert said.count("piehole: copies: ") == 1 and "goes on all the same" in said


def test_a_promise_that_is_lowered_while_a_push_waits_lets_it_pass(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    patience(world, 30)
    pushing = start_push(work, a, "HEAD:main")
    until(lambda: requests(world), 20, "copies are asked for")
    promise(world, 1)
    accepted(finish(pushing))
    assert keys(world) == []


def test_a_site_that_leaves_while_a_push_waits_is_not_awaited(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    patience(world, 30)
    world["c"].build()
    promise(world, "all")
    with holding(world, "b"):
        pushing = start_push(work, a, "HEAD:main")
        until(lambda: [key for key in keys(world) if key.endswith("/b")], 20, "b has answered")
        world["c"].piehole("leave", "--yes")
        accepted(finish(pushing))


def test_a_machine_that_took_over_a_name_is_not_the_one_that_answered(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site

    def take_over() -> None:
        key = f"{world.prefix}/site/g/b"
        world.etcd.put(key, json.dumps(json.loads(world.etcd.get(key) or "{}") | {"id": "another"}))
        world.put("@fence", "{}")

    with holding(world, "b"):
        refused(under_locks(a, work, take_over), "copies")
    assert world.value() is None


def test_a_push_waits_on_when_its_controller_is_killed(world: Group, pair: tuple[Path, Path]) -> None:
    a, work = pair
    patience(world, 20)
    world["a"].start()
    pushing = start_push(work, a, "HEAD:main")
    until(lambda: requests(world), 20, "copies are asked for")
    world["a"].kill()
    with holding(world, "b"):
        accepted(finish(pushing))
    assert keys(world) == []


def test_what_was_confirmed_before_the_controller_was_restarted_is_not_asked_for_again(
    world: Group, pair: tuple[Path, Path]
) -> None:
    a, work = pair
    world["a"].start()

    def restart() -> None:
        world["a"].kill()
        world["a"].start()

    with holding(world, "b") as seen:
        accepted(under_locks(a, work, restart))
    assert len(seen) == 1 and keys(world) == []


def test_a_push_that_lost_against_another_one_does_not_ask_again(world: Group, pair: tuple[Path, Path]) -> None:
    a, work = pair
    world["a"].start()
    with holding(world, "b") as seen:
        # As a reaping does, or a site that joins.
        accepted(under_locks(a, work, lambda: world.put("@fence", "{}")))
    assert len(seen) == 1 and keys(world) == []


def test_what_a_push_asked_for_goes_when_it_ends_without_a_swap(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    chain(a, "reference-transaction", '[ "$1" != prepared ] || exit 1\nexec "$piehole" "$@"')
    with holding(world, "b") as seen:
        assert push(work, a, "HEAD:main").returncode != 0
        until(lambda: not keys(world), 10, "the keys of the push are gone")
    assert seen


def test_a_ref_that_is_refused_leaves_nothing_of_what_was_asked_for_the_others(
    world: Group, site: tuple[Path, Path]
) -> None:
    a, work = site
    world.put("refs/heads/z", "frozen")
    with holding(world, "b"):
        refused(push(work, a, "HEAD:main", "HEAD:z"), "locked")
        until(lambda: not keys(world), 10, "the keys of the push are gone")
    assert world.value() == refs(a)[MAIN]


def test_a_pusher_who_goes_away_is_not_waited_for(world: Group, pair: tuple[Path, Path]) -> None:
    a, work = pair
    patience(world, 60)
    world["a"].start()
    pushing = start_push(work, a, "HEAD:main")
    until(lambda: requests(world), 20, "copies are asked for")
    os.kill(receive_pack(a), signal.SIGKILL)
    until(lambda: not keys(world), 20, "the keys of the push are gone")
    assert finish(pushing).returncode != 0


def test_waiting_for_copies_costs_nothing_of_the_patience_for_etcd(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    git(a, "config", "piehole.hookTimeout", "1.5")
    patience(world, 30)
    pushing = start_push(work, a, "HEAD:main")
    until(lambda: requests(world), 20, "copies are asked for")
    sleep(1.8)  # longer than the hook's patience for etcd
    with holding(world, "b"):
        accepted(finish(pushing))


def test_a_request_that_has_lost_its_lease_gets_another(world: Group, pair: tuple[Path, Path]) -> None:
    a, work = pair
    world["a"].start()
    with holding(world, "b") as seen:
        accepted(push(work, a, "HEAD:main"))
        world.etcd.call("/lease/revoke", {"ID": str(int(seen[0]["lease"], 16))})
        commit(work, "second")
        accepted(push(work, a, "HEAD:main"))
    assert len({request["lease"] for request in seen}) == 2


@pytest.mark.parametrize("how", ["lose answer", "hang answer"])
def test_a_swap_whose_answer_is_lost_is_accepted_though_its_keys_are_gone(
    world: Group, tamper: Tamper, pair: tuple[Path, Path], how: str
) -> None:
    a, work = pair
    git(a, "config", "--replace-all", "piehole.etcd", tamper.endpoint)
    with holding(world, "b"):
        # The first transaction that compares and puts is the request; the second one is the swap.
        tamper.once("swap", "pass", "lose answer" if how == "lose answer" else "hang answer")
        accepted(push(work, a, "HEAD:main"))
    assert keys(world) == []


def test_a_silent_controller_that_has_swapped_leaves_an_accepted_push(world: Group, pair: tuple[Path, Path]) -> None:
    """It took the proposal, swapped, and fell silent: the answers of the other sites are gone with the swap."""
    a, work = pair
    replica = Replica.open(a)
    admission = Admission(replica, LinearizableSource(replica, lambda: None))

    def deaf(line: Line) -> None:
        question = hook_protocol.parse(line.question)
        answered = hook_protocol.answer(question, admission, Deadline(20), lambda: True)
        assert answered
        line.say(*hook_messages.pack_here(20 if question.kind != "propose" else 2))
        if question.kind != "propose":
            line.say(*answered.pack())

    with holding(world, "b"), stub(a, deaf, foresees=False):
        accepted(push(work, a, "HEAD:main"))
    assert len(world.history()) == 1 and keys(world) == []


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda world: world.etcd.delete(next(key for key in keys(world) if key.endswith("/b"))), False),
        (lambda world: world.etcd.call("/lease/revoke", {"ID": str(lease_of(world))}), False),
        (lambda world: promise(world, 3, told=False), False),
        (lambda world: world.put("@fence", "{}"), True),
    ],
    ids=["taken back", "lease ended", "promise raised", "sites changed"],
)
def test_what_changes_when_all_is_confirmed_makes_the_swap_itself_fail(
    world: Group, pair: tuple[Path, Path], change: Callable[[Group], object], kept: bool
) -> None:
    a, work = pair
    command = Command(MAIN, ZERO_SHA1, put_objects(world["a"], work)[0])
    admission = Admission(Replica.open(a), LinearizableSource(Replica.open(a), lambda: None))
    basis = admission.admit(command, Deadline(10))
    assert isinstance(basis, Basis)
    with holding(world, "b"):
        assert admission.copies.obtain("0123456789abcdef", [command], Deadline(20), lambda: True) == ""

    def last_of_all() -> bool:
        change(world)
        return True

    pusher = Pusher("0123456789abcdef", "somebody")
    outcome = admission.propose(pusher, [(command, basis)], Deadline(10), may_go=last_of_all)
    assert isinstance(outcome, Again)
    assert world.value() is None
    again = admission.propose(pusher, [(command, outcome.bases[MAIN])], Deadline(10), may_go=lambda: True)
    if kept:
        assert isinstance(again, Accepted) and keys(world) == []
    else:
        assert isinstance(again, Refuse) and again.token == COPIES


def test_a_site_that_was_replaced_after_the_sites_were_read_does_not_count(
    world: Group, pair: tuple[Path, Path]
) -> None:
    """The basis is from after that, so the swap compares a fence that is newer than what is known of the sites."""
    a, work = pair
    command = Command(MAIN, ZERO_SHA1, put_objects(world["a"], work)[0])
    admission = Admission(Replica.open(a), LinearizableSource(Replica.open(a), lambda: None))
    admission.admit(command, Deadline(10))
    pusher = Pusher("0123456789abcdef", "somebody")
    with holding(world, "b"):
        assert admission.copies.obtain(pusher.push_id, [command], Deadline(20), lambda: True) == ""
    key = f"{world.prefix}/site/g/b"
    world.etcd.put(key, json.dumps(json.loads(world.etcd.get(key) or "{}") | {"id": "another"}))
    world.put("@fence", "{}")
    basis = admission.admit(command, Deadline(10))
    assert isinstance(basis, Basis)
    outcome = admission.propose(pusher, [(command, basis)], Deadline(10), may_go=lambda: True)
    assert isinstance(outcome, Refuse) and outcome.token == COPIES


def test_a_ref_that_waits_for_copies_is_moved_by_nobody_else(make_group: MakeGroup) -> None:
    """Site a has not reached the group's value yet, and the push brings it along (rule 3). A reconcile in between would make git refuse it."""
    world = make_group(2, settings={"piehole.copiesTimeout": "20"})
    work, first = world.begun()
    world["a"].kill()
    second = commit(work, "second")
    accepted(push(work, world["b"].repository, "HEAD:main"))
    promise(world, 2)
    world["b"].pause()
    third = commit(work, "third")
    pushing = start_push(work, world["a"].repository, "HEAD:main")
    until(lambda: requests(world), 20, "copies are asked for")
    assert world["a"].at() == first
    world.reconcile("a")
    assert world["a"].at() == first and second != third
    world["b"].resume()
    accepted(finish(pushing))
    assert world["a"].at() == third == world.value()
