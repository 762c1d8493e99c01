"""`piehole check` believes no URL: the repository there must show the refs that the site has published that it has."""

from __future__ import annotations

import shutil

from tests.support import git
from tests.support.command_line import Answer, piehole_in_process
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site


def check(site: Site) -> Answer:
    return piehole_in_process("check", site.repository)


def test_a_repository_that_was_swapped_with_another_groups_is_a_fault_at_every_site(
    pair: Group, make_group: MakeGroup
) -> None:
    other = make_group(2, started=False, name="other")
    other.commit("of the other group")
    other.push("a")
    assert other.reconcile("a", "b").status == 0
    with other.answering():
        assert (check(pair["a"]).status, check(other["b"]).status) == (0, 0)
    aside = pair.folder / "aside"
    pair["b"].repository.rename(aside)
    other["b"].repository.rename(pair["b"].repository)
    aside.rename(other["b"].repository)
    for site in (pair["a"], other["a"]):
        answer = check(site)
        assert answer.status == 1
        assert answer.line("leads to another repository than that of the site 'b'").startswith("fault: ")
    # The swapped repositories themselves: each has its own settings, and a URL that leads to the other one.
    for site in (pair["b"], other["b"]):
        assert check(site).line("leads to another repository than that of the site 'b'").startswith("fault: ")


def test_a_repository_that_was_made_anew_is_a_fault(pair: Group) -> None:
    shutil.rmtree(pair["b"].repository)
    git.make_bare(pair["b"].repository)
    answer = check(pair["a"])
    assert answer.status == 1
    assert "at nothing there" in answer.line("or to one that has lost its refs")


def test_two_sites_with_one_url_are_a_fault(pair: Group) -> None:
    git.git(pair["b"].repository, "config", "piehole.url", pair["a"].url)
    assert piehole_in_process("install", pair["b"].repository).status == 0
    assert check(pair["a"]).line(f"the sites 'a' and 'b' have the same URL, {pair['a'].url}").startswith("fault: ")


def test_a_ref_that_a_site_hides_or_has_moved_alone_is_a_warning(pair: Group) -> None:
    pair["b"].move("refs/heads/topic", "")
    answer = check(pair["a"])
    assert answer.status == 0
    said = answer.line("shows other refs than the site 'b' has published that it has: refs/heads/topic is at nothing")
    assert said.startswith("warning: ")
    assert pair.reconcile("b").status == 0
    assert "shows other refs" not in check(pair["a"]).out


def test_a_site_that_is_behind_shows_no_other_refs_than_it_has_published(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:main", ":topic", "HEAD:new")
    for site in pair:
        answer = check(site)
        assert answer.status == 0, answer
        assert "refs than the site" not in answer.out
    assert pair.reconcile("a").status == 0
    assert check(pair["b"]).status == 0
