"""Connections that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from piehole.etcd.client import Credentials, Etcd
from tests.support.etcd import EtcdProcess

Connect = Callable[..., Etcd]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(endpoint, …, credentials=…)``: the first endpoint is asked first."""
    with ExitStack() as ends:

        def make(*endpoints: str, credentials: Credentials | None = None) -> Etcd:
            etcd = Etcd(endpoints, credentials, first=_zero)
            ends.callback(etcd.close)
            return etcd

        yield make


@pytest.fixture(scope="session")
def etcd(compactable_etcd: EtcdProcess) -> EtcdProcess:
    """The tests of this folder compact."""
    return compactable_etcd


@pytest.fixture
def client(etcd: EtcdProcess, connect: Connect) -> Etcd:
    """A connection to the member that all tests of the process share."""
    return connect(etcd.endpoint)


@pytest.fixture
def root(prefix: str) -> bytes:
    """The prefix of this test, as etcd keys are: in bytes."""
    return prefix.encode() + b"/"


def _zero(count: int) -> int:
    return 0


def keys(found: Sequence[object]) -> list[bytes]:
    return [kv.key for kv in found]  # type: ignore[attr-defined]
