"""The exit status tells whether every consensus ref is at consensus here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support.command_line import piehole_in_process
from tests.support.git import MAIN, git, make_bare
from tests.support.groups import Group


def test_consensus_ahead_is_stuck_and_the_other_refs_still_move(bed: Group) -> None:
    """A value names objects that nobody has."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.put("refs/heads/lost", "12" * 20)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/lost" in answer.err
    assert bed["b"].refs() == {MAIN: tip}


def test_consensus_ahead_is_mended_by_bringing_the_objects(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.put(MAIN, tip)
    assert bed.reconcile("b").status == 1
    git(bed["a"].repository, "fetch", "-q", str(bed.work), tip)
    assert bed.reconcile("b").status == 0
    assert bed["b"].at() == tip


def test_one_stuck_oid_among_many_holds_up_none(bed: Group) -> None:
    bed.install("a", "b")
    tips = [bed.commit(str(n)) for n in range(12)]
    git(bed["a"].repository, "fetch", "-q", str(bed.work), "HEAD")
    for n, tip in enumerate(tips):
        bed["a"].move(f"refs/heads/n{n}", tip)
        bed.put(f"refs/heads/n{n}", tip)
    bed.put("refs/heads/lost1", "12" * 20)
    bed.put("refs/heads/lost2", "34" * 20)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert sorted(bed["b"].refs().values()) == sorted(tips)
    assert answer.err.count("stuck:") == 2


def test_progress_is_held_back_by_a_stuck_ref_and_not_by_a_locked_one(bed: Group) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed.put("refs/heads/lost", "12" * 20)
    bed.reconcile("a")

    def told() -> int:
        return int(json.loads(bed.etcd.get(f"{bed.prefix}/progress/g/a") or "{}")["revision"])

    before = told()
    bed.put("refs/heads/other", tip)
    bed.reconcile("a")
    assert told() == before
    bed.put("refs/heads/lost", "locked")
    bed.reconcile("a")
    assert told() > before


def test_progress_is_published_only_when_something_changed(bed: Group) -> None:
    bed.install("a")
    bed.commit()
    bed.push("a")
    bed.reconcile("a")
    key = f"{bed.prefix}/progress/g/a"
    before = bed.etcd.look(key)
    bed.reconcile("a")
    bed.reconcile("a")
    assert bed.etcd.look(key) == before


@pytest.mark.slow
def test_without_etcd_it_is_3_and_wins_over_1(bed: Group, tmp_path: Path, own_etcd: OwnEtcd) -> None:
    other = Group(tmp_path / "other", [own_etcd().endpoint], bed.prefix)
    other.install("a")
    bed.install("a")
    bed.put("refs/heads/lost", "12" * 20)
    git(other["a"].repository, "config", "--replace-all", "piehole.etcd", "http://127.0.0.1:1")
    answer = piehole_in_process("reconcile", "--once", other["a"].repository, bed["a"].repository)
    assert answer.status == 3
    assert "stuck: refs/heads/lost" in answer.err
    assert "127.0.0.1:1" in answer.err


def test_what_is_not_installed_is_2_and_what_is_no_repository_is_1(bed: Group, tmp_path: Path) -> None:
    assert piehole_in_process("reconcile", "--once", make_bare(tmp_path / "plain.git")).status == 2
    assert piehole_in_process("reconcile", "--once", tmp_path / "nothing.git").status == 1
    assert piehole_in_process("reconcile").status == 2


def test_one_broken_repository_does_not_hold_up_the_next(bed: Group, tmp_path: Path) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    answer = piehole_in_process("reconcile", "--once", tmp_path / "nothing.git", bed["b"].repository)
    assert answer.status == 1
    assert bed["b"].at() == tip


def test_without_arguments_all_below_the_roots_are_brought_along(
    bed: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    git(tmp_path, "config", "--global", "piehole.root", f"{tmp_path}/none,{tmp_path}")
    monkeypatch.chdir("/")
    answer = piehole_in_process("reconcile", "--once")
    assert answer.status == 0, answer
    assert bed["b"].at() == tip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_root_leaves_another_accounts_repository_alone(bed: Group) -> None:
    bed.install("a", "b")
    bed.commit()
    bed.push("a")
    before = sorted(path.relative_to(bed["b"].repository) for path in bed["b"].repository.rglob("*"))
    for path in (bed["b"].repository, *bed["b"].repository.rglob("*")):
        shutil.chown(path, 12345, 12345)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "uid 12345" in answer.err
    assert sorted(path.relative_to(bed["b"].repository) for path in bed["b"].repository.rglob("*")) == before


def test_clock_wrong(bed: Group) -> None:
    """Times in the records of others that are hours off decide nothing."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    for key, value in bed.etcd.get_prefix(f"{bed.prefix}/progress/g/").items():
        bed.etcd.put(key, value.replace(value[value.index('"time":"') + 8 :][:19], "2099-01-01T00:00:00"))
    push = bed.etcd.get(bed.key("@push"))
    assert push is not None
    bed.put("@push", push.replace(push[push.index('"time":"') + 8 :][:19], "1999-01-01T00:00:00"))
    assert bed.reconcile("a", "b").status == 0
    assert bed["b"].at() == tip
