"""Several groups on one server: nothing of one touches another, whatever their names and their etcds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.life.bed import live, named
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

NAMES = ("tools", "tools/x", "tools-extra")


def _beside(group: Group, name: str, *, endpoint: str = "") -> Group:
    """Another group with a repository at each of the same servers, under the same controllers."""
    endpoints = (endpoint,) if endpoint else group.endpoints
    other = Group(group.folder, endpoints, group.prefix, name=name)
    other.environment = group.environment
    for site in ("oslo", "lima"):
        named(other, site, f"{name.replace('/', '-')}.git").build()
    return other


def _states(groups: list[Group]) -> dict[str, dict[str, str]]:
    return {str(site.repository): git.refs(site.repository) for group in groups for site in group}


def _pushed(site: Site, refspec: str = "HEAD:main") -> str:
    work = site.clone(site.repository.stem)
    oid = git.commit(work, f"to {site.repository.name}")
    accepted(git.push(work, site.repository, refspec))
    return oid


@pytest.mark.slow
def test_groups_whose_names_begin_alike_have_nothing_to_do_with_each_other(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    life = live(make_group, tmp_path, ("oslo", "lima"), started=False)
    groups = [life.group, *(_beside(life.group, name) for name in NAMES[1:])]
    life.group.start()
    for group in groups:
        for ref in ("main", "side"):
            _pushed(group[0], f"HEAD:{ref}")
        group.in_step()
    for group in groups:
        others = [one for one in groups if one is not group]
        before = _states(others)
        oid = _pushed(group[1], "HEAD:x/refs")  # as like to the others' keys as can be
        group.arrives("refs/heads/x/refs", oid)
        accepted(git.push(group[0].clone(group[0].repository.stem), group[0].repository, ":side"))
        group.arrives("refs/heads/side", "")
        until(lambda group=group: group.value("refs/heads/side") is None, PATIENCE, "its tombstone is reaped")  # type: ignore[misc]
        assert _states(others) == before
        listed = group.piehole("sites", "-C", str(group[0].repository)).out
        assert len(listed.splitlines()) == 2
    group, *others = groups
    group[1].piehole("leave", "--yes")
    refused(git.push(group[1].clone(group[1].repository.stem), group[1].repository, "HEAD:new"), "wrong-group")
    for other in others:
        other.arrives("refs/heads/new", _pushed(other[1], "HEAD:new"))
    assert group[0].at("refs/heads/new") == ""


@pytest.mark.slow
def test_two_groups_with_different_etcds_are_served_by_one_controller_and_one_etcd_away_holds_up_its_own_group_only(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    elsewhere = own_etcd()
    life = live(make_group, tmp_path, ("oslo", "lima"), started=False)
    other = _beside(life.group, "paper", endpoint=elsewhere.endpoint)
    life.group.start()
    for group in (life.group, other):
        group.arrives(MAIN, _pushed(group[0]), timeout=PATIENCE)
    elsewhere.kill()
    work = other[0].clone("letter")
    git.commit(work, "its etcd is away")
    refused(git.push(work, other[0].repository, "HEAD:main"), "no-quorum")
    for site in life.group:
        life.group.arrives(MAIN, _pushed(site))
    elsewhere.start()
    until(lambda: git.push(work, other[0].repository, "HEAD:main").returncode == 0, PATIENCE, "it is back")
    other.arrives(MAIN, git.rev_parse(work), timeout=PATIENCE)
