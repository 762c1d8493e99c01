from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support.command_line import piehole
from tests.support.git import rev_parse
from tests.support.groups import Group


def test_where_nothing_is_wrong_nothing_is_done(pair: Group) -> None:
    before = pair.etcd.revision()
    answer = piehole("accept", "-C", pair["a"].repository)
    assert answer.status == 0, answer
    assert "nothing to accept" in answer.out
    assert pair.etcd.revision() == before


@pytest.mark.slow
def test_an_etcd_that_went_back_is_shown_and_accepted(tmp_path: Path, own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    world = Group(tmp_path, [member.endpoint], "/piehole")
    world.install("a", "b")
    old = world.commit("one")
    world.push("a", "HEAD:refs/heads/main")
    assert world.reconcile("a", "b").status == 0
    member.terminate()
    member.copy_data(tmp_path / "backup")
    member.start()
    new = world.commit("two")
    world.push("a", "HEAD:refs/heads/main", "HEAD:refs/heads/later")
    assert world.reconcile("a", "b").status == 0
    member.kill()
    member.restore_data(tmp_path / "backup")
    member.start()

    a = world["a"].repository
    status = piehole("status", "-C", a)
    assert status.status == 1
    assert "went-back" in status.line("halted: ")
    asked = piehole("accept", "-C", a)
    assert asked.status == 1
    assert f"{new[:12]} -> {old[:12]} (back)" in asked.line("refs/heads/main: ")
    assert "no opinion" in asked.line("refs/heads/later: ")
    assert world.reconcile("a").status == 1
    assert world["a"].at() == new

    assert piehole("accept", "-C", a, "--yes").status == 0
    assert world["a"].at() == new, "accept itself moves nothing"
    assert world.reconcile("a").status == 0
    assert world["a"].at() == old
    assert rev_parse(a, f"refs/piehole/kept/{new}") == new


def test_a_disk_that_went_back_is_shown_and_accepted(pair: Group) -> None:
    a = pair["a"].repository
    shutil.copytree(a, pair.folder / "backup")
    new = pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main")
    assert pair.reconcile("a", "b").status == 0
    shutil.rmtree(a)
    shutil.copytree(pair.folder / "backup", a)
    asked = piehole("accept", "-C", a)
    assert asked.status == 1
    assert "went-back" in asked.out
    assert f"-> {new[:12]} (its objects are not here)" in asked.line("refs/heads/main: ")
    assert piehole("accept", "-C", a, "--yes").status == 0
    assert pair.reconcile("a").status == 0
    assert pair["a"].at() == new


def test_damaged_notes_are_written_anew(pair: Group) -> None:
    a = pair["a"].repository
    (a / "piehole" / "state.json").write_text('{"publi')
    assert pair.reconcile("a").status == 1
    assert piehole("accept", "-C", a).status == 1
    assert piehole("accept", "-C", a, "--yes").status == 0
    assert pair.reconcile("a").status == 0


def test_a_missing_group_record_is_not_accepted(pair: Group) -> None:
    pair.etcd.delete(f"{pair.prefix}/group/g")
    before = pair.etcd.revision()
    answer = piehole("accept", "-C", pair["a"].repository, "--yes")
    assert answer.status == 1
    assert "piehole clobber" in answer.err
    assert pair.etcd.revision() == before
