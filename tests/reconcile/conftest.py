"""The bed of most tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reconcile.bed import Bed
from tests.support.etcd import EtcdProcess


@pytest.fixture
def bed(tmp_path: Path, etcd: EtcdProcess, prefix: str) -> Bed:
    """One group, no site yet."""
    return Bed(tmp_path, etcd.endpoint, prefix)
