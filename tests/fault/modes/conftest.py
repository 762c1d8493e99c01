"""The beds of the tests here: sites with controllers (``make_group``), and sites whose hooks decide alone (``world``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hooks.conftest import world
from tests.hooks.tamper import Tamper, tampering
from tests.support.etcd import EtcdProcess
from tests.support.sites import make_group

__all__ = ["make_group", "tamper", "world"]


@pytest.fixture
def tamper(etcd: EtcdProcess) -> Iterator[Tamper]:
    """Between a site and etcd."""
    with tampering(etcd.endpoint) as made:
        yield made
