"""What becomes of held copies: released when they are no longer needed, kept where only they have what a push has brought."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import git
from tests.support.copies import HELD, CopiesAsked, ask, held, pair, prune, put_objects, released, slow_pair
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import KEPT
from tests.support.wait import until


def test_answers_end_with_the_lease_of_the_request(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    asked.revoke()
    assert asked.holders() == []
    released(group[1])


def test_what_was_held_for_a_push_that_moved_nothing_goes(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    asked.end()
    released(group[1])
    prune(group[1])
    assert not git.has_object(group[1].repository, asked.oids[0])
    assert not group[1].kept()
    assert group[1].at() == first


def test_what_is_held_stays_until_the_refs_here_contain_it(make_group: MakeGroup) -> None:
    """Whatever hinders the reconcile, and whatever git removes meanwhile."""
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    lock = group[1].repository / f"{MAIN}.lock"
    lock.touch()
    asked.swap({MAIN: asked.oids[0]})
    group[1].stuck(MAIN)
    prune(group[1])
    assert asked.refs(group[1]) == asked.oids
    lock.unlink()
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    released(group[1])


def test_an_overwritten_push_is_kept_where_it_was_held(make_group: MakeGroup) -> None:
    """It was accepted, and this site's ref never had it."""
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    lock = group[1].repository / f"{MAIN}.lock"
    lock.touch()
    asked.swap({MAIN: asked.oids[0]})
    group[1].stuck(MAIN)
    git.git(work, "reset", "--quiet", "--hard", first)
    other = git.commit(work, "another")
    put_objects(group[0], work)
    group.put(MAIN, other)
    lock.unlink()
    group.arrives(MAIN, other, group.sites[1:])
    released(group[1])
    assert asked.oids[0] in group[1].kept()


def test_a_push_with_several_swaps_is_released_only_after_all_of_them(make_group: MakeGroup) -> None:
    """It moved one ref, and was refused for another, so its keys went without a swap."""
    group, work, first = pair(make_group)
    oids = [git.commit(work, "second"), git.commit(work, "third")]
    put_objects(group[0], work)
    asked = CopiesAsked(group, "a", oids, bases=[first], push_id="0123456789abcdef-01").wait("b")
    (group[1].repository / f"{MAIN}.lock").touch()
    asked.swap({MAIN: oids[0]}, push_id="0123456789abcdef", last=False)
    asked.end()
    group[1].stuck(MAIN)
    assert oids[0] in asked.refs(group[1])
    (group[1].repository / f"{MAIN}.lock").unlink()
    group.arrives(MAIN, oids[0], group.sites[1:])
    released(group[1])


def test_nobody_pushes_held_refs(make_group: MakeGroup) -> None:
    group, work, _ = pair(make_group)
    pushed = git.push(work, group[0].repository, f"HEAD:{HELD}0123/{git.rev_parse(work)}")
    assert pushed.returncode != 0
    assert "deny updating a hidden ref" in pushed.stderr
    assert held(group[0]) == {}


def test_a_held_ref_that_somebody_deletes_is_not_relied_upon(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    asked = ask(group, work, first).wait("b")
    git.git(group[1].repository, "update-ref", "-d", f"{HELD}{asked.id}/{asked.oids[0]}")
    prune(group[1])
    asked.swap({MAIN: asked.oids[0]})
    group.arrives(MAIN, asked.oids[0], group.sites[1:])
    git.git(group[1].repository, "fsck", "--connectivity-only")


def test_a_copy_that_came_too_late_is_there_when_the_push_is_repeated(make_group: MakeGroup, tmp_path: Path) -> None:
    group, work, first, seen = slow_pair(make_group, tmp_path)
    late = ask(group, work, first)
    until(seen.exists, 10, "the copy is being fetched")
    late.end()
    again = CopiesAsked(group, "a", late.oids, bases=[first]).wait("b")
    assert seen.read_text().split() == ["once"]
    assert again.refs(group[1]) == late.refs(group[1]) == late.oids
    assert late.holders() == []


def left_behind(group: Group, work: Path, *, seen: bool) -> str:
    """What a controller that died leaves at the second site: a held ref. ``seen``: the refs there contain it."""
    oid = git.rev_parse(work) if seen else git.commit(work, "nobody knows")
    put_objects(group[1], work)
    git.git(group[1].repository, "update-ref", f"{HELD}0123abc/{oid}", oid)
    return oid


@pytest.mark.parametrize("how", ["controller", "once", "uninstall"])
def test_what_a_dead_controller_has_held_is_kept_where_refs_do_not_contain_it(make_group: MakeGroup, how: str) -> None:
    group, work, first = pair(make_group)
    group[1].kill()
    oid = left_behind(group, work, seen=False)
    git.git(group[1].repository, "update-ref", f"{HELD}4567def/{first}", first)
    if how == "controller":
        group[1].start()
    elif how == "once":
        group.reconcile("b")
    else:
        group[1].piehole("uninstall")
    released(group[1])
    assert [ref for ref in git.refs(group[1].repository) if ref.startswith(KEPT)] == [f"{KEPT}{oid}"]
    assert git.has_object(group[1].repository, oid)


def test_a_held_ref_that_the_controller_does_not_know_is_found(make_group: MakeGroup) -> None:
    group, work, _ = pair(make_group)
    oid = left_behind(group, work, seen=False)
    group[1].signal(signal.SIGHUP)
    released(group[1])
    assert group[1].kept() == {oid}


def test_a_request_that_still_waits_is_answered_from_what_was_held_before(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    group[1].kill()
    oid = left_behind(group, work, seen=False)
    asked = CopiesAsked(group, "a", [oid], bases=[first], push_id="0123abc")
    group[0].repository.rename(group.folder / "burnt.git")
    group.reconcile("b")
    assert asked.refs(group[1]) == [oid]
    group[1].start()
    asked.wait("b")
    asked.swap({MAIN: oid})
    group.arrives(MAIN, oid, group.sites[1:])
    released(group[1])
    assert not group[1].kept()


def test_a_controller_that_is_killed_over_and_over_answers_in_the_end(make_group: MakeGroup) -> None:
    group, work, first = pair(make_group)
    asked = [ask(group, work, first, f"number {number}") for number in range(5)]
    for _ in range(3):
        group[1].kill()
        group[1].start()
    for one in asked:
        one.wait("b")
    git.git(group[1].repository, "fsck", "--connectivity-only")
    for one in asked:
        one.end()
    released(group[1])
