"""What stands between a site and etcd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.etcd import EtcdProcess
from tests.support.etcd_tamper import Tamper, tampering

__all__ = ["tamper"]


@pytest.fixture
def tamper(etcd: EtcdProcess) -> Iterator[Tamper]:
    """Between a site and etcd."""
    with tampering(etcd.endpoint) as made:
        yield made
