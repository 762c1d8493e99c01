from __future__ import annotations

import os
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from tests.conftest import OwnEtcd
from tests.support.command_line import piehole
from tests.support.git import git
from tests.support.groups import Group
from tests.support.ports import free_ports


@pytest.fixture(autouse=True)
def answering(pair: Group) -> Iterator[None]:
    """A site without a controller is not healthy, whatever else it is: one answers at each, and replicates nothing."""
    with pair.answering():
        yield


def site(shown: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = shown["repositories"][0]["sites"]
    return next(one for one in found if one["site"] == name)


def test_every_site_in_step_is_status_zero(pair: Group) -> None:
    answer = piehole("status", "-C", pair["a"].repository)
    assert answer.status == 0, answer
    assert "in step" in answer.line("site b: ")
    assert "(this site)" in answer.line("git: site a: ")


def test_a_site_that_is_behind_is_named_with_how_far_and_since_when(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main", "HEAD:refs/heads/next")
    pair.reconcile("a")
    answer = piehole("status", "-C", pair["a"].repository, "--json")
    assert answer.status == 1
    shown = answer.json
    assert shown["converged"] is False
    repository = shown["repositories"][0]
    assert (repository["in_step"], repository["converged"]) == (True, False)
    behind = site(shown, "b")
    assert (behind["state"], behind["behind"], behind["this"]) == ("behind", 2, False)
    assert 0 <= behind["seconds"] < 100
    assert behind["revision"] < repository["newest"] <= site(shown, "a")["revision"]
    assert "site b: behind by 2 refs for" in piehole("status", "-C", pair["a"].repository).out


def test_what_a_site_has_still_to_do_is_shown_there(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    answer = piehole("status", "-C", pair["b"].repository)
    assert answer.status == 1
    assert "its objects are not here yet" in answer.line("pending: refs/heads/main: ")
    before = git(pair["b"].repository, "for-each-ref").stdout
    assert before == git(pair["b"].repository, "for-each-ref").stdout
    assert pair.reconcile("a", "b").status == 0
    assert piehole("status", "-C", pair["b"].repository).status == 0


def test_a_site_without_a_word_was_never_seen_and_one_that_left_does_not_count(pair: Group) -> None:
    pair.etcd.delete(f"{pair.prefix}/progress/g/b")
    answer = piehole("status", "-C", pair["a"].repository)
    assert answer.status == 1
    assert "never seen" in answer.line("site b: ")
    assert piehole("leave", "-C", pair["a"].repository, "--site", "b").status == 0
    answer = piehole("status", "-C", pair["a"].repository)
    assert answer.status == 0, answer
    assert "site b: left" in answer.out


def test_locked_and_unadopted_refs_are_named_and_do_not_count(pair: Group) -> None:
    pair.push("a", "HEAD:refs/heads/closed")
    assert pair.reconcile("a", "b").status == 0
    pair.etcd.put(pair.key("refs/heads/closed"), "closed by an administrator")
    git(pair["a"].repository, "update-ref", "refs/heads/mine", pair["a"].at())
    assert pair.reconcile("a", "b").status == 0
    answer = piehole("status", "-C", pair["a"].repository)
    assert answer.status == 0, answer
    assert "closed by an administrator" in answer.line("locked: refs/heads/closed: ")
    assert answer.line("unadopted: refs/heads/mine")


def test_what_is_stuck_is_named_with_the_reason(pair: Group) -> None:
    b = pair["b"].repository
    git(b, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    pair.push("a", "HEAD:refs/heads/alias")
    lock = b / "refs" / "heads" / "main.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3600,) * 2)
    answer = piehole("status", "-C", b, "--json")
    assert answer.status == 1
    stuck = answer.json["repositories"][0]["stuck"]
    assert "symbolic" in stuck["refs/heads/alias"]
    assert str(lock) in stuck["refs/heads/main"]


def test_a_site_that_stands_still_says_why(pair: Group) -> None:
    pair.etcd.delete(f"{pair.prefix}/group/g")
    answer = piehole("status", "-C", pair["a"].repository, "--json")
    assert answer.status == 1
    halted = answer.json["repositories"][0]["halted"]
    assert halted.keys() == {"token", "why"}
    assert halted["token"].startswith("wrong-group")


@pytest.mark.slow
def test_where_no_endpoint_answers_the_status_is_three(pair: Group) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    answer = piehole("status", "-C", pair["a"].repository, "--etcd", nobody, "--json")
    assert answer.status == 3
    assert nobody in answer.json["repositories"][0]["error"]


def test_outside_of_a_repository_all_below_the_roots_are_shown(pair: Group) -> None:
    elsewhere = pair.folder / "elsewhere"
    elsewhere.mkdir()
    answer = piehole("status", "--root", pair.folder, cwd=elsewhere)
    assert answer.status == 0, answer
    assert f"{pair['a'].repository}: " in answer.out
    assert f"{pair['b'].repository}: " in answer.out
    assert piehole("status", cwd=elsewhere).status == 1
    git(pair.folder, "config", "--global", "piehole.root", str(pair.folder))
    assert piehole("status", cwd=elsewhere).out == answer.out


def test_wait_returns_once_every_site_has_come_so_far(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    assert pair.reconcile("a").status == 0
    assert piehole("status", "-C", pair["a"].repository, "--wait", "0.5").status == 1
    other = Thread(target=pair.reconcile, args=("b",))
    other.start()
    answer = piehole("status", "-C", pair["a"].repository, "--wait", "60")
    other.join()
    assert answer.status == 0, answer
    assert "in step" in answer.line("site b: ")


@pytest.mark.slow
def test_a_hung_etcd_ends_in_status_three_and_not_in_waiting(pair: Group, own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    member.pause()
    began = time.monotonic()
    answer = piehole("status", "-C", pair["a"].repository, "--etcd", member.endpoint)
    assert answer.status == 3
    assert time.monotonic() - began < 20


def test_names_of_refs_leave_as_the_bytes_they_are(pair: Group) -> None:
    name = b"refs/heads/caf\xe9".decode(errors="surrogateescape")
    main = pair["a"].at()
    os.makedirs(pair["a"].repository / "refs" / "heads", exist_ok=True)
    git(pair["a"].repository, "update-ref", name, main)
    answer = piehole("status", "-C", pair["a"].repository)
    assert answer.status == 0, answer
    assert f"unadopted: {name}" in answer.out
    assert piehole("status", "-C", pair["a"].repository, "--json").json["repositories"][0]["unadopted"] == [name]
