"""``piehole.maxDeletes``: a push that deletes more refs than that deletes none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import batching_receive_pack
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import Group, MakeGroup
from tests.support.pushes import chain, write_hook

MOST = 5
NAMES = [f"refs/heads/b{number}" for number in range(MOST + 2)]


def begun(make_group: MakeGroup, *, served: bool = True, settings: dict[str, str] | None = None) -> tuple[Group, Path]:
    """A site with more branches than one push may delete, and a clone with a newer commit."""
    group = make_group(1, started=False, settings={"piehole.maxDeletes": str(MOST), **(settings or {})})
    work = group.clone(group[0].repository)
    commit(work)
    accepted(push(work, group[0].repository, "HEAD:main", *(f"HEAD:{name}" for name in NAMES)))
    commit(work)
    if served:
        group[0].start()
    return group, work


def left(group: Group) -> list[str]:
    return [name for name in NAMES if group[0].at(name)]


@pytest.mark.parametrize("served", [True, False], ids=["controller", "no controller"])
def test_none_of_too_many_deletions_slips_through_and_the_rest_of_the_push_moves(
    make_group: MakeGroup, served: bool
) -> None:
    group, work = begun(make_group, served=served)
    site = group[0].repository
    done = push(work, site, f"HEAD:{MAIN}", *(f":{name}" for name in NAMES))
    said = refused(done, "too-many")
    assert f"cannot delete {len(NAMES)} refs" in said
    assert f"at most {MOST}" in said
    assert "piehole.maxDeletes 0" in said
    assert left(group) == NAMES
    assert group[0].at() == git(work, "rev-parse", "HEAD").stdout.strip()
    commit(work)
    with group.unchanged(site):
        refused(push(work, site, "--atomic", f"HEAD:{MAIN}", *(f":{name}" for name in NAMES)), "too-many")
        refused(push(work, site, "--prune", "refs/tags/*:refs/heads/*"), "too-many")
    accepted(push(work, site, *(f":{name}" for name in NAMES[:MOST])))
    assert left(group) == NAMES[MOST:]


def test_a_newer_git_deletes_none_either(make_group: MakeGroup) -> None:
    group, work = begun(make_group)
    stand_in = f"--receive-pack={batching_receive_pack.command(group.folder)}"
    with group.unchanged(group[0].repository):
        refused(push(work, group[0].repository, stand_in, *(f":{name}" for name in NAMES)), "too-many")


def test_none_slips_through_where_the_push_takes_longer_than_its_forecast_holds(make_group: MakeGroup) -> None:
    group, work = begun(make_group)
    chain(group[0].repository, "update", 'sleep 0.5; exec "$piehole" "$@"')
    with group.unchanged(group[0].repository):
        refused(push(work, group[0].repository, *(f":{name}" for name in NAMES)), "too-many")


def test_a_setting_of_zero_and_a_changed_one_count_at_once(make_group: MakeGroup) -> None:
    group, work = begun(make_group, served=False)
    site = group[0].repository
    refused(push(work, site, *(f":{name}" for name in NAMES)), "too-many")
    git(site, "config", "piehole.maxDeletes", "0")
    accepted(push(work, site, *(f":{name}" for name in NAMES)))
    assert left(group) == []


def test_refs_that_are_not_of_the_group_do_not_count(make_group: MakeGroup) -> None:
    group, work = begun(make_group, settings={"piehole.exclude": "refs/heads/b[01]"})
    accepted(push(work, group[0].repository, *(f":{name}" for name in NAMES)))
    assert left(group) == []


def test_without_piehole_s_pre_receive_what_was_let_pass_so_far_counts(make_group: MakeGroup) -> None:
    group, work = begun(make_group)
    write_hook(group[0].repository, "pre-receive", "#!/bin/sh\ncat >/dev/null\n")
    with group.unchanged(group[0].repository):
        refused(push(work, group[0].repository, "--atomic", *(f":{name}" for name in NAMES)), "too-many")
    said = refused(push(work, group[0].repository, *(f":{name}" for name in NAMES)), "too-many")
    assert f"more than {MOST} refs" in said
    assert len(left(group)) == len(NAMES) - MOST
