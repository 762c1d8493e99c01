"""Somebody who may write the repository uses the controller's socket without piehole's hooks, and makes up what a swap compares."""

from __future__ import annotations

import json

import pytest

from tests.support import git
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group, MakeGroup
from tests.support.hook_socket import ask_as_hook

ENDLESS = 2**62  # a revision that etcd never reaches


@pytest.fixture
def group(make_group: MakeGroup) -> Group:
    """One site with two commits on main; its clone has a third."""
    group = make_group(1)
    for message in ("one", "two"):
        group.commit(message)
        group.push("a")
    return group


def propose(
    group: Group, ref: str, old: str, new: str, *more: str, mod: int | None = None, revision: int = 0, parents: str = ""
) -> str:
    """The answer to a proposal whose basis has mod_revisions that anybody can guess: those that etcd holds now."""
    etcd = group.etcd
    found = etcd.look(group.key(ref))
    record = etcd.look(f"{group.prefix}/group/{group.name}")
    site = etcd.look(f"{group.prefix}/site/{group.name}/a")
    fence = etcd.look(group.key("@fence"))
    mods = [0 if one is None else one.mod_revision for one in (found, record, site, fence)]
    if mod is not None:
        mods[0] = mod
    basis = json.dumps([revision or mods[0], *mods, json.loads(parents or "[]"), 1], separators=(",", ":"))
    repository = group[0].repository
    lines = ["propose", f"repository {repository}", "push PACK 00", "waited 0", "pusher x"]
    return ask_as_hook(repository, [*lines, f"want {ref} {old} {new} {basis}", *more])[0]


def test_guessed_mod_revisions_do_not_overwrite_an_administrators_lock(group: Group) -> None:
    here = group[0].at()
    group.put(MAIN, "closed until Monday")
    before = group.history()
    parent = git.rev_parse(group[0].repository, f"{MAIN}~1")
    assert propose(group, MAIN, here, parent).startswith("refuse locked ")
    assert propose(group, MAIN, here, ZERO_SHA1).startswith("refuse locked ")
    assert propose(group, MAIN, ZERO_SHA1, here, revision=ENDLESS).startswith("refuse locked ")
    assert group.history() == before


def test_guessed_mod_revisions_do_not_move_a_ref_from_another_value_than_the_repositorys(group: Group) -> None:
    newest, before = group[0].at(), group.history()
    parent = git.rev_parse(group[0].repository, f"{MAIN}~1")
    other = git.git(group[0].repository, "commit-tree", f"{MAIN}^{{tree}}", "-m", "other").stdout.strip()
    assert propose(group, MAIN, parent, other).startswith("refuse stale ")
    assert propose(group, MAIN, ZERO_SHA1, other, revision=ENDLESS).startswith("refuse stale ")
    assert group.history() == before
    assert group[0].at() == newest


def test_a_basis_of_revisions_to_come_creates_no_name_above_another(group: Group) -> None:
    here, before = group[0].at(), group.refs()
    for ref, parents in (("refs/heads/main/sub", "[0]"), ("refs/heads/main/sub", "[]")):
        answer = propose(group, ref, ZERO_SHA1, here, revision=ENDLESS, parents=parents)
        assert answer.startswith("refuse conflict "), answer
    assert group.refs() == before


def test_an_absent_key_is_no_opinion_for_a_client_of_the_socket_either(group: Group) -> None:
    repository = group[0].repository
    here = group[0].at()
    git.git(repository, "update-ref", "refs/heads/mine", here)
    parent = git.rev_parse(repository, f"{MAIN}~1")
    assert propose(group, "refs/heads/mine", here, parent, mod=0).startswith("refuse unadopted ")
    assert group.value("refs/heads/mine") is None


def test_a_proposal_that_may_have_been_sent_before_is_judged_as_well(group: Group) -> None:
    here = group[0].at()
    group.put(MAIN, "closed until Monday")
    before = group.history()
    parent = git.rev_parse(group[0].repository, f"{MAIN}~1")
    assert propose(group, MAIN, here, parent, "earlier").startswith("refuse locked ")
    assert group.history() == before


def test_a_symbolic_ref_and_a_site_that_is_halted_take_no_proposal(group: Group) -> None:
    repository, here = group[0].repository, group[0].at()
    git.git(repository, "symbolic-ref", "refs/heads/alias", MAIN)
    assert propose(group, "refs/heads/alias", ZERO_SHA1, here, revision=ENDLESS).startswith("refuse reserved ")
    group.etcd.put(f"{group.prefix}/group/{group.name}", json.dumps({"id": "another", "object_format": "sha1"}))
    parent = git.rev_parse(repository, f"{MAIN}~1")
    assert propose(group, MAIN, here, parent).startswith("refuse wrong-group ")
    assert group.history()[-1] == here


def test_a_basis_that_holds_is_taken_whoever_names_it(group: Group) -> None:
    """The bases of a push that a controller before this one has admitted."""
    here = group[0].at()
    other = git.git(group[0].repository, "commit-tree", f"{MAIN}^{{tree}}", "-p", here, "-m", "three").stdout.strip()
    assert propose(group, MAIN, here, other).startswith("accepted ")
    assert group.value() == other
