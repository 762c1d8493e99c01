"""The default branch of the group: how it is changed, what a change at one server alone says, and how the old branch goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

TRUNK = "refs/heads/trunk"


@pytest.fixture
def trio(make_group: MakeGroup) -> Iterator[Group]:
    """Three sites with main and trunk; git refuses to delete the branch that HEAD names. At each a controller answers, and replicates nothing."""
    group = make_group(3, started=False)
    group.commit("one")
    group.push("a", "HEAD:main", "HEAD:trunk")
    for site in group:
        git.git(site.repository, "config", "receive.denyDeleteCurrent", "refuse")
    assert group.reconcile("a", "b", "c").status == 0
    with group.answering():
        yield group


def test_head_changed_at_one_server_is_put_back_and_the_message_changes_it_for_the_group(trio: Group) -> None:
    a = trio["a"]
    git.git(a.repository, "symbolic-ref", "HEAD", TRUNK)
    assert "changed here without a push" in a.piehole("status", check=False).line("pending: HEAD: ")
    assert "piehole clobber HEAD" in a.piehole("check").line("warning: HEAD is not as the group has it")
    said = trio.reconcile("a")
    assert a.head() == MAIN
    a.offered(said.line("put back: HEAD was pointed to refs/heads/trunk"))
    assert trio.reconcile("a", "b", "c").status == 0
    assert [site.head() for site in trio] == [TRUNK] * 3


def test_the_documented_procedure_renames_the_default_branch_and_deletes_the_old_one(trio: Group) -> None:
    """docs/guides/default-branch.md: also where the deletion is pushed to another site than HEAD was changed at."""
    a, b = trio["a"], trio["b"]
    refused = git.push(trio.work, b.repository, ":main")
    assert refused.returncode != 0
    assert "deletion of the current branch prohibited" in refused.stderr
    a.piehole("group", "set", "head", TRUNK)
    assert trio.reconcile("a", "b", "c").status == 0
    assert a.piehole("status").status == 0
    accepted(git.push(trio.work, b.repository, ":main"))
    assert trio.reconcile("a", "b", "c").status == 0
    for site in trio:
        assert (site.head(), site.at(MAIN)) == (TRUNK, "")
        assert git.git(site.clone(), "symbolic-ref", "HEAD").stdout.strip() == TRUNK
    # Somebody makes the old name an alias at one server: it is no part of the group, and said.
    git.git(a.repository, "symbolic-ref", MAIN, TRUNK)
    assert a.piehole("check").line(f"warning: {MAIN} is a symbolic ref (to {TRUNK})")
    assert trio.reconcile("a", "b", "c").status == 0
    assert trio.refs().keys() == {TRUNK}


def test_an_alias_of_the_old_name_in_the_way_of_its_deletion_says_so(trio: Group) -> None:
    a = trio["a"]
    trio.put("HEAD", f"ref: {TRUNK}")  # the other documented way
    assert trio.reconcile("a", "b").status == 0
    trio.push("b", ":main")
    git.git(a.repository, "update-ref", "-d", MAIN)
    git.git(a.repository, "symbolic-ref", MAIN, TRUNK)
    said = trio.reconcile("a")
    assert said.status == 1
    assert f"stuck: {MAIN}: it is a symbolic ref here (to {TRUNK})" in said.err
    git.git(a.repository, "symbolic-ref", "--delete", MAIN)
    assert trio.reconcile("a").status == 0


def test_the_controller_puts_head_back_with_a_word(trio: Group) -> None:
    a = trio["a"]
    git.git(a.repository, "symbolic-ref", "HEAD", TRUNK)
    a.start()
    told = a.wait_event("refs.put_back")["refs"]["HEAD"]
    until(lambda: a.head() == MAIN, 10, "HEAD is put back")
    a.offered(told)
    until(lambda: a.head() == TRUNK, 10, "HEAD is the group's new one")
