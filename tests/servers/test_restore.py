"""etcd is restored from a snapshot that is older than the repositories, by deploy/'s script."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.bed.hosts import CHECKOUT
from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def _told(server: Server, revision: int) -> bool:
    record = server.etcdctl("get", "--print-value-only", f"/piehole/progress/project/{server.site}").stdout
    return int(json.loads(record)["revision"]) >= revision


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_etcd_is_put_back_line_by_line_and_nothing_moves_back(own_bed: ThreeServers) -> None:
    bed = own_bed
    oslo, lima, kyoto = bed.servers
    clone = bed.laptop.clone(oslo.https)
    old = bed.laptop.commit(clone, "before the backup")
    accepted(bed.laptop.push(clone, oslo.https))
    bed.arrives(MAIN, old)
    oslo.etcdctl("snapshot", "save", "/root/etcd.db", root=True)
    new = bed.laptop.commit(clone, "after the backup")
    accepted(bed.laptop.push(clone, lima.https))
    bed.arrives(MAIN, new)
    newest = json.loads(oslo.etcdctl("get", "-w", "json", f"/piehole/ref/project/{MAIN}").stdout)["kvs"][0]
    for server in bed:
        until(lambda server=server: _told(server, newest["mod_revision"]), what=f"{server.site} has told of it")  # type: ignore[misc]

    snapshot = oslo.host.path("/root/etcd.db").read_bytes()
    for server in bed:
        server.host.path("/root/etcd.db").write_bytes(snapshot)

    def put_back(server: Server) -> None:
        server.host.run("sh", str(CHECKOUT / "deploy" / "etcd-restore.sh"), "/root/etcd.db")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put_back, bed))
    for server in bed:
        server.wait_ready()
    assert old in oslo.etcdctl("get", f"/piehole/ref/project/{MAIN}").stdout

    def halted(server: Server) -> bool:
        return "went-back" in server.piehole("status", "-C", REPOSITORY, check=False).stdout

    for server in bed:
        until(lambda server=server: halted(server), 30, f"{server.site} stands still")  # type: ignore[misc]
    assert {server.at() for server in bed} == {new}
    bed.laptop.commit(clone, "while all stand still")
    refused(bed.laptop.push(clone, kyoto.ssh), "went-back")

    shown = kyoto.piehole("clobber", "--newest", "--yes", "-C", REPOSITORY)
    assert f"{old[:12]} -> {new[:12]} (forward)" in shown.stdout
    for server in (oslo, lima):
        assert "(back)" not in server.piehole("accept", "--yes", "-C", REPOSITORY).stdout
    latest = bed.laptop.commit(clone, "and on")
    for server in bed:
        until(lambda server=server: not halted(server), 60, f"{server.site} follows again")  # type: ignore[misc]
    accepted(bed.laptop.push(clone, kyoto.https))
    bed.arrives(MAIN, latest)
