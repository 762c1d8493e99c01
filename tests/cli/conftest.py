from __future__ import annotations

import pytest

from tests.support.groups import Group, MakeGroup


@pytest.fixture
def world(make_group: MakeGroup) -> Group:
    return make_group(0)


@pytest.fixture
def pair(world: Group) -> Group:
    """Two sites in sync, with one commit on main; no controller runs."""
    world.install("a", "b")
    world.commit("one")
    world.push("a")
    assert world.reconcile("a", "b").status == 0
    return world
