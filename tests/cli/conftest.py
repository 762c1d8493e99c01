from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from piehole.commands.install import Installer, InstallRequest
from piehole.group.replica import Replica
from piehole.replicate.once import reconcile_once
from tests.cli.world import World
from tests.support.etcd import EtcdProcess


@pytest.fixture
def world(tmp_path: Path, etcd: EtcdProcess, prefix: str) -> World:
    return World(tmp_path, etcd, prefix)


@pytest.fixture
def pair(world: World) -> World:
    """Two sites in step, with one commit on main. Made in this process: it is what follows that a test is about."""
    sites = [world.bare(site) for site in ("a", "b")]
    for path in sites:
        overrides: dict[str, str | Sequence[str]] = {
            "group": "g",
            "site": path.stem,
            "url": str(path),
            "etcd": [world.etcd.endpoint],
            "prefix": world.prefix,
        }
        Installer(InstallRequest(path, overrides), lambda _: None).run()
    world.commit("one")
    world.push("a", "HEAD:refs/heads/main")
    for path in sites:
        assert reconcile_once(Replica.open(path)).converged
    return world
