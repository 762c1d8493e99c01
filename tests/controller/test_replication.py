"""What reaches the other sites, and how soon."""

from __future__ import annotations

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.wait import until


def test_a_push_to_any_site_reaches_all_of_them(make_group: MakeGroup) -> None:
    group = make_group(3)
    for site in group:
        work = site.clone()
        oid = git.commit(work, f"at {site.name}")
        accepted(git.push(work, "origin", "HEAD:main"))
        group.arrives(MAIN, oid)


def test_two_sites_of_a_group_below_one_root_are_served_by_one_controller(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    inner = group.add("inner", root=group[0].root / "inner")
    inner.build()
    group[0].start()
    inner.controller = group[0].controller
    inner.wait_served()
    work = group[0].clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)
    newer = git.commit(work, "two")
    accepted(git.push(work, inner.url, "HEAD:main"))
    group.arrives(MAIN, newer)


def test_a_nested_group_is_another_group(make_group: MakeGroup) -> None:
    outer = make_group(1, name="tools")
    nested = make_group(1, name="tools/compiler")
    for group, branch in ((outer, "outer"), (nested, "nested")):
        work = group[0].clone()
        git.commit(work, branch)
        accepted(git.push(work, "origin", f"HEAD:{branch}"))
    for group, branch in ((outer, "outer"), (nested, "nested")):
        assert set(group.in_step()) == {f"refs/heads/{branch}"}


def test_the_default_branch_is_replicated(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main", "HEAD:trunk"))
    group.arrives("refs/heads/trunk", oid)
    group.put("HEAD", "ref: refs/heads/trunk")
    for site in group:
        until(
            lambda site=site: (site.repository / "HEAD").read_text() == "ref: refs/heads/trunk\n",  # type: ignore[misc]
            15,
            f"{site.name} follows",
        )
