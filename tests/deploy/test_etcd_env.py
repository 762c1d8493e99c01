"""deploy/etcd.env, read by the real etcds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Put
from tests.support.etcd_raw import RawEtcd
from tests.support.ports import free_ports
from tests.support.process import ManagedProcess
from tests.support.wait import until

FILE = Path(__file__).parents[2] / "deploy" / "etcd.env"
# What is commented out needs certificates, but for these two.
_OPTIONAL = ("ETCD_HEARTBEAT_INTERVAL", "ETCD_ELECTION_TIMEOUT")


def _settings(folder: Path, client: int, peer: int) -> dict[str, str]:
    text = FILE.read_text()
    for name in _OPTIONAL:
        text = text.replace(f"#{name}=", f"{name}=")
    found = dict(re.findall(r"^(ETCD_[A-Z_]+)=(.*)$", text, re.MULTILINE))
    moved = {
        name: value.replace(":2379", f":{client}").replace(":2380", f":{peer}").replace("/var/lib/etcd", str(folder))
        for name, value in found.items()
    }
    assert moved["ETCD_LISTEN_CLIENT_URLS"] == f"http://127.0.0.1:{client}", "as it stands it listens on loopback only"
    return moved


@pytest.fixture
def member(etcd_binary: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], ManagedProcess, str]]:
    client, peer = free_ports(2)
    settings = _settings(tmp_path, client, peer)
    process = ManagedProcess([str(etcd_binary)], tmp_path / "log", env={"PATH": os.environ["PATH"], **settings})
    endpoint = f"http://127.0.0.1:{client}"
    try:
        until(lambda: not process.alive or RawEtcd(endpoint).health(), 30, "etcd is healthy")
        assert process.alive, process.tail()
        yield settings, process, endpoint
    finally:
        process.end()


@pytest.mark.etcd_versions
def test_etcd_takes_every_setting_and_a_transaction_of_many_refs(
    member: tuple[dict[str, str], ManagedProcess, str],
) -> None:
    settings, process, endpoint = member
    log = process.log.read_text()
    assert {name for name in settings if not re.search(rf"recognized and used.*{name}\b", log)} == set()
    assert "unrecognized environment variable" not in log
    names = [f"/piehole/ref/g/refs/heads/{number}".encode() for number in range(1000)]
    etcd = Etcd([endpoint])
    try:
        done = etcd.txn([Compare(name) for name in names], [Put(name, b"x") for name in names], deadline=Deadline(20))
    finally:
        etcd.close()
    assert done.succeeded
