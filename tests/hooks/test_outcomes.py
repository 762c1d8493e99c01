"""What a push is told when something between the hook and etcd goes wrong: accepted, refused, or unknown, and always the truth."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from tests.support.assertions import accepted, refused
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group
from tests.support.ports import LOOPBACK, free_ports
from tests.support.pushes import finish, start_push


@pytest.mark.parametrize("how", ["lose answer", "hang answer"])
def test_a_swap_whose_answer_is_lost_is_reported_as_accepted(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str], how: str
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.once("swap", "lose answer" if how == "lose answer" else "hang answer")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    assert refs(site)[MAIN] == second


def test_a_creation_whose_answer_is_lost_is_reported_as_accepted(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    tamper.once("swap", "lose answer")
    accepted(push(work, site, "HEAD:side"))
    assert world.history("refs/heads/side") == [first]


def test_a_swap_whose_answer_is_lost_is_accepted_even_where_others_have_moved_the_ref_since(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    b = world["b"].build().repository
    second = commit(work, "second")
    tamper.once("swap", "hang answer")
    before = tamper.seen.count("swap")
    pushing = start_push(work, site, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    third = commit(work, "third")
    accepted(push(work, b, "HEAD:main"))
    accepted(finish(pushing))
    assert world.history() == [first, second, third]


@pytest.mark.parametrize("how", ["lose request", "hold request"])
def test_a_swap_that_never_arrived_is_fenced_and_proposed_again(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str], how: str
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.once("swap", "lose request" if how == "lose request" else "hold request")
    accepted(push(work, site, "HEAD:main"))
    assert "fence" in tamper.seen
    assert world.history() == [first, second]


def test_late_proposal(world: Group, tamper: Tamper, scene: tuple[Path, Path, str]) -> None:
    """A swap that arrives after its push was decided otherwise takes no effect."""
    site, work, first = scene
    git(site, "config", "piehole.hookTimeout", "40")  # far more than the push at b takes
    b = world["b"].build().repository
    commit(work, "ours")
    tamper.once("swap", "hold request")
    before = tamper.seen.count("swap")
    pushing = start_push(work, site, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    git(work, "checkout", "-q", "-B", "theirs", first)
    theirs = commit(work, "theirs")
    accepted(push(work, b, "HEAD:main"))
    tamper.drop()
    refused(finish(pushing), "stale")
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.history() == [first, theirs]


def test_late_proposal_of_a_push_that_went_through_by_another_one_takes_no_effect(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.once("swap", "hold request")
    accepted(push(work, site, "HEAD:main"))
    accepted(push(work, site, "--force", f"{first}:main"))
    (answer,) = tamper.deliver()
    assert not answer.get("succeeded", False)
    assert world.history() == [first, second, first]


@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["and the swap arrived", "and the swap did not"])
def test_unknown_within_the_deadline_where_etcd_falls_silent_for_good(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str], arrives: bool
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.always("hang answer" if arrives else "hold request", "swap")
    tamper.always("hold request", "fence", "watch")
    began = monotonic()
    said = refused(push(work, site, "HEAD:main"), "unknown")
    assert monotonic() - began < 20
    assert f"the group may still take {second}; look (`git fetch`) before pushing again" in said
    assert world.history() == ([first, second] if arrives else [first])
    tamper.always("pass", "swap", "fence", "watch")
    assert world.reconcile(site).status == 0
    assert refs(site)[MAIN] == (second if arrives else first)


@pytest.mark.slow
def test_the_same_push_again_after_unknown_is_accepted(
    world: Group, tamper: Tamper, scene: tuple[Path, Path, str]
) -> None:
    site, work, first = scene
    second = commit(work, "second")
    tamper.always("hang answer", "swap")
    tamper.always("hold request", "fence")
    refused(push(work, site, "HEAD:main"), "unknown")
    tamper.always("pass", "swap", "fence")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    assert refs(site)[MAIN] == second


@pytest.mark.slow
def test_a_dead_endpoint_and_a_hanging_one_are_passed_over(world: Group, tamper: Tamper) -> None:
    (dead,) = free_ports(1)
    endpoints = [f"http://{LOOPBACK}:{dead}", tamper.endpoint, world.etcd.endpoint]
    site = world["a"].build(endpoints=endpoints, settings={"piehole.hookTimeout": "20"}).repository
    work = world.clone(site)
    tamper.always("hold request", "swap", "fence", "read", "watch")
    for _ in range(4):  # each hook begins at an endpoint of its own choice
        tip = commit(work)
        began = monotonic()
        accepted(push(work, site, "HEAD:main"))
        assert monotonic() - began < 20 + 5
        assert world.value() == tip
