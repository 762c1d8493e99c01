"""Sites that promise copies, for the pushes to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.copying import promise
from tests.support.git import commit
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
