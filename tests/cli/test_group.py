"""piehole group: the settings that all sites share."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from piehole.commands import group as commands
from piehole.deadline import Deadline
from tests.cli.settings import group, living, record, revision, write_record
from tests.support.assertions import refused
from tests.support.command_line import piehole_in_process, start_piehole
from tests.support.git import MAIN, push
from tests.support.groups import Group
from tests.support.wait import PATIENCE, until


def test_show_names_the_settings_and_the_sites(pair: Group) -> None:
    living(pair, "a")
    shown = group(pair, "show", "--json").json
    assert shown["id"] == record(pair)["id"]
    assert (shown["object_format"], shown["head"]) == ("sha1", MAIN)
    assert (shown["copies"], shown["copiesElse"], shown["needed"]) == (1, "refuse", 1)
    assert (shown["sites"], shown["able"], list(shown["unable"])) == (["a", "b"], ["a"], ["b"])
    assert "no controller there has given a sign of life" in shown["unable"]["b"]
    answer = group(pair, "show")
    assert answer.status == 0, answer
    assert answer.line("copies: ") == "copies: 1 (1 of 2 sites)"
    assert answer.line("unable: b: ")


def test_the_repository_and_etcd_may_be_named_before_the_action(pair: Group) -> None:
    a = pair["a"].repository
    assert piehole_in_process("group", "-C", a, "--etcd", pair.endpoints[0], "show").status == 0
    assert piehole_in_process("group", "-C", a, "sites").out == piehole_in_process("sites", "-C", a).out
    assert "no folder /nowhere" in piehole_in_process("group", "-C", a, "show", "-C", "/nowhere").err


def test_a_site_that_left_is_no_site_of_the_group(pair: Group) -> None:
    assert piehole_in_process("leave", "-C", pair["b"].repository, "--yes").status == 0
    assert group(pair, "show", "--json").json["sites"] == ["a"]


@pytest.mark.parametrize(("value", "stored"), [("2", 2), ("majority", "majority"), ("all", "all")])
def test_set_copies_writes_the_record_and_the_fence(pair: Group, value: str, stored: object) -> None:
    before, fence, refs = record(pair), revision(pair, "@fence"), pair.refs()
    answer = group(pair, "set", "copies", value)
    assert answer.status == 0, answer
    assert answer.line("copies: ") == f"copies: 1 -> {value}"
    assert record(pair) == {**before, "copies": stored, "format": 2}  # versions that know no promise refuse it
    assert revision(pair, "@fence") > fence  # so that every controller reads the record again
    assert pair.refs() == refs
    again = group(pair, "set", "copies", value)
    assert (again.status, again.out) == (0, f"nothing to change: copies is {value}\n")
    assert group(pair, "show", "--json").json["needed"] == 2


def test_fields_that_this_version_does_not_know_are_kept(pair: Group) -> None:
    write_record(pair, color="blue")
    assert group(pair, "set", "copies", "2").status == 0
    assert record(pair)["color"] == "blue"


@pytest.mark.parametrize(
    "arguments",
    [
        ("copies", "0"),
        ("copies", "-1"),
        ("copies", "two"),
        ("copies", "1.5"),
        ("copies", "²"),
        ("copies", "9" * 5000),
        ("copiesElse", "ignore"),
        ("head", "refs/tags/v1"),
        ("head", "refs/heads/a..b"),
        ("colour", "blue"),
        ("copies",),
    ],
    ids=lambda words: " ".join(words)[:20],
)
def test_what_no_setting_can_be_is_status_two(pair: Group, arguments: tuple[str, ...]) -> None:
    before = pair.etcd.look_prefix(f"{pair.prefix}/")
    answer = group(pair, "set", *arguments)
    assert answer.status == 2, answer
    assert answer.err.startswith("piehole: ")
    assert pair.etcd.look_prefix(f"{pair.prefix}/") == before


def test_more_copies_than_sites_are_refused_with_their_names(pair: Group) -> None:
    answer = group(pair, "set", "copies", "3")
    assert answer.status == 1
    assert "the group has 2 sites (a, b), so it cannot promise 3 copies" in answer.err
    assert "copies" not in record(pair)


def test_copies_are_not_promised_before_enough_sites_have_published_everything(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    pair.reconcile("a")
    answer = group(pair, "set", "copies", "2")
    assert answer.status == 1
    assert (
        "2 sites must have published that they have every commit of the group, and only a has (b: behind" in answer.err
    )
    assert "copies" not in record(pair)
    assert group(pair, "set", "copies", "all").status == 1
    pair.reconcile("b")
    assert group(pair, "set", "copies", "2").status == 0


INTERFERENCES: dict[str, Callable[[Group], object]] = {
    "the record": lambda pair: write_record(pair, color="blue"),
    "a ref": lambda pair: pair.put("refs/heads/new", pair["a"].at()),
    "a site": lambda pair: pair.etcd.put(f"{pair.prefix}/site/g/c", '{"id":"c","url":"/c"}'),
    "progress": lambda pair: pair.etcd.put(f"{pair.prefix}/progress/g/b", '{"id":"x","revision":0}'),
}


@pytest.mark.parametrize("interference", INTERFERENCES)
def test_a_promise_is_not_made_on_what_is_no_longer_true(pair: Group, interference: str) -> None:
    replica = pair["a"].replica()
    change = commands.judge(replica, "copies", "2", Deadline(5))
    INTERFERENCES[interference](pair)
    assert not commands.carry_out(replica, change, "anna", Deadline(5))
    assert "copies" not in record(pair)


def test_the_head_is_not_set_to_a_branch_that_somebody_has_just_deleted(pair: Group) -> None:
    pair.push("a", "HEAD:refs/heads/trunk")
    replica = pair["a"].replica()
    change = commands.judge(replica, "head", "refs/heads/trunk", Deadline(5))
    pair.push("a", ":refs/heads/trunk")
    assert not commands.carry_out(replica, change, "anna", Deadline(5))
    assert pair.value("HEAD") == f"ref: {MAIN}"


def test_a_site_that_is_only_behind_gets_time_and_pushes_keep_the_promise_meanwhile(pair: Group) -> None:
    living(pair, "a", "b")
    pair.commit("two")
    pair.push("a")
    pair.reconcile("a")
    before, log = record(pair), pair.folder / "set.log"
    words = ["group", "set", "copies", "2", "--wait", "60", "-C", str(pair["a"].repository)]
    setting = start_piehole(words, log, pair.environment)
    until(lambda: record(pair).get("copies") == 2, PATIENCE, "pushes keep the promise")
    assert record(pair) == {**before, "copies": 2, "format": 2, "raising": {"format": 1}}
    assert group(pair, "show", "--json").json["raising"] is True
    assert "not yet for commits from before" in group(pair, "show").line("copies: ")
    fence = revision(pair, "@fence")
    assert pair.reconcile("b").status == 0
    assert setting.wait(PATIENCE) == 0, log.read_text()
    assert record(pair) == {**before, "copies": 2, "format": 2}
    assert revision(pair, "@fence") > fence


def test_a_promise_that_does_not_come_to_count_is_taken_back(pair: Group) -> None:
    living(pair, "a", "b")
    write_record(pair, copies=2, copiesElse="warn")
    pair.commit("two")
    pair.push("a")
    pair.reconcile("a")
    before = record(pair)
    answer = group(pair, "set", "copiesElse", "refuse", "--wait", "0")
    assert answer.status == 1
    assert "and only a has (b: behind" in answer.err
    assert record(pair) == before


def test_a_promise_that_was_interrupted_is_completed_or_taken_back(pair: Group) -> None:
    write_record(pair, copies=2, raising={"copies": 1})
    assert group(pair, "set", "copies", "2").status == 0
    assert "raising" not in record(pair)
    write_record(pair, copies="all", raising={"copies": 1})
    pair.etcd.delete(f"{pair.prefix}/progress/g/b")
    assert "b: never seen" in group(pair, "set", "copies", "all").err
    assert group(pair, "set", "copies", "1").status == 0
    assert (record(pair)["copies"], "raising" in record(pair)) == (1, False)


def test_a_site_that_is_corrupt_or_never_seen_is_no_copy(pair: Group) -> None:
    key = f"{pair.prefix}/progress/g/b"
    progress = json.loads(pair.etcd.get(key) or "")
    pair.etcd.put(key, json.dumps(progress | {"verified": {"result": "corrupt", "why": "a blob is missing"}}))
    assert "b: corrupt: a blob is missing" in group(pair, "set", "copies", "2").err
    pair.etcd.delete(key)
    assert "b: never seen" in group(pair, "set", "copies", "2").err
    assert "copies" not in record(pair)


def test_less_is_promised_only_with_yes(pair: Group) -> None:
    group(pair, "set", "copies", "all")
    for value in ("majority", "2", "1"):  # of two sites they are the same now, and not of three
        answer = group(pair, "set", "copies", value)
        assert answer.status == 1, answer
        assert "--yes" in answer.err
        assert record(pair)["copies"] == "all"
    warned = group(pair, "set", "copiesElse", "warn")
    assert (warned.status, "--yes" in warned.err) == (1, True)
    assert group(pair, "set", "copiesElse", "warn", "--yes").status == 0
    assert record(pair)["copiesElse"] == "warn"
    assert group(pair, "set", "copiesElse", "refuse").status == 0
    pair.etcd.delete(f"{pair.prefix}/progress/g/b")
    assert group(pair, "set", "copies", "1", "--yes").status == 0, "to promise less is always possible"
    assert (record(pair)["copies"], record(pair)["format"]) == (1, 1)


def test_a_hard_promise_needs_the_copies_that_a_soft_one_did_not(pair: Group) -> None:
    write_record(pair, copies=2, copiesElse="warn")
    pair.etcd.delete(f"{pair.prefix}/progress/g/b")
    answer = group(pair, "set", "copiesElse", "refuse")
    assert answer.status == 1
    assert "b: never seen" in answer.err
    assert record(pair)["copiesElse"] == "warn"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 3}, "Upgrade piehole"),
        ({"copies": "most"}, "`piehole group set copies …`"),
        ({"copies": 0}, "`piehole group set copies …`"),
        ({"copies": True}, "`piehole group set copies …`"),
        ({"copies": None}, "`piehole group set copies …`"),
        ({"copiesElse": "ask"}, "`piehole group set copiesElse …`"),
    ],
)
def test_a_record_that_this_version_does_not_know_is_refused_by_everybody(
    pair: Group, fields: dict[str, object], words: str
) -> None:
    write_record(pair, **fields)
    before = record(pair)
    assert words in group(pair, "show").err
    pair.commit("two")
    with pair.unchanged(pair["a"].repository):
        assert words in refused(push(pair.work, pair["a"].repository, "HEAD:main"), "wrong-group")
        assert pair.reconcile("a").status == 1
        for command in (("clobber", "--yes"), ("leave", "--yes"), ("rename", "h", "--yes")):
            answer = piehole_in_process(command[0], "-C", pair["a"].repository, *command[1:])
            assert (answer.status, words in answer.err) == (1, True), answer
        assert words in piehole_in_process("check", pair["a"].repository).out
        assert words in piehole_in_process("status", "-C", pair["a"].repository).out
    assert record(pair) == before


def test_an_unknown_setting_of_the_record_is_set_anew(pair: Group) -> None:
    write_record(pair, copies="most")
    assert "--yes" in group(pair, "set", "copies", "2").err  # nobody knows what that promised
    answer = group(pair, "set", "copies", "2", "--yes")
    assert answer.status == 0, answer
    assert record(pair)["copies"] == 2
    write_record(pair, format=3)
    assert "Upgrade piehole" in group(pair, "set", "copies", "1", "--yes").err
    assert record(pair)["copies"] == 2


def test_the_head_is_a_live_branch_of_the_group(pair: Group) -> None:
    pair.push("a", "HEAD:refs/heads/trunk", "HEAD:refs/heads/old")
    pair.push("a", ":refs/heads/old")
    pair.put("refs/heads/locked", "closed")
    for branch in ("refs/heads/old", "refs/heads/locked", "refs/heads/nobody"):
        answer = group(pair, "set", "head", branch)
        assert answer.status == 1
        assert f"the group has no branch {branch}. Its branches: {MAIN}, refs/heads/trunk. Push" in answer.err
    assert pair.value("HEAD") == f"ref: {MAIN}"
    answer = group(pair, "set", "head", "refs/heads/trunk")
    assert answer.status == 0, answer
    assert answer.line("head: ") == f"head: {MAIN} -> refs/heads/trunk"
    assert pair.value("HEAD") == "ref: refs/heads/trunk"
    pair.reconcile("a", "b")
    assert [site.head() for site in pair] == ["refs/heads/trunk"] * 2


def test_sites_and_rename_are_the_old_commands(pair: Group) -> None:
    assert group(pair, "sites", "--json").json == piehole_in_process("sites", "--json", "-C", pair["a"].repository).json
    write_record(pair, color="blue")
    group(pair, "set", "copies", "all")
    answer = group(pair, "rename", "workshop")
    assert answer.status == 1
    assert "--yes" in answer.err
    assert group(pair, "rename", "workshop", "--yes").status == 0
    assert record(pair)["renamed"] == "workshop"
    new = json.loads(pair.etcd.get(f"{pair.prefix}/group/workshop") or "{}")
    assert (new["copies"], new["color"]) == ("all", "blue")
    assert new.keys() == record(pair).keys() - {"renamed", "renamed_id"}


def test_a_site_that_left_sets_nothing(pair: Group) -> None:
    piehole_in_process("leave", "-C", pair["b"].repository, "--yes")
    answer = group(pair, "set", "copies", "1", site="b")
    assert answer.status == 1
    assert "made to leave" in answer.err
