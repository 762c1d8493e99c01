"""Did etcd go back, did this disk, is there a twin? Then nothing moves, and a person is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN, git
from tests.support.groups import Group


def back_up(etcd: EtcdProcess, backup: Path) -> None:
    etcd.terminate()
    etcd.copy_data(backup)
    etcd.start()


def put_back(etcd: EtcdProcess, backup: Path) -> None:
    """As after a disaster: what has happened since the backup is gone."""
    etcd.kill()
    etcd.restore_data(backup)
    etcd.start()


def in_step(folder: Path, etcd: EtcdProcess, prefix: str) -> Group:
    """Two sites with one commit, both in step."""
    bed = Group(folder, [etcd.endpoint], prefix)
    bed.install("a", "b")
    bed.commit("one")
    bed.push("a", "HEAD:main")
    assert bed.reconcile("a", "b").status == 0
    return bed


def test_etcd_went_back(tmp_path: Path, own_etcd: OwnEtcd, prefix: str) -> None:
    """An older data directory comes back: no ref goes back, none is deleted, also after its revision was overtaken."""
    etcd = own_etcd()
    bed = Group(tmp_path, [etcd.endpoint], prefix)
    bed.install("a", "b")
    bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:side")
    assert bed.reconcile("a", "b").status == 0
    back_up(etcd, tmp_path / "backup")
    new = bed.commit("two")
    bed.push("a", "HEAD:main", "HEAD:later")
    assert bed.reconcile("a", "b").status == 0
    before = bed["a"].refs()
    assert before[MAIN] == new
    put_back(etcd, tmp_path / "backup")
    for _ in range(2):
        for site in ("a", "b"):
            answer = bed.reconcile(site)
            assert answer.status == 1
            assert "went back" in answer.err
            assert "piehole accept" in answer.err
            assert bed[site].refs() == before
        for n in range(40):
            bed.etcd.put(f"{prefix}-elsewhere", str(n))


@pytest.mark.parametrize("overtaken", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_backup_of_etcd_from_before_a_push_that_no_controller_told_of(
    tmp_path: Path, own_etcd: OwnEtcd, prefix: str, overtaken: bool
) -> None:
    etcd = own_etcd()
    bed = in_step(tmp_path, etcd, prefix)
    back_up(etcd, tmp_path / "backup")
    new = bed.commit("two")
    bed.push("a", "HEAD:main")
    put_back(etcd, tmp_path / "backup")
    if overtaken:
        for number in range(20):
            bed.push("b", f"HEAD~1:refs/heads/side{number}")
    answer = bed.reconcile("a")
    assert answer.status == 1
    assert "went back" in answer.err
    assert bed["a"].at() == new


@pytest.mark.slow
@pytest.mark.parametrize("overtaken", [False, True])
def test_a_backup_of_etcd_from_before_moves_of_a_site_that_something_keeps_back(
    tmp_path: Path, own_etcd: OwnEtcd, prefix: str, overtaken: bool
) -> None:
    etcd = own_etcd()
    bed = in_step(tmp_path, etcd, prefix)
    bed.put("refs/heads/nowhere", "1" * 40)
    back_up(etcd, tmp_path / "backup")
    new = bed.commit("two")
    bed.push("a", "HEAD:main")
    assert bed.reconcile("b").status == 1, "one ref is stuck"
    assert bed["b"].at() == new
    put_back(etcd, tmp_path / "backup")
    if overtaken:
        for number in range(20):
            bed.etcd.put(f"{prefix}-elsewhere", str(number))
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "Nothing moves" in answer.err
    assert bed["b"].at() == new


def test_an_emptied_etcd_halts_and_moves_nothing(bed: Group) -> None:
    bed.install("a", "b")
    bed.commit()
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("a", "b")
    before = bed["b"].refs()
    bed.etcd.delete_prefix(bed.prefix)
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "no record of the group" in answer.err
    assert bed["b"].refs() == before
    assert bed.etcd.get_prefix(bed.prefix) == {}, "nothing was written either"


def test_another_group_of_the_same_name_halts(bed: Group) -> None:
    bed.install("a")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("a")
    bed.etcd.put(f"{bed.prefix}/group/g", '{"format":1,"id":"another","object_format":"sha1"}')
    bed.put(MAIN, "0" * 40)
    answer = bed.reconcile("a")
    assert answer.status == 1
    assert "another one" in answer.err
    assert bed["a"].at() == tip


def test_disk_restored(bed: Group, tmp_path: Path) -> None:
    """A repository that comes back from a backup is noticed, and takes part again only when a person says so."""
    bed.install("a", "b")
    bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.reconcile("a", "b")
    shutil.copytree(bed["b"].repository, tmp_path / "backup", symlinks=True)
    bed.commit("two")
    bed.push("a", "HEAD:main", ":side")
    bed.reconcile("a", "b")
    shutil.rmtree(bed["b"].repository)
    shutil.copytree(tmp_path / "backup", bed["b"].repository, symlinks=True)
    before = bed["b"].refs()
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "restored from a backup" in answer.err
    assert bed["b"].refs() == before


def test_a_twin_of_the_same_site_is_noticed(bed: Group) -> None:
    bed.install("a", "b")
    bed.commit()
    bed.push("a")
    bed.reconcile("a")
    shutil.copytree(bed["a"].repository, bed["twin"].repository, symlinks=True)
    bed.commit("two")
    bed.push("b")
    assert bed.reconcile("twin").status == 0
    answer = bed.reconcile("a")
    assert answer.status == 1
    assert "another machine uses the same site's name" in answer.err


def test_identity_clash(bed: Group) -> None:
    """Somebody took this site's name over: the former one stops."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("a", "b")
    bed.etcd.put(f"{bed.prefix}/site/g/b", '{"format":1,"id":"another","url":"ssh://else.example.org/x.git"}')
    bed.commit("two")
    bed.push("a")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "ssh://else.example.org/x.git" in answer.err
    assert bed["b"].at() == tip


def test_a_site_whose_record_vanished_registers_itself_again(bed: Group) -> None:
    bed.install("a")
    key = f"{bed.prefix}/site/g/a"
    before = bed.etcd.get(key)
    bed.etcd.delete(key)
    assert bed.reconcile("a").status == 0
    assert bed.etcd.get(key) == before


def test_a_site_that_was_made_to_leave_stays_away(bed: Group) -> None:
    bed.install("a", "b")
    record = bed.etcd.get(f"{bed.prefix}/site/g/b")
    assert record is not None
    bed.etcd.put(f"{bed.prefix}/site/g/b", record[:-1] + ',"left":true}')
    bed.commit()
    bed.push("a")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "made to leave" in answer.err
    assert bed["b"].refs() == {}


def test_a_record_whose_answer_was_lost_is_remembered(bed: Group) -> None:
    """The id is on disk before it is in etcd, so either outcome of a write that was cut off is known here."""
    bed.install("a")
    bed.commit()
    bed.push("a")
    bed.reconcile("a")
    state = bed["a"].repository / "piehole" / "state.json"
    before = state.read_bytes()
    bed.commit("two")
    bed.push("a")
    bed.reconcile("a")
    after = state.read_bytes()
    # As if the process had been killed between the two: what it had announced is pending.
    known, sent = json.loads(before), json.loads(after)
    state.write_text(json.dumps({"published": known["published"], "pending": [sent["published"]]}))
    assert bed.reconcile("a").status == 0
    git(bed["a"].repository, "fsck")
