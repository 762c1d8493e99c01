"""What reaches the other sites, and how soon."""

from __future__ import annotations

from tests.support import git
from tests.support.sites import MAIN, MakeGroup, accepted


def test_a_push_to_any_site_reaches_all_of_them(make_group: MakeGroup) -> None:
    group = make_group(3)
    for site in group:
        work = site.clone()
        oid = git.commit(work, f"at {site.name}")
        accepted(git.push(work, "origin", "HEAD:main"))
        group.everywhere(MAIN, oid)
