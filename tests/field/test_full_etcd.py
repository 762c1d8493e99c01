"""etcd's quota is reached while controllers run, and etcd is made to go on: everything is in step again, and no rollback is suspected."""

from __future__ import annotations

import pytest

from piehole.commands.check import etcd_links
from piehole.etcd import json_gateway
from tests.conftest import OwnEtcd
from tests.support.assertions import Pushed, accepted, refused
from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.etcd_raw import RawEtcdError
from tests.support.git import MAIN, push
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

pytestmark = pytest.mark.etcd_versions


@pytest.fixture
def member(own_etcd: OwnEtcd) -> EtcdProcess:
    """A member with a quota that a few hundred small writes reach."""
    return own_etcd(options=EtcdOptions(extra=["--quota-backend-bytes=2097152"]))


def fill(member: EtcdProcess) -> None:
    """Write beside the group's keys until etcd says that it is full."""
    for number in range(400):
        if member.raw.status().get("errors"):
            return
        try:
            member.raw.put(f"/other/{number % 8}", "x" * 50_000)
        except RawEtcdError as error:
            assert "space exceeded" in str(error), error
            return
    raise AssertionError("the quota was not reached")


def empty(member: EtcdProcess) -> None:
    """What docs/guides/etcd.md says: compact, defragment, disarm the alarm."""
    raw = member.raw
    raw.compact(raw.revision())
    raw.call("/maintenance/defragment", {}, timeout=20)
    for alarm in raw.call("/maintenance/alarm", {})["alarms"]:
        raw.call("/maintenance/alarm", {"action": "DEACTIVATE", **alarm})


def pushed(group: Group, site: int, *refspecs: str) -> Pushed:
    return push(group.work, group[site].repository, *refspecs)


@pytest.mark.slow
def test_a_full_etcd_refuses_pushes_in_words_and_goes_on_once_it_was_emptied(
    make_group: MakeGroup, member: EtcdProcess
) -> None:
    group = make_group(2, etcd=member)
    first = group.commit("first")
    accepted(pushed(group, 0, "HEAD:main", "HEAD:doomed"))
    group.arrives("refs/heads/doomed", first)
    fill(member)
    second = group.commit("second")
    assert "is full" in refused(pushed(group, 0, "HEAD:main"), "no-access")
    refused(pushed(group, 1, ":doomed"), "no-access")
    # A site that has been told so asks first, and `update` refuses: its words reach the user over every transport.
    again = pushed(group, 0, "HEAD:main")
    assert "is full" in refused(again, "no-access")
    assert "remote: piehole: no-access" in again.stderr
    assert group.value() == first

    answer = group[0].piehole("check", check=False)
    assert answer.status == 1
    assert "is full (alarm NOSPACE)" in answer.out
    assert "can be reached" not in answer.out

    empty(member)
    accepted(pushed(group, 0, "HEAD:main", ":doomed"))
    group.arrives(MAIN, second)
    group.arrives("refs/heads/doomed", "")
    # Progress goes on, so the tombstone is reaped, and no site suspects a rollback.
    until(lambda: group.value("refs/heads/doomed") is None, 40, "the tombstone is reaped")
    answer = group[0].piehole("status")
    assert "went-back" not in answer.out
    assert "NOSPACE" not in group[0].piehole("check", check=False).out
    for site in group:
        assert "went-back" not in site.log_text()


@pytest.mark.parametrize(
    ("quota", "size", "warned"),
    [(0, 1700 << 20, True), (0, 1 << 30, False), (8 << 30, 7 << 30, True), (8 << 30, 1 << 30, False)],
)
def test_check_warns_before_etcd_is_full(quota: int, size: int, warned: bool) -> None:
    """A status with a size that no test can wait for (replayed)."""
    header = {"cluster_id": "1", "member_id": "2", "revision": "3"}
    told = {"version": "3.6.14", "dbSize": str(size), **({"dbSizeQuota": str(quota)} if quota else {})}
    link = json_gateway.endpoint_status("E", {"header": header}, told, 0.001, needs_no_login=False)
    assert any("MiB" in fault.what and fault.warning for fault in etcd_links.faults([link])) == warned
