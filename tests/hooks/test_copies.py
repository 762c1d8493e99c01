"""Copies before the answer: what a pusher's site asks, waits for, compares and says. The other sites answer by hand here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.assertions import accepted, refused
from tests.support.copying import holding, keys, promise
from tests.support.git import commit, push
from tests.support.groups import Group


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
