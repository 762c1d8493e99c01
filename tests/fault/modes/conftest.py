"""``world`` as in tests/hooks, and what stands between a site and etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hooks.conftest import world
from tests.hooks.tamper import Tamper, tampering
from tests.support.etcd import EtcdProcess

__all__ = ["tamper", "world"]


@pytest.fixture
def tamper(etcd: EtcdProcess) -> Iterator[Tamper]:
    """Between a site and etcd."""
    with tampering(etcd.endpoint) as made:
        yield made
