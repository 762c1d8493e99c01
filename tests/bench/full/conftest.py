"""Fixtures of the large measurements."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from tests.bench.full.kit import careful_etcd
from tests.support.etcd import EtcdProcess


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs in this process logs its troubles only: the tables are what is to be read."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()


@pytest.fixture
def fsync_etcd(etcd_binary: Path, tmp_path: Path) -> Iterator[EtcdProcess]:
    """A member that fsyncs, with the settings of deploy/etcd.env that matter here."""
    with ExitStack() as ends:
        member = careful_etcd(etcd_binary, tmp_path / "etcd", "--quota-backend-bytes=4294967296")
        ends.callback(member.kill)
        yield member
