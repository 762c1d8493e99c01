"""What a killed receive-pack leaves behind is removed, and nothing that could be somebody else's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from piehole.fastpath import processes
from piehole.fastpath.inflight import FOLDER, Announcement, Record
from piehole.repository import stale_locks

MAIN = "refs/heads/main"
LIVING = processes.identity(os.getpid()) or ""
DEAD = LIVING.rpartition(".")[0] + ".1"
ELSEWHERE = ".".join([LIVING.split(".")[0], "1", *LIVING.split(".")[2:]])


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    return tmp_path


def record(git_dir: Path, name: str, *refs: str, new: str = "1" * 40) -> Path:
    made = Record(str(git_dir), name).open()
    for ref in refs:
        made.announce(Announcement(ref, "2" * 40, new, "[1]", managed=True))
    return Path(made.path)


def lock(git_dir: Path, name: str, *, age: float = 5) -> Path:
    path = git_dir / f"{name}.lock"
    path.touch()
    made = time.time() - age
    os.utime(path, (made, made))
    return path


def test_the_locks_of_a_dead_push_go_with_its_record(git_dir: Path) -> None:
    path = record(git_dir, DEAD, MAIN)
    locks = [lock(git_dir, MAIN), lock(git_dir, "HEAD")]
    stale_locks.clear(git_dir)
    assert not any(one.exists() for one in locks)
    assert not path.exists()


def test_the_locks_of_a_living_push_stay(git_dir: Path) -> None:
    path = record(git_dir, LIVING, MAIN)
    one = lock(git_dir, MAIN)
    stale_locks.clear(git_dir)
    assert one.exists()
    assert path.exists()


def test_a_ref_that_a_living_push_has_announced_stays_locked(git_dir: Path) -> None:
    record(git_dir, LIVING, MAIN)
    record(git_dir, DEAD, MAIN, "refs/heads/side")
    theirs, head, dead = lock(git_dir, MAIN), lock(git_dir, "HEAD"), lock(git_dir, "refs/heads/side")
    stale_locks.clear(git_dir)
    assert theirs.exists()
    assert head.exists()
    assert not dead.exists()


def test_locks_that_no_record_names_are_left_alone(git_dir: Path) -> None:
    record(git_dir, DEAD, MAIN)
    others = [lock(git_dir, name) for name in ("refs/heads/other", "config", "packed-refs", "shallow")]
    stale_locks.clear(git_dir)
    assert all(one.exists() for one in others)


def test_a_young_lock_is_looked_at_again_and_its_record_stays_until_then(git_dir: Path) -> None:
    path = record(git_dir, DEAD, MAIN)
    one = lock(git_dir, MAIN, age=0)
    stale_locks.clear(git_dir)
    assert one.exists()
    assert path.exists()


def test_a_lock_that_was_made_long_after_the_push_died_is_somebody_else_s(git_dir: Path) -> None:
    path = record(git_dir, DEAD, MAIN)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    one = lock(git_dir, MAIN)
    stale_locks.clear(git_dir)
    assert one.exists()
    assert not path.exists()


def test_the_packed_refs_are_unlocked_where_the_dead_push_deleted(git_dir: Path) -> None:
    record(git_dir, DEAD, MAIN, new="0" * 40)
    half_written = git_dir / "packed-refs.new"
    half_written.touch()
    os.utime(half_written, (time.time() - 5,) * 2)
    one = lock(git_dir, "packed-refs")
    stale_locks.clear(git_dir)
    assert not one.exists()
    assert not half_written.exists()


@pytest.mark.parametrize("content", ["", "piehole 1 cut", "want refs/heads/main"])
def test_a_record_that_was_cut_off_before_its_first_line_is_swept(git_dir: Path, content: str) -> None:
    (git_dir / FOLDER / DEAD).write_text(content)
    stale_locks.clear(git_dir)
    assert not (git_dir / FOLDER / DEAD).exists()


def test_a_record_of_another_pid_namespace_is_swept_after_a_day(git_dir: Path) -> None:
    path = record(git_dir, ELSEWHERE, MAIN)
    stale_locks.clear(git_dir)
    assert path.exists()
    two_days_ago = time.time() - 2 * 86400
    os.utime(path, (two_days_ago, two_days_ago))
    stale_locks.clear(git_dir)
    assert not path.exists()


def test_without_records_nothing_is_looked_at(tmp_path: Path) -> None:
    stale_locks.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_monitor_finds_a_dead_push_however_often_the_folder_was_empty(git_dir: Path) -> None:
    monitor = stale_locks.StaleLockMonitor(git_dir)
    old = time.time() - 3600
    os.utime(git_dir / FOLDER, (old, old))
    assert not monitor.any_dead()
    assert not monitor.any_dead()
    record(git_dir, LIVING, MAIN)
    assert not monitor.any_dead()
    record(git_dir, DEAD, MAIN)
    assert monitor.any_dead()
    assert monitor.any_dead()


def test_a_monitor_trusts_no_time_that_is_just_now(git_dir: Path) -> None:
    monitor = stale_locks.StaleLockMonitor(git_dir)
    now = time.time_ns()
    os.utime(git_dir / FOLDER, ns=(now, now))
    assert not monitor.any_dead()
    record(git_dir, DEAD, MAIN)
    os.utime(git_dir / FOLDER, ns=(now, now))  # a file system whose times do not tell the two writes apart
    assert monitor.any_dead()
