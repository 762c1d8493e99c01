"""Copies for pushes to other sites: fetched, proven, held and told, and released when they are no longer needed."""

from __future__ import annotations

from tests.support import git
from tests.support.copies import CopiesAsked, put_objects
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.wait import until


def test_what_a_site_asks_for_is_held_by_the_others_and_told(make_group: MakeGroup) -> None:
    group = make_group(3)
    work, first = group.begun()
    git.commit(work, "second")
    oids = put_objects(group[0], work)
    asked = CopiesAsked(group, "a", oids, bases=[first]).wait("b", "c")
    assert asked.holders() == ["b", "c"]
    for site in (group[1], group[2]):
        assert asked.refs(site) == oids
        assert git.git(site.repository, "rev-list", "--objects", "--quiet", oids[0], "^" + first).returncode == 0
        assert site.at() == first
    asked.swap({MAIN: oids[0]})
    group.arrives(MAIN, oids[0], group.sites[1:])
    for site in (group[1], group[2]):
        until(lambda site=site: not asked.refs(site), 10, f"{site} has released it")  # type: ignore[misc]
