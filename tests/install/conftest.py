"""The bed of the tests of install: the command line on real repositories and the shared etcd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.bed import InstallBed
from tests.support.etcd import EtcdProcess


@pytest.fixture
def bed(tmp_path: Path, etcd: EtcdProcess, prefix: str) -> InstallBed:
    """One group, no site yet."""
    return InstallBed(tmp_path, [etcd.endpoint], prefix)
