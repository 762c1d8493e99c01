"""Where the group's promise of copies is seen and changed besides `piehole group`: status, sites, leave, uninstall, install."""

from __future__ import annotations

import json

import pytest

from piehole.commands.leave import leave as leave_the_group
from piehole.commands.leave import promise_without
from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.group import alive
from piehole.group.sites import read_sites
from tests.cli.settings import group, living, record, write_record
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import PATIENCE, meanwhile, until


def test_status_sees_that_too_few_sites_can_hold_copies(pair: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(*options: str) -> Answer:
        return piehole_in_process("status", "-C", pair["a"].repository, *options)

    with pair.answering("a"):
        assert (status().status, "copies:" in status().out) == (0, False)
        group(pair, "set", "copies", "2")
        assert status().status == 1
        assert "2 (2 of 2 sites) promised; 1 of 2 sites can hold copies; b: no controller" in status().line("copies: ")
        living(pair, "b")
        assert status().status == 0
        assert "2 of 2 sites can hold copies" in status().line("copies: ")
        shown = status("--json").json["repositories"][0]["copies"]
        assert shown == {"promised": 2, "needed": 2, "kept": True, "able": ["a", "b"], "unable": {}}
        monkeypatch.setattr(alive, "SILENT_AFTER", -1.0)
        assert "b: its controller has been silent for " in status().line("copies: ")
        shown = status("--json").json["repositories"][0]
        assert (shown["healthy"], shown["copies"]["kept"], shown["copies"]["able"]) == (False, False, ["a"])


def test_sites_shows_the_promise(pair: Group) -> None:
    def sites(*options: str) -> Answer:
        return piehole_in_process("sites", "-C", pair["a"].repository, *options)

    assert len(sites().out.splitlines()) == 2
    assert [sites("--json").json[name] for name in ("copies", "copiesElse", "needed")] == [1, "refuse", 1]
    group(pair, "set", "copies", "majority")
    assert sites().out.splitlines()[2:] == ["promise: copies majority (2 of 2 sites)"]
    assert [sites("--json").json[name] for name in ("copies", "copiesElse", "needed")] == ["majority", "refuse", 2]
    write_record(pair, copies="most")
    assert sites("--json").json["copies"] is None


def leave(world: Group, *options: str) -> Answer:
    return piehole_in_process("leave", "-C", world["a"].repository, *options)


def has_left(world: Group, site: str) -> bool:
    return "left" in json.loads(world.etcd.get(f"{world.prefix}/site/g/{site}") or "")


def test_a_site_without_which_the_promise_cannot_be_kept_leaves_only_with_yes(pair: Group) -> None:
    group(pair, "set", "copies", "2")
    answer = leave(pair, "--site", "b")
    assert (answer.status, has_left(pair, "b")) == (1, False), answer
    assert "2 (2 of 2 sites). Without b it has fewer sites than that" in answer.out
    assert "--yes" in answer.err
    assert "`piehole group set copies 1`" in answer.out
    assert group(pair, "set", "copies", "1", "--yes").status == 0
    assert leave(pair, "--site", "b").status == 0
    assert has_left(pair, "b")


def test_a_site_that_is_lost_leaves_with_yes_whatever_was_promised(pair: Group) -> None:
    group(pair, "set", "copies", "2")
    answer = leave(pair, "--site", "b", "--yes")
    assert answer.status == 0, answer
    assert answer.line("the group promises copies: ").endswith("2 (2 of 1 site); before, 2 (2 of 2 sites)")
    assert "2 of 1 site" in piehole_in_process("sites", "-C", pair["a"].repository).line("promise: ")


@pytest.mark.parametrize("meanwhile", ["a site leaves", "more is promised"])
def test_a_site_does_not_leave_on_what_is_no_longer_true(pair: Group, meanwhile: str) -> None:
    pair.install("c")
    pair.reconcile("c")
    group(pair, "set", "copies", "2")
    replica = pair["a"].replica()
    members = read_sites(replica, Deadline(5))
    judged = promise_without(replica, replica.reader.list_group(Deadline(5)), members, "b")
    assert judged.possible
    if meanwhile == "a site leaves":
        assert piehole_in_process("leave", "-C", pair["c"].repository, "--yes").status == 0
    else:
        assert group(pair, "set", "copies", "3").status == 0
    with pytest.raises(PieholeError, match="at this very moment"):
        leave_the_group(replica, "b", Deadline(5), judged.guards)
    assert not has_left(pair, "b")


@pytest.mark.parametrize("promised", ["majority", "all"])
def test_the_number_that_follows_the_sites_is_told_when_one_leaves_or_joins(pair: Group, promised: str) -> None:
    group(pair, "set", "copies", promised)
    answer = leave(pair, "--site", "b")
    assert answer.status == 0, answer
    assert f"{promised} (1 of 1 site); before, {promised} (2 of 2 sites)" in answer.line("the group promises copies: ")
    joined = piehole_in_process("install", pair["b"].repository)
    assert f"{promised} (2 of 2 sites); before, {promised} (1 of 1 site)" in joined.line("the group promises copies: ")
    assert "pushes that need its copy may be refused (copies:)" in joined.line("note: until this site has everything")
    again = piehole_in_process("install", pair["b"].repository)
    assert again.line("the group promises copies: ").endswith(f"{promised} (2 of 2 sites)")
    assert "note: " not in again.out


def test_who_leaves_takes_no_copy_that_is_promised_along(pair: Group) -> None:
    """Of three sites with two copies, one has not fetched yet what the two others hold."""
    pair.install("c")
    pair.reconcile("c")
    group(pair, "set", "copies", "2")
    write_record(pair, copies=1)  # so that the push is accepted with whatever this bed has
    pair.commit("two")
    pair.push("a")
    pair.reconcile("a", "b")
    write_record(pair, copies=2)
    answer = leave(pair, "--site", "b")
    assert (answer.status, has_left(pair, "b")) == (1, False), answer
    assert answer.line("not at 2 sites without b: ").endswith(": refs/heads/main")
    assert leave(pair, "--site", "c").status == 0
    assert record(pair)["copies"] == 2


def test_uninstall_says_that_the_promise_cannot_be_kept_any_more(pair: Group) -> None:
    group(pair, "set", "copies", "2")
    answer = piehole_in_process("uninstall", pair["b"].repository)
    assert answer.status == 0, answer
    said = answer.line("note: the group promises copies, 2 (2 of 1 site), so every push is refused")
    assert "`piehole group set copies 1`" in said


def test_what_the_former_machine_of_a_name_had_is_no_copy_whatever_becomes_of_the_installation(
    pair: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_machine(pair)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("piehole.commands.install.progress.publish", killed)
    piehole_in_process("install", pair["b"].repository, *names(pair), "--replace")
    assert "b: never seen" in group(pair, "set", "copies", "2").err


def new_machine(pair: Group) -> None:
    pair["b"].repository.rename(pair["b"].repository.with_name("old.git"))
    pair["b"].make()


def names(pair: Group) -> list[str]:
    return ["--group", "g", "--site", "b", "--url", pair["b"].url, "--etcd", pair.endpoints[0], "--prefix", pair.prefix]


def test_a_machine_that_takes_over_a_name_says_that_copies_are_missing(pair: Group) -> None:
    group(pair, "set", "copies", "2")
    new_machine(pair)
    answer = piehole_in_process("install", pair["b"].repository, *names(pair), "--replace")
    assert answer.status == 0, answer
    assert answer.line("the group promises copies: ").endswith("2 (2 of 2 sites)")
    assert answer.line("note: the copies that the site 'b' had do not count any more")


@pytest.mark.slow
def test_a_group_that_is_pushed_to_all_the_time_promises_more_and_less_and_refuses_at_most_the_push_under_way(
    make_group: MakeGroup,
) -> None:
    world = make_group(3)
    work, _ = world.begun()
    pushed: list[str] = []
    again: list[str] = []

    def push_one() -> None:
        pushed.append(git.commit(work, "one more"))
        done = git.push(work, world["a"].repository, "HEAD:main")
        if done.returncode:  # it was judged by the former promise, and git holds its lock: nobody can be asked any more
            again.append(refused(done, "copies"))
            assert "the promise or the sites have changed meanwhile" in again[-1]
            accepted(git.push(work, world["a"].repository, "HEAD:main"))

    values = ("2", "all", "majority", "1", "2")
    with meanwhile(push_one):
        for value in values:
            world["b"].piehole("group", "set", "copies", value, "--yes")
            count = len(pushed)
            until(lambda count=count: len(pushed) > count + 1, PATIENCE, "pushes go on")  # type: ignore[misc]
    assert (record(world)["copies"], "raising" in record(world)) == (2, False)
    assert len(again) <= len(values)
    world.arrives(MAIN, pushed[-1])
