"""sites, leave, uninstall."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import piehole
from tests.support.git import git, push, refs
from tests.support.groups import Group
from tests.support.ports import free_ports


def test_sites_lists_everybody_and_marks_this_one(pair: Group) -> None:
    answer = piehole("sites", "-C", pair["b"].repository)
    assert answer.status == 0, answer
    assert answer.line(" a  ").startswith("  a  revision ")
    assert answer.line(" b  ").startswith("* b  ")
    shown = piehole("sites", "-C", pair["b"].repository, "--json").json
    assert [(one["site"], one["this"], one["left"], one["in_step"]) for one in shown["sites"]] == [
        ("a", False, False, True),
        ("b", True, False, True),
    ]
    assert shown["sites"][0]["url"] == str(pair["a"].repository)


def test_sites_of_a_nested_group_are_not_ours(pair: Group) -> None:
    pair.etcd.put(f"{pair.prefix}/site/g/inner/x", '{"id":"1","url":"/x"}')
    assert len(piehole("sites", "-C", pair["a"].repository, "--json").json["sites"]) == 2


@pytest.mark.slow
def test_sites_without_etcd_is_three(pair: Group) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    assert piehole("sites", "-C", pair["a"].repository, "--etcd", nobody).status == 3


def test_a_site_that_left_refuses_pushes_and_moves_nothing_until_it_is_installed_again(pair: Group) -> None:
    b = pair["b"].repository
    assert piehole("leave", "-C", b, "--yes").status == 0
    assert json.loads(pair.etcd.get(f"{pair.prefix}/site/g/b") or "")["left"] is True
    pair.commit("two")
    refused = push(pair.work, b, "HEAD:refs/heads/main")
    assert refused.returncode != 0
    assert "made to leave" in refused.stderr
    assert pair.reconcile("b").status == 1
    assert "had left already" in piehole("leave", "-C", b).out
    pair.install("b")
    assert pair.reconcile("b").status == 0


def test_a_lost_site_can_be_let_go_from_elsewhere(pair: Group) -> None:
    answer = piehole("leave", "-C", pair["a"].repository, "--site", "b")
    assert answer.status == 0, answer
    assert "left" in piehole("sites", "-C", pair["a"].repository).line(" b  ")
    unknown = piehole("leave", "-C", pair["a"].repository, "--site", "nobody")
    assert unknown.status == 1
    assert "Its sites: a, b" in unknown.err


def test_a_site_that_alone_holds_the_newest_state_leaves_only_with_yes(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    for leaving in (("-C", pair["a"].repository), ("-C", pair["b"].repository, "--site", "a")):
        # Whether or not it has published that it has it: it made the push.
        answer = piehole("leave", *leaving)
        assert answer.status == 1, answer
        assert "only at a: refs/heads/main" in answer.out
        assert "--yes" in answer.err
        pair.reconcile("a")
    assert piehole("leave", "-C", pair["b"].repository, "--yes").status == 0, "the one that is behind may go"
    assert "left" not in json.loads(pair.etcd.get(f"{pair.prefix}/site/g/a") or "")
    assert piehole("leave", "-C", pair["a"].repository, "--yes").status == 0


def test_a_repository_does_not_speak_for_another_machine_of_its_name(pair: Group) -> None:
    record = json.loads(pair.etcd.get(f"{pair.prefix}/site/g/b") or "")
    pair.etcd.put(f"{pair.prefix}/site/g/b", json.dumps({**record, "id": "another machine"}))
    assert piehole("leave", "-C", pair["b"].repository).status == 1
    answer = piehole("uninstall", pair["b"].repository)
    assert answer.status == 0, answer
    assert "left" not in json.loads(pair.etcd.get(f"{pair.prefix}/site/g/b") or "")


def test_uninstall_removes_all_that_is_ours_and_no_ref(pair: Group) -> None:
    b = pair["b"].repository
    before = refs(b)
    answer = piehole("uninstall", b)
    assert answer.status == 0, answer
    assert refs(b) == before
    assert not (b / "hooks" / "update").exists()
    assert not (b / "hooks" / "reference-transaction").exists()
    assert not (b / "piehole").exists()
    assert git(b, "config", "--local", "--get-regexp", r"^piehole\.", check=False).stdout == ""
    assert json.loads(pair.etcd.get(f"{pair.prefix}/site/g/b") or "")["left"] is True
    pair.commit("alone")
    assert push(pair.work, b, "HEAD:refs/heads/main").returncode == 0
    assert piehole("uninstall", b).status == 0


@pytest.mark.slow
def test_uninstall_without_etcd_says_what_remains_to_be_done(pair: Group) -> None:
    b = pair["b"].repository
    answer = piehole("uninstall", "-C", b, "--etcd", f"127.0.0.1:{free_ports(1)[0]}")
    assert answer.status == 0, answer
    assert "piehole leave --site b" in answer.out
    assert not (b / "hooks" / "update").exists()


def test_a_copy_is_uninstalled_without_its_original(pair: Group) -> None:
    copy = pair.folder / "copy.git"
    git(pair.folder, "clone", "-q", "--bare", str(pair["b"].repository), str(copy))
    (copy / "config").write_text((pair["b"].repository / "config").read_text())
    assert piehole("uninstall", "--local", copy).status == 0
    assert "left" not in json.loads(pair.etcd.get(f"{pair.prefix}/site/g/b") or "")


def test_somebody_elses_hook_stays_and_its_call_is_named(pair: Group) -> None:
    b = pair["b"].repository
    (b / "hooks" / "update").rename(b / "hooks" / "update.piehole")
    chain = '#!/bin/sh\nexec "$(dirname "$0")/update.piehole" "$@"\n'
    (b / "hooks" / "update").write_text(chain)
    answer = piehole("uninstall", b)
    assert answer.status == 0, answer
    assert "take that line out" in answer.line("still calls update.piehole")
    assert (b / "hooks" / "update").read_text() == chain
    assert not (b / "hooks" / "update.piehole").exists()


def test_sites_of_an_emptied_etcd_are_not_just_none(pair: Group) -> None:
    pair.etcd.delete_prefix(f"{pair.prefix}/")
    answer = piehole("sites", "-C", pair["a"].repository)
    assert answer.status == 1
    assert "no record of it" in answer.err or "no record of the group" in answer.err
