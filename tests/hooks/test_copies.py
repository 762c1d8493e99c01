"""Copies before the answer: what a pusher's site asks, waits for, compares and says. The other sites answer by hand here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

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
from tests.conftest import OwnEtcd
from tests.support.assertions import Pushed, accepted, refused
from tests.support.copies import put_objects
from tests.support.copying import answer, holding, keys, promise, requests, site_id
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group, MakeGroup
from tests.support.hook_socket import Line, stub
from tests.support.pushes import chain, finish, receive_pack, start_push
from tests.support.wait import meanwhile, until


@pytest.fixture
def pair(world: Group) -> tuple[Path, Path]:
    """Site a, which promises two copies with b, and a clone with a new commit."""
    world["a"].build(settings={"piehole.copiesTimeout": "1"})
    world["b"].build()
    promise(world, 2)
    work = world["a"].clone()
    commit(work, "first")
    return world["a"].repository, work


@pytest.fixture(params=["controller", "alone"])
def site(request: pytest.FixtureRequest, world: Group, pair: tuple[Path, Path]) -> tuple[Path, Path]:
    """The same, with a controller at a and without."""
    if request.param == "controller":
        world["a"].start()
    return pair


def lease_of(world: Group) -> int:
    return int(next(iter(requests(world).values()))["lease"], 16)


def patience(world: Group, seconds: int) -> None:
    """How long site a waits for copies; its controller hears of it."""
    git(world["a"].repository, "config", "piehole.copiesTimeout", str(seconds))
    if world["a"].running:
        world["a"].kill()
        world["a"].start()


def under_locks(site: Path, work: Path, change: Callable[[], object]) -> Pushed:
    """Push, and change something when the push has its locks, and the swap is to come."""
    chain(
        site,
        "reference-transaction",
        '[ "$1" != prepared ] || while ! [ -e changed ]; do touch locked; sleep 0.02; done\nexec "$piehole" "$@"',
    )
    pushing = start_push(work, site, "HEAD:main")
    until((site / "locked").exists, 20, "the push has its locks")
    change()
    (site / "changed").touch()
    return finish(pushing)


def test_a_push_is_accepted_when_another_site_holds_it(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    with holding(world, "b") as seen:
        accepted(push(work, a, "HEAD:main"))
    (asked,) = seen
    assert asked["site"] == "a" and asked["oids"] == [world.value()]
    assert keys(world) == []  # the swap has removed them


def test_a_push_that_nobody_holds_is_refused_and_changes_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    with world.unchanged(a):
        sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert "b: no controller there has given a sign of life" in sentence and "group set copies" in sentence
    assert keys(world) == [] and world.value() is None


def test_a_push_passes_with_a_warning_where_the_group_wants_it_so(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    promise(world, 2, "warn")
    said = accepted(push(work, a, "HEAD:main")).stderr
    assert said.count("piehole: copies: ") == 1 and "goes on all the same" in said
    assert world.value() is not None and keys(world) == []


def test_what_needs_no_copies_asks_for_none(world: Group, site: tuple[Path, Path]) -> None:
    """Deletions, a push that is repeated, and refs to what enough other sites have published that they have."""
    a, work = site
    second = commit(work, "second")
    with holding(world, "b"):
        accepted(push(work, a, "HEAD:main", "HEAD:gone"))
    newest = max(change.revision for ref in (MAIN, "refs/heads/gone") for change in world.changes(ref))
    world["b"].start()
    until(lambda: world["b"].progress() >= newest, 20, "b has published main")
    world["b"].kill()
    before = world.changes("@push")
    accepted(push(work, a, ":gone"))
    accepted(push(work, a, "HEAD:main"))
    accepted(push(work, a, "HEAD:refs/heads/same"))
    accepted(push(work, a, "HEAD~1:refs/heads/older"))
    accepted(push(work, a, "--force", "HEAD~1:main"))
    assert len(world.changes("@push")) == len(before) + 4
    # Nobody has published this one.
    commit(work, "third")
    refused(push(work, a, "HEAD:refs/heads/newer"), "copies")
    assert world.refs()["refs/heads/same"] == second


def test_a_push_of_many_refs_asks_once(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    oids = [commit(work, f"change {number}") for number in range(5)]
    with holding(world, "b") as seen:
        accepted(push(work, a, *(f"{oid}:refs/heads/branch-{number}" for number, oid in enumerate(oids))))
    asked = [oid for request in seen for oid in request["oids"]]
    assert sorted(asked) == sorted(oids)
    if (a / "piehole" / "controller").exists():
        assert len(seen) == 1
    assert set(world.refs().values()) == set(oids) and keys(world) == []


def test_a_push_that_is_refused_for_another_reason_asks_for_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.put(MAIN, "frozen")
    with holding(world, "b") as seen:
        refused(push(work, a, "HEAD:main"), "locked")
    assert seen == []


def test_only_enough_sites_that_answered_are_awaited(world: Group, pair: tuple[Path, Path]) -> None:
    """Of four sites, two others must hold it, and it does not matter which."""
    a, work = pair
    patience(world, 30)
    for name in ("c", "d"):
        world[name].build()
    promise(world, 3)
    world["a"].start()
    with holding(world, "b", "d"):
        began = monotonic()
        accepted(push(work, a, "HEAD:main"))
        assert monotonic() - began < 15


@pytest.mark.parametrize("copies", [2, "majority", "all"])
def test_a_number_of_copies_is_counted_over_the_sites_that_have_not_left(
    world: Group, pair: tuple[Path, Path], copies: int | str
) -> None:
    a, work = pair
    world["c"].build()
    world["c"].piehole("leave", "--yes")
    promise(world, copies)
    world["a"].start()
    with holding(world, "c"):
        refused(push(work, a, "HEAD:main"), "copies")
    with holding(world, "b"):
        accepted(push(work, a, "HEAD:main"))


def test_a_group_that_is_too_small_for_its_promise_says_so_at_once(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    patience(world, 60)
    promise(world, 3)
    began = monotonic()
    sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert monotonic() - began < 30
    assert "the group promises 3 copies and has 2 sites: a, b" in sentence
    assert keys(world) == []


def test_keys_that_somebody_wrote_by_hand_count_for_nothing(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.etcd.put(world.key("@copies/garbage"), "{")
    world.etcd.put(world.key("@copies/garbage/b"), "garbage")
    world.etcd.put(world.key("@copies/"), "")
    seen: set[str] = set()

    def write() -> None:
        for name, request in requests(world).items():
            if name not in seen:
                seen.add(name)
                answer(world, name, "a", request["lease"])  # this site itself
                answer(world, name, "b", request["lease"], identity="another machine")
                answer(world, name, "nobody", request["lease"], identity="x")
                answer(world, name, "b/b", request["lease"], identity=site_id(world, "b"))
                world.etcd.put(world.key(f"@copies/{name}/c"), "[]")

    with meanwhile(write):
        refused(push(work, a, "HEAD:main"), "copies")
    assert seen and world.value() is None


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


def test_without_a_promise_nothing_of_it_is_loaded(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    # An etcd of its own: it lists the leases of all who use it, and not what they are for.
    world = make_group(2, started=False, etcd=own_etcd())
    promise(world, 2)
    promise(world, 1)
    a, work = world["a"].repository, world["a"].clone()
    commit(work, "first")
    accepted(push(work, a, "HEAD:main"))
    assert world.etcd.call("/lease/leases", {}).get("leases", []) == []
    script = (
        "import sys, pathlib; from piehole.group.replica import Replica; from piehole.push.admission import Admission;"
        "from piehole.push.consensus_source import LinearizableSource; from piehole.push import hook_protocol;"
        "from piehole.deadline import Deadline; from piehole.refs import Command, zero;"
        f"r = Replica.open(pathlib.Path({str(a)!r})); found = Admission(r, LinearizableSource(r, print));"
        "print(found.admit(Command('refs/heads/x', zero('sha1'), '1' * 40), Deadline(5)));"
        "assert not [name for name in sys.modules if name.startswith(('piehole.push.cop', 'piehole.group.promise')) and 'gate' not in name]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Basis" in done.stdout, done.stderr


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


def test_the_record_of_a_site_that_cannot_be_read_is_named(world: Group, site: tuple[Path, Path]) -> None:
    a, work = site
    world.etcd.put(f"{world.prefix}/site/g/b", "garbage")
    sentence = refused(push(work, a, "HEAD:main"), "copies")
    assert "b: its records cannot be used" in sentence
    world.etcd.put(f"{world.prefix}/site/g/b", '{"id": "x", "url": "/", "format": 9}')
    assert "Upgrade piehole" in refused(push(work, a, "HEAD:main"), "copies")


def test_a_push_of_many_refs_to_one_commit_asks_once_and_keeps_its_keys_to_the_last(
    world: Group, pair: tuple[Path, Path]
) -> None:
    """git 2.49 and older move one ref after the other, each by a swap of its own."""
    a, work = pair
    patience(world, 20)
    world["a"].start()
    with holding(world, "b") as seen:
        accepted(push(work, a, *(f"HEAD:refs/heads/b{number}" for number in range(40))))
    assert len(seen) == 1 and len(world.refs()) == 40 and keys(world) == []


# ---- with the other sites' own controllers


def _holders(world: Group, oid: str) -> list[str]:
    """The sites that have the object now."""
    return [str(site) for site in world if git(site.repository, "cat-file", "-e", oid, check=False).returncode == 0]


def test_what_a_push_brings_is_at_another_site_when_it_is_answered(make_group: MakeGroup) -> None:
    """Another one hangs, which holds nothing up."""
    world = make_group(3, settings={"piehole.copiesTimeout": "20"})
    work, _ = world.begun()
    promise(world, 2)
    world["c"].pause()
    oid = commit(work, "two copies")
    began = monotonic()
    accepted(push(work, world["a"].repository, "HEAD:main", "HEAD:refs/tags/new"))
    assert _holders(world, oid) == ["a", "b"] and monotonic() - began < 15
    world["b"].pause()
    oid = commit(work, "one copy")
    git(world["a"].repository, "config", "piehole.copiesTimeout", "1")
    world["a"].kill()
    refused(push(work, world["a"].repository, "HEAD:main"), "copies")
    world["b"].resume()
    world["c"].resume()
    accepted(push(work, world["a"].repository, "HEAD:main"))
    assert len(_holders(world, oid)) >= 2
    world["a"].start()
    world.in_step()
    until(lambda: not any("refs/piehole/held/" in ref for site in world for ref in refs(site.repository)), 20, "held")


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


def test_all_sites_have_what_all_promised(make_group: MakeGroup) -> None:
    world = make_group(3, settings={"piehole.copiesTimeout": "20"})
    work, _ = world.begun()
    promise(world, "all")
    for number in range(5):
        oid = commit(work, f"change {number}")
        world.in_step()  # else the reconcile of a site may come between what git shows the pusher and the push
        accepted(push(work, world[number % 3].repository, "HEAD:main", f"HEAD:refs/tags/t{number}"))
        assert _holders(world, oid) == ["a", "b", "c"]
