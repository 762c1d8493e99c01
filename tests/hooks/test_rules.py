"""The five rules, each through a real push."""

from __future__ import annotations

import pytest

from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs, rev_parse
from tests.support.groups import Group


def test_rule_1_a_push_of_what_the_group_already_has_is_accepted_and_writes_no_ref(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    before = world.etcd.look(world.key(MAIN))
    accepted(push(work, b, "HEAD:main"))
    assert world.etcd.look(world.key(MAIN)) == before
    assert refs(b)[MAIN] == refs(a)[MAIN] == first


def test_rule_1_tells_the_group_that_this_site_has_the_objects_now(world: Group) -> None:
    _, work, _ = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, b, "HEAD:main"))
    assert world.pushes()[max(world.pushes())]["site"] == "b"


def test_rule_2_a_push_moves_the_group_and_its_push_record_in_one_revision(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    moved = world.changes()[-1].revision
    record = world.pushes()[moved]
    assert record["site"] == "a"
    assert len(record["id"]) == 32
    assert record["pusher"]
    assert record["time"]
    assert refs(site)[MAIN] == second


def test_rule_2_says_that_the_group_has_accepted(world: Group) -> None:
    site, work, _ = world.founded()
    commit(work)
    assert "piehole: accepted: " in accepted(push(work, site, "HEAD:main")).stderr


def test_rule_2_a_ref_is_created_where_a_tombstone_stands(world: Group) -> None:
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:side"))
    accepted(push(work, site, ":side"))
    accepted(push(work, site, "HEAD:side"))
    assert world.history("refs/heads/side") == [first, ZERO_SHA1, first]


def test_rule_2_a_forced_push_moves_the_group_back(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    accepted(push(work, site, "HEAD:main"))
    accepted(push(work, site, "--force", f"{first}:main"))
    assert world.history() == [first, second, first]


def test_rule_2_a_value_with_a_newline_at_its_end_is_that_value(world: Group) -> None:
    site, work, first = world.founded()
    world.etcd.put(world.key(MAIN), first + "\n")
    second = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.value() == second


@pytest.mark.parametrize("further", [False, True], ids=["as it was", "with a further commit"])
def test_rule_3_after_the_home_server_is_lost_a_push_elsewhere_succeeds_at_the_first_try(
    world: Group, further: bool
) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    second = commit(work, "second")
    accepted(push(work, a, "HEAD:main"))
    a.rename(a.with_name("lost.git"))
    tip = commit(work, "third") if further else second
    accepted(push(work, b, "HEAD:main"))
    assert refs(b)[MAIN] == tip
    assert world.history() == ([first, second, tip] if further else [first, second])


def test_rule_3_keeps_the_local_tip_that_the_new_value_does_not_contain(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    git(work, "checkout", "-q", "--orphan", "other")
    stray = commit(work, "stray")
    git(b, "fetch", "-q", str(work), stray)
    git(b, "update-ref", MAIN, stray)
    git(work, "checkout", "-q", "-f", "main")
    second = commit(work, "second")
    assert rev_parse(work, "HEAD~1") == first
    accepted(push(work, b, "--force", "HEAD:main"))
    assert world.value() == second
    assert refs(b)[f"refs/piehole/kept/{stray}"] == stray
    assert a.exists()


def test_rule_3_does_not_move_tags(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:refs/tags/v1"))
    second = commit(work, "second")
    assert "refs/tags/v1" not in refs(b)
    refused(push(work, b, "HEAD:refs/tags/v1"), "stale")
    assert world.value("refs/tags/v1") == first != second


def test_rule_3_does_not_hold_where_the_history_diverged(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    git(work, "reset", "-q", "--hard", first)
    commit(work, "ours")
    refused(push(work, b, "HEAD:main"), "stale")
    assert world.value() == theirs


def test_replaced_history(world: Group) -> None:
    """A pushed refs/replace makes git itself see a fast-forward where there is none; the group is not fooled."""
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    git(work, "reset", "-q", "--hard", first)
    ours = commit(work, "ours")
    # The replacement of OURS is a commit that descends from THEIRS.
    git(work, "checkout", "-q", theirs)
    like_ours = commit(work, "like ours")
    accepted(push(work, b, f"{like_ours}:refs/replace/{ours}", f"{theirs}:refs/heads/brings-the-objects"))
    assert git(b, "merge-base", "--is-ancestor", theirs, ours, check=False).returncode in (0, 128)
    refused(push(work, b, f"{ours}:main"), "stale")
    assert git(b, "merge-base", "--is-ancestor", theirs, ours, check=False).returncode == 0, "git itself is fooled"
    assert world.value() == theirs


def test_a_graft_does_not_make_a_rewind_look_like_a_fast_forward(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    accepted(push(work, b, f"{theirs}:refs/heads/brings-the-objects"))
    git(work, "reset", "-q", "--hard", first)
    ours = commit(work, "ours")
    (b / "info" / "grafts").write_text(f"{ours} {theirs}\n")
    refused(push(work, b, f"{ours}:main"), "stale")
    assert world.value() == theirs


def test_rule_4_a_ref_that_the_group_does_not_have_is_not_moved(world: Group) -> None:
    site, work, first = world.founded()
    accepted(push(work, site, "HEAD:side"))
    world.etcd.delete(world.key("refs/heads/side"))
    commit(work)
    said = refused(push(work, site, "HEAD:side"), "unadopted")
    assert "piehole clobber refs/heads/side" in said
    refused(push(work, site, ":side"), "unadopted")
    assert world.value("refs/heads/side") is None
    assert refs(site)["refs/heads/side"] == first


def test_rule_5_says_which_value_the_group_has(world: Group) -> None:
    a, work, first = world.founded("a")
    b = world["b"].build().repository
    assert world.reconcile(b).status == 0
    theirs = commit(work, "theirs")
    accepted(push(work, a, "HEAD:main"))
    git(work, "reset", "-q", "--hard", first)
    commit(work, "ours")
    said = refused(push(work, b, "HEAD:main"), "stale")
    assert theirs in said
    assert "ull and push again" in said


def test_rule_5_a_ref_that_was_deleted_elsewhere_is_not_moved(world: Group) -> None:
    a, work, _ = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:side"))
    assert world.reconcile(b).status == 0
    accepted(push(work, a, ":side"))
    commit(work)
    refused(push(work, b, "HEAD:side"), "stale")
    assert world.value("refs/heads/side") == ZERO_SHA1


def test_a_deletion_of_what_was_deleted_elsewhere_is_accepted(world: Group) -> None:
    a, work, _ = world.founded("a")
    b = world["b"].build().repository
    accepted(push(work, a, "HEAD:side"))
    assert world.reconcile(b).status == 0
    accepted(push(work, a, ":side"))
    accepted(push(work, b, ":side"))
    assert "refs/heads/side" not in refs(b)
    assert world.value("refs/heads/side") == ZERO_SHA1
