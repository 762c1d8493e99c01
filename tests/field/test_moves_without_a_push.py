"""Refs that a forge's page, an administrator or a client without hooks changes at one site: what is said, where, and which command fixes it."""

from __future__ import annotations

import threading

import pytest
from dulwich.client import LocalGitClient
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo

from tests.support import git
from tests.support.assertions import accepted
from tests.support.command_line import piehole
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until

TOPIC = "refs/heads/topic"
TAG = "refs/tags/v1"


def test_a_tag_made_by_the_server_is_told_by_status_check_and_reconcile_with_a_command_that_fixes_it(
    pair: Group,
) -> None:
    a = pair["a"]
    tip = git.rev_parse(pair.work)
    git.git(a.repository, "tag", "v1", "main")
    pushed = accepted(git.push(pair.work, a.repository, "HEAD:refs/tags/v1"))
    assert "Everything up-to-date" in pushed.stderr
    assert pair.reconcile("a", "b").status == 0
    for answer in (a.piehole("status"), pair.reconcile("a")):
        assert answer.status == 0  # the site has every value of the group
        assert TAG in answer.line(f"unadopted: {TAG}")
        assert f"piehole clobber {TAG}" in answer.out
    assert "1 unadopted" in a.piehole("status").line("group g, site a: in step")
    warning = a.piehole("check").line(f"warning: the group has no value for {TAG}")
    assert "Everything up-to-date" in warning
    a.offered(warning)
    assert pair.reconcile("a", "b").status == 0
    assert pair["b"].at(TAG) == tip
    assert "unadopted" not in a.piehole("status").out
    assert "no value" not in a.piehole("check").out


def test_a_tag_made_by_the_server_is_the_groups_once_a_user_pushes_it_to_another_site(pair: Group) -> None:
    git.git(pair["a"].repository, "tag", "v1", "main")
    pair.push("b", "HEAD:refs/tags/v1")
    assert pair.reconcile("a", "b").status == 0
    assert "unadopted" not in pair["a"].piehole("status").out
    assert pair.value(TAG) == pair["a"].at(TAG) == pair["b"].at(TAG)


def test_a_branch_deleted_by_the_server_comes_back_and_the_message_offers_a_deletion_that_stays(pair: Group) -> None:
    a = pair["a"]
    git.git(a.repository, "branch", "-D", "topic")
    pending = a.piehole("status", check=False).line(f"pending: {TOPIC}: ")
    assert "changed here without a push" in pending
    assert "--delete" in a.piehole("check").line(f"warning: {TOPIC} is not as the group has it")
    said = pair.reconcile("a")
    assert said.status == 0
    assert a.at(TOPIC)
    a.offered(said.line(f"put back: {TOPIC} was deleted here"))
    assert pair.reconcile("a", "b").status == 0
    assert (a.at(TOPIC), pair["b"].at(TOPIC)) == ("", "")


def test_a_deletion_by_the_server_can_be_made_the_groups_before_it_is_put_back(pair: Group) -> None:
    a = pair["a"]
    git.git(a.repository, "branch", "-D", "topic")
    a.offered(a.piehole("status", check=False).line(f"pending: {TOPIC}: "))
    assert pair.reconcile("a", "b").status == 0
    assert (a.at(TOPIC), pair["b"].at(TOPIC)) == ("", "")


def test_a_branch_moved_by_the_server_goes_back_and_the_message_offers_a_push_of_what_it_had(pair: Group) -> None:
    a = pair["a"]
    old = a.at()
    other = git.git(a.repository, "commit-tree", f"{old}^{{tree}}", "-m", "by a web page").stdout.strip()
    a.move(MAIN, other)
    said = pair.reconcile("a").line(f"put back: {MAIN} was moved")
    assert a.at() == old
    a.offered(said)
    assert pair.reconcile("a", "b").status == 0
    assert pair["b"].at() == other


def test_a_tag_made_again_after_the_group_deleted_it_is_removed_with_a_word(pair: Group) -> None:
    a = pair["a"]
    tip = a.at()
    pair.push("a", "HEAD:refs/tags/v1")
    pair.push("a", ":refs/tags/v1")
    assert pair.reconcile("a").status == 0  # b has not seen the deletion, so the tombstone stays
    a.move(TAG, tip)
    said = pair.reconcile("a").line(f"put back: {TAG} was made here again")
    assert a.at(TAG) == ""
    a.offered(said)
    assert pair.reconcile("a", "b").status == 0
    assert pair["b"].at(TAG) == tip


