"""A site whose controller died, hangs or lost etcd looks healthy from outside until something is pushed: it must be seen before."""

from __future__ import annotations

import json
import time

import pytest

from piehole.deadline import Deadline
from piehole.group import alive
from piehole.group.alive import Presence
from piehole.group.replica import Replica
from tests.conftest import OwnEtcd
from tests.support.command_line import Answer, piehole_in_process
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until


def status(site: Site, *options: str) -> Answer:
    return piehole_in_process("status", "-C", site.repository, *options)


def heard(seen_by: Site, of: str) -> float | None:
    sites = status(seen_by, "--json").json["repositories"][0]["sites"]
    found: float | None = next(one["heard"] for one in sites if one["site"] == of)
    return found


def records(group: Group, site: str) -> dict[str, str]:
    return group.etcd.get_prefix(f"{group.prefix}/alive/{site}/")


@pytest.fixture
def pair(make_group: MakeGroup) -> Group:
    """Two sites in step, each with a controller that has given a sign of life."""
    group = make_group(2)
    oid = group.commit("one")
    group.push("a")
    group.arrives(MAIN, oid)
    group.published()
    for site in group:
        until(lambda site=site: records(group, site.name), 15, f"{site} has given a sign")  # type: ignore[misc]
    return group


def test_a_site_whose_controller_was_killed_is_called_silent_and_status_is_not_zero(
    pair: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    assert status(a).status == 0, status(a)
    assert heard(a, "b") is not None
    b.kill()
    monkeypatch.setattr(alive, "SILENT_AFTER", 2.0)  # 45 s
    until(lambda: "silent for " in status(a).line("site b: "), 20, "the silence is seen")
    answer = status(a)
    assert answer.status == 1
    assert "in step" in answer.line("site b: ")  # nothing was pushed since
    shown = status(a, "--json").json
    assert shown["converged"] is False
    repository = shown["repositories"][0]
    assert (repository["converged"], repository["healthy"]) == (True, False)
    silent = next(one for one in repository["sites"] if one["site"] == "b")
    assert (silent["state"], silent["silent"]) == ("in step", True)


def test_a_site_without_its_controller_says_so_at_once_with_its_exit_status(pair: Group) -> None:
    b = pair[1]
    assert b.piehole("check").status == 0
    b.kill()
    answer = b.piehole("status", check=False)
    assert answer.status == 1
    assert "none answers here" in answer.line("controller: ")
    assert b.piehole("status", "--json", check=False).json["repositories"][0]["healthy"] is False
    checked = b.piehole("check", check=False)
    assert checked.status == 1
    assert checked.line("fault: no controller answers for this repository")


def test_a_site_that_left_and_one_of_an_older_version_are_not_called_silent(
    pair: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    b.kill()
    for key in records(pair, "b"):
        pair.etcd.delete(key)
    monkeypatch.setattr(alive, "SILENT_AFTER", -1.0)
    others = status(a, "--json").json["repositories"][0]["sites"]
    assert next(one for one in others if one["site"] == "b")["heard"] is None
    assert "silent" not in status(a).line("site b: ")
    a.piehole("leave", "--site", "b", "--yes")
    assert status(a).line("site b: left")


def test_one_key_serves_all_groups_of_a_site_and_is_found_again_after_a_restart(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    site = group[0]
    for number in range(3):
        more = Group(group.folder / f"more{number}", group.endpoints, group.prefix, name=f"more{number}")
        one = more.add(site.name, root=site.root)
        one.repository = site.root / f"more{number}.git"
        one.url = str(one.repository)
        one.build()
    site.start()
    before = until(lambda: records(group, site.name), 15, "it has given a sign")
    assert len(before) == 1
    record = json.loads(next(iter(before.values())))
    assert len(record["serves"]) == 4 * 8
    site.stop()
    site.start()
    lease = {"ID": str(int(record["lease"], 16))}
    granted = int(group.etcd.call("/lease/timetolive", lease)["grantedTTL"])
    # At the end of a second a sign of life is seen by the second that is there again.
    until(lambda: int(group.etcd.call("/lease/timetolive", lease)["TTL"]) >= granted - 2, 15, "the same lease goes on")
    assert records(group, site.name).keys() == before.keys()


def test_signs_of_life_write_nothing_and_a_lost_lease_is_made_again(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    group = make_group(1, etcd=own_etcd(), started=False)
    site = group[0]
    replica = Replica.open(site.repository)
    presence = Presence(replica.etcd, replica.keyspace, "controller")
    serves = {site.name: {replica.config.site_id}}

    def give() -> int:
        presence.give(serves, Deadline(5))
        return int(group.etcd.call("/kv/range", {"key": "AA=="})["header"]["revision"])

    first = give()
    assert [give() for _ in range(40)] == [first] * 40
    lease = json.loads(next(iter(records(group, site.name).values())))["lease"]
    group.etcd.call("/lease/revoke", {"ID": str(int(lease, 16))})
    assert not records(group, site.name)
    give()
    assert heard(site, site.name) is not None
    for key in records(group, site.name):
        group.etcd.delete(key)
    for _ in range(40):  # it looks now and then
        give()
    assert heard(site, site.name) is not None
    serves[site.name] = set()
    give()
    assert not records(group, site.name)


class Controllers:
    """Signs of life of controllers that are none."""

    def __init__(self, site: Site) -> None:
        self.replica = Replica.open(site.repository)

    def give(self, controller: str, site: str, *ids: str) -> None:
        presence = Presence(self.replica.etcd, self.replica.keyspace, controller)
        presence.give({site: set(ids)}, Deadline(5))


def test_another_machine_of_the_same_name_in_another_group_does_not_hide_a_silent_one(pair: Group) -> None:
    a, b = pair
    b.kill()
    others = Controllers(a)
    time.sleep(2)  # the silence grows
    others.give("another-machine", "b", "ffffffff-1111-4111-8111-111111111111")
    assert len(records(pair, "b")) == 2
    seconds = heard(a, "b")
    assert seconds is not None and seconds >= 1
    own = Replica.open(b.repository).config.site_id
    others.give("its-successor", "b", own, "ffffffff-1111-4111-8111-111111111111")
    after = heard(a, "b")
    assert after is not None and after <= 1
    # What the former ones have left, its successor has removed.
    assert list(records(pair, "b")) == [f"{pair.prefix}/alive/b/its-successor"]


@pytest.mark.slow
@pytest.mark.etcd_versions
def test_a_dead_controller_is_seen_within_a_minute(make_group: MakeGroup, etcd: EtcdProcess) -> None:
    group = make_group(2)
    a, b = group
    oid = group.commit("one")
    group.push("a")
    group.arrives(MAIN, oid)
    until(lambda: a.piehole("status", check=False).status == 0, 20, "all is well")
    b.pause()
    until(lambda: "silent for" in a.piehole("status", check=False).line("site b: "), 65, "b is called silent")
    assert a.piehole("status", check=False).status == 1
    b.resume()
    until(lambda: a.piehole("status", check=False).status == 0, 20, "all is well again")
