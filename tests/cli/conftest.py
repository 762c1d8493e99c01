from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.world import World
from tests.support.etcd import EtcdProcess


@pytest.fixture
def world(tmp_path: Path, etcd: EtcdProcess, prefix: str) -> World:
    return World(tmp_path, etcd, prefix)


@pytest.fixture
def pair(world: World) -> World:
    """Two sites in step, with one commit on main."""
    world.install("a", "b")
    world.commit("one")
    world.push("a", "HEAD:refs/heads/main")
    assert world.reconcile("a", "b").status == 0
    return world
