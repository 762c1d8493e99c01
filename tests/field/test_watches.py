"""What has silenced the watches of others: compaction, ended logins, restarted members, balancers and proxies, a long sleep."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import OwnCluster, OwnEtcd
from tests.etcd.proxy import Proxy
from tests.field.test_etcd_authentication import add_users, with_login
from tests.support.assertions import accepted
from tests.support.etcd import EtcdOptions
from tests.support.etcd_raw import RawEtcdError
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.ports import LOOPBACK, free_ports
from tests.support.process import ManagedProcess
from tests.support.wait import until

# The older versions of both lines lose events and deletions around compactions; a site that missed one relists within ten minutes.
SOON = 15.0


def pushed(group: Group, work: Path, site: int, *refspecs: str) -> None:
    accepted(push(work, group[site].repository, *refspecs))


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((LOOPBACK, port)) == 0


@pytest.mark.slow
@pytest.mark.etcd_versions
def test_pushes_and_deletions_arrive_while_etcd_compacts_ten_times_a_second(
    make_group: MakeGroup, own_etcd: OwnEtcd
) -> None:
    member = own_etcd()
    group = make_group(2, etcd=member)
    work, _ = group.begun()
    over = threading.Event()

    def compact() -> None:
        while not over.wait(0.1):
            try:
                member.raw.compact(member.raw.revision())
            except RawEtcdError:
                pass  # nothing was written since the last one

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        for number in range(12):
            oid = commit(work, f"commit {number}")
            pushed(group, work, number % 2, "HEAD:main", f"HEAD:topic{number}")
            group.arrives(MAIN, oid, timeout=SOON)
            group.arrives(f"refs/heads/topic{number}", oid, timeout=SOON)
            pushed(group, work, 1 - number % 2, f":topic{number}")
            group.arrives(f"refs/heads/topic{number}", "", timeout=SOON)
    finally:
        over.set()
        thread.join()
    until(lambda: group.in_step().keys() == {MAIN}, 20, "nothing but main is left")


@pytest.mark.slow
@pytest.mark.etcd_versions
def test_sites_go_on_while_tokens_end_and_each_member_is_restarted(
    make_group: MakeGroup, own_cluster: OwnCluster, tmp_path: Path
) -> None:
    cluster = own_cluster(3, options=EtcdOptions(extra=["--auth-token-ttl=1"]))
    add_users(cluster.members[0])
    cluster.members[0].raw.call("/auth/enable", {})
    password = tmp_path / "password"
    password.write_text("open\n")
    group = make_group(2, endpoints=cluster.endpoints, settings=with_login(password))
    work = group.clone(group[0].repository)
    for number, member in enumerate(cluster.members):
        member.restart()
        time.sleep(1.5)  # longer than a token that nobody uses
        oid = commit(work, f"after the restart of member {number}")
        pushed(group, work, number % 2, "HEAD:main")
        group.arrives(MAIN, oid, timeout=SOON)


@pytest.mark.slow
def test_a_balancer_over_three_members_serves_pushes_and_watches(
    make_group: MakeGroup, own_cluster: OwnCluster
) -> None:
    """Each connection goes to the next member, as a load balancer does it; one member is down for a while."""
    cluster = own_cluster(3)
    balancer = Proxy(cluster.endpoints[0])
    over = threading.Event()

    def rotate() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            balancer.lead_to(cluster.endpoints[number % 3])

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        group = make_group(2, endpoints=[balancer.endpoint])
        group.etcd = cluster.members[0].raw
        work = group.clone(group[0].repository)
        for number in range(4):
            if number == 2:
                cluster.followers()[0].kill()
            oid = commit(work, f"commit {number}")
            pushed(group, work, number % 2, "HEAD:main")
            group.arrives(MAIN, oid, timeout=SOON)
    finally:
        over.set()
        thread.join()
        balancer.close()


def test_a_grpc_proxy_is_refused_in_words(world: Group, etcd_binary: Path, tmp_path: Path) -> None:
    """`etcd grpc-proxy` serves no JSON gateway."""
    site = world["a"].build()
    (port,) = free_ports(1)
    endpoint = f"http://{LOOPBACK}:{port}"
    command = [str(etcd_binary), "grpc-proxy", "start", f"--endpoints={world.etcd.endpoint.removeprefix('http://')}"]
    proxy = ManagedProcess([*command, f"--listen-addr={LOOPBACK}:{port}"], tmp_path / "log")
    try:
        until(lambda: _listens(port), 20, "the proxy listens")
        answer = site.piehole("check", "--etcd", endpoint, check=False)
    finally:
        proxy.end()
    assert "does not speak etcd's v3 JSON" in answer.out
    assert "`etcd grpc-proxy`" in answer.out


@pytest.mark.slow
@pytest.mark.etcd_versions
def test_a_controller_that_slept_through_two_compactions_and_a_thousand_changes_lists_again(
    make_group: MakeGroup, own_etcd: OwnEtcd
) -> None:
    member = own_etcd()
    group = make_group(2, etcd=member)
    work, first = group.begun("doomed")
    second = commit(work, "second")
    pushed(group, work, 0, "HEAD:main")
    group.arrives(MAIN, second)
    git(work, "checkout", "-q", first)
    sleeper = group[1].controller
    assert sleeper is not None
    sleeper.pause()
    try:
        pushed(group, work, 0, ":doomed")
        for number in range(1000):
            group.put("refs/heads/busy", (first, second)[number % 2])
            if number in (500, 999):
                member.raw.compact(member.raw.revision())
        third = commit(work, "third")
        git(work, "push", "-q", str(group[0].repository), "HEAD:refs/heads/topic")
    finally:
        sleeper.resume()
    group.arrives("refs/heads/topic", third)
    group.arrives("refs/heads/busy", second)
    group.arrives("refs/heads/doomed", "")
    assert group.value("refs/heads/doomed") in (ZERO_SHA1, None)