def test_what_the_group_moves_itself_is_never_called_a_local_change(pair: Group) -> None:
    """A site that is behind, and one that joins with old refs, have changed nothing."""
    pair.commit("two")
    pair.push("a", "HEAD:main", ":topic", "HEAD:refs/heads/new")
    status = pair["b"].piehole("status", check=False)
    assert "without a push" not in status.out
    assert "put back" not in pair.reconcile("b").out
    pair.install("c")
    assert "put back" not in pair.reconcile("c").out
    assert "without a push" not in pair["c"].piehole("check", check=False).out


@pytest.mark.parametrize("kind", ["new", "moved"])
def test_a_push_by_path_with_dulwich_asks_no_hook_and_is_told_with_the_fix(pair: Group, kind: str) -> None:
    a, ref = pair["a"], "refs/heads/feature" if kind == "new" else MAIN
    before = a.at()
    tip = pair.commit("by dulwich")
    with Repo(str(pair.work)) as work:
        wanted = {Ref(ref.encode()): ObjectID(tip.encode())}
        LocalGitClient().send_pack(
            str(a.repository), lambda _: wanted, lambda have, want, **_: work.generate_pack_data(have, want)
        )
    assert a.at(ref) == tip
    if kind == "new":
        assert "Everything up-to-date" in accepted(git.push(pair.work, a.repository, f"HEAD:{ref}")).stderr
        assert pair.reconcile("a", "b").status == 0
        a.offered(a.piehole("check").line(f"the group has no value for {ref}"))
    else:
        said = pair.reconcile("a")
        assert a.at() == before
        assert tip in a.kept() or tip in said.out
        a.offered(said.line(f"put back: {ref}"))
    assert pair.reconcile("a", "b").status == 0
    assert pair["b"].at(ref) == tip


def test_the_controller_logs_both_and_goes_on_telling_status_and_check(pair: Group) -> None:
    a = pair["a"]
    git.git(a.repository, "tag", "v1", "main")
    git.git(a.repository, "branch", "-D", "topic")
    a.start()
    back = a.wait_event("refs.put_back")
    assert back["level"] == "warning"
    assert f"git -C {a.repository} push . :{TOPIC}" in back["refs"][TOPIC]
    alone = a.wait_event("refs.unadopted")
    assert (alone["refs"], alone["level"]) == ([TAG], "warning")
    assert f"piehole clobber {TAG}" in alone["fix"]
    until(lambda: a.at(TOPIC), 10, "the branch is back")
    told = a.piehole("status", check=False).line(f"put-back {TOPIC} ")
    a.offered(a.piehole("check", check=False).line(f"warning: {TOPIC} was changed at this site alone"))
    assert "push . :" in told
    assert pair.reconcile("b").status == 0
    assert pair["b"].at(TOPIC) == ""
    assert len(a.events("refs.unadopted")) == 1


@pytest.mark.slow
def test_pushes_at_both_sites_are_never_called_local_changes(make_group: MakeGroup) -> None:
    """Full reconciles run beside pushes, forced ones and deletions, whose refs git moves itself a moment after the group has."""
    group = make_group(2)
    group.begun("topic")
    works = [site.clone() for site in group]

    def user(number: int) -> None:
        work, site = works[number], group[number]
        for turn in range(6):
            git.commit(work, f"{number}-{turn}", file=f"{number}.txt")
            git.push(work, site.repository, f"+HEAD:refs/heads/of-{number}", "+HEAD:topic")
            if turn % 2:
                git.push(work, site.repository, ":topic")
                git.git(work, "commit", "--quiet", "--amend", "-m", "anew")

    said: list[str] = []
    users = [threading.Thread(target=user, args=(number,)) for number in range(2)]
    for one in users:
        one.start()
    while any(one.is_alive() for one in users):
        for site in group:
            said.append(piehole("reconcile", "--once", site.repository, env=site.environment).out)
    for one in users:
        one.join()
    group.in_step()
    assert "put back" not in "".join(said)
    for site in group:
        assert site.events("refs.put_back") == []
        assert site.events("refs.unadopted") == []
