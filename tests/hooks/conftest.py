from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hooks.world import World
from tests.support.etcd import EtcdProcess
from tests.support.sites import make_group

__all__ = ["make_group", "world"]


@pytest.fixture
def world(etcd: EtcdProcess, prefix: str, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, etcd.endpoint, prefix)
    yield made
    made.end()
