"""What a killed receive-pack leaves behind is removed, and nothing that could be somebody else's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from piehole.fastpath import held_locks, processes
from piehole.fastpath.inflight import FOLDER, Announcement, Record
from piehole.repository import stale_locks

MAIN = "refs/heads/main"
LIVING = processes.identity(os.getpid()) or ""
DEAD = f"{LIVING.rpartition('.')[0]}.1.{processes.machine()}"
ELSEWHERE = ".".join([LIVING.split(".")[0], "1", *LIVING.split(".")[2:]])
ANOTHER_MACHINE = ".".join(["another-boot", *LIVING.split(".")[1:], "0123456789ab-elsewhere"])
EARLIER_BOOT = ".".join(["another-boot", *LIVING.split(".")[1:], processes.machine()])
EARLIER_VERSION = ".".join(["another-boot", *LIVING.split(".")[1:]])


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "HEAD").write_text(f"ref: {MAIN}\n")
    return tmp_path


def record(git_dir: Path, name: str, *refs: str, deletes: bool = False) -> Path:
    """A record as a push leaves it whose git was prepared to move these refs."""
    made = Record(str(git_dir), name).open()
    for ref in refs:
        made.announce(Announcement(ref, "2" * 40, "1" * 40, "[1]", managed=True))
    path = Path(made.path)
    with path.open("a") as file:
        file.write(held_locks.lines(str(git_dir), list(refs), deletes=deletes))
    return path


def lock(git_dir: Path, name: str, *, age: float = 5) -> Path:
    path = git_dir / (name if name.endswith(".new") else f"{name}.lock")
    path.touch()
    made = time.time() - age
    os.utime(path, (made, made))
    return path


@pytest.mark.parametrize("age", [0, 5, 86400, -3600])
@pytest.mark.parametrize("name", [DEAD, EARLIER_BOOT], ids=["dead", "earlier boot"])
def test_the_locks_of_a_dead_push_go_with_its_record_whatever_their_times_say(
    git_dir: Path, name: str, age: float
) -> None:
    locks = [lock(git_dir, one, age=age) for one in (MAIN, "HEAD")]
    path = record(git_dir, name, MAIN)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    stale_locks.clear(git_dir)
    assert not any(one.exists() for one in locks)
    assert not path.exists()


def test_the_packed_refs_are_unlocked_where_the_dead_push_deleted(git_dir: Path) -> None:
    locks = [lock(git_dir, one) for one in (MAIN, "packed-refs", "packed-refs.new")]
    record(git_dir, DEAD, MAIN, deletes=True)
    stale_locks.clear(git_dir)
    assert not any(one.exists() for one in locks)


def test_a_lock_that_was_made_after_the_dead_one_s_was_removed_is_somebody_else_s(git_dir: Path) -> None:
    """Also where it has the very time of the dead one's: the file system's clock may be coarse."""
    names = (MAIN, "HEAD", "packed-refs")
    locks = [lock(git_dir, name) for name in names]
    path = record(git_dir, DEAD, MAIN, deletes=True)
    times = [one.stat().st_mtime_ns for one in locks]
    for one, made in zip(locks, times, strict=True):
        one.rename(one.with_name(f"{one.name}.gone"))  # so that no inode is used again
        one.touch()
        os.utime(one, ns=(made, made))
    stale_locks.clear(git_dir)
    assert all(one.exists() for one in locks)
    assert not path.exists()


def test_a_lock_that_has_its_inode_again_is_told_by_its_time(git_dir: Path) -> None:
    one = lock(git_dir, MAIN)
    record(git_dir, DEAD, MAIN)
    os.utime(one, ns=(1, 1))
    stale_locks.clear(git_dir)
    assert one.exists()


@pytest.mark.parametrize(
    "name",
    [LIVING, ELSEWHERE, ANOTHER_MACHINE, EARLIER_VERSION],
    ids=["living", "another container", "another machine", "earlier version"],
)
def test_the_locks_of_a_push_that_may_live_stay(git_dir: Path, name: str) -> None:
    one = lock(git_dir, MAIN)
    path = record(git_dir, name, MAIN)
    long_ago = time.time() - 3 * 86400
    os.utime(path, (long_ago, long_ago))
    stale_locks.clear(git_dir)
    assert one.exists()
    assert path.exists()
    assert list(stale_locks.unjudged(git_dir)) == ([] if name == LIVING else [str(path)])


def test_what_its_own_machine_says_is_dead_is_dead(git_dir: Path) -> None:
    one = lock(git_dir, MAIN)
    path = record(git_dir, ANOTHER_MACHINE, MAIN)
    monitor = stale_locks.StaleLockMonitor(git_dir)
    assert not monitor.any_dead()
    Record(str(git_dir), ANOTHER_MACHINE).note_end()
    assert monitor.any_dead()
    stale_locks.clear(git_dir)
    assert not one.exists()
    assert not path.exists()


def test_locks_that_no_record_knows_are_left_alone(git_dir: Path) -> None:
    path = record(git_dir, DEAD, MAIN, deletes=True)
    others = [lock(git_dir, name) for name in (MAIN, "HEAD", "refs/heads/other", "config", "packed-refs", "shallow")]
    stale_locks.clear(git_dir)
    assert all(one.exists() for one in others)
    assert not path.exists()


def unmarked(git_dir: Path, name: str, *, intended: str = "1" * 40) -> Path:
    """The record of a push whose git was killed before its locks were noted."""
    made = Record(str(git_dir), name).open()
    made.announce(Announcement(MAIN, "2" * 40, intended, "[1]", managed=True))
    return Path(made.path)


def written(git_dir: Path, content: str, *, age: float = 16) -> Path:
    """The lock of main with this content."""
    path = git_dir / f"{MAIN}.lock"
    path.write_text(content)
    return lock(git_dir, MAIN, age=age)


def test_an_unmarked_lock_goes_once_it_is_old(git_dir: Path) -> None:
    young = written(git_dir, f"{'1' * 40}\n", age=13)
    path = unmarked(git_dir, DEAD)
    stale_locks.clear(git_dir)
    assert young.exists()
    assert path.exists()
    old = written(git_dir, f"{'1' * 40}\n")
    head = lock(git_dir, "HEAD", age=15.99)
    stale_locks.clear(git_dir)
    assert not old.exists()
    assert not head.exists()
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "1" * 40, f"{'3' * 40}\n", f"{'1' * 40}\n\n", "ref: refs/heads/x\n"])
def test_a_lock_with_another_content_is_somebody_else_s(git_dir: Path, content: str) -> None:
    one = written(git_dir, content)
    path = unmarked(git_dir, DEAD)
    stale_locks.clear(git_dir)
    assert one.exists()
    assert not path.exists()


def test_an_empty_lock_is_nobody_s_though_a_deletion_was_to_come(git_dir: Path) -> None:
    """`git pack-refs` and `git reflog expire` leave it empty, too."""
    one = written(git_dir, "")
    unmarked(git_dir, DEAD, intended="0" * 40)
    stale_locks.clear(git_dir)
    assert one.exists()


@pytest.mark.parametrize("other", [LIVING, ELSEWHERE, ANOTHER_MACHINE], ids=["living", "container", "machine"])
def test_an_unmarked_lock_stays_while_it_may_be_that_of_another_push(git_dir: Path, other: str) -> None:
    """The same commit is often pushed to the same ref twice."""
    one = written(git_dir, f"{'1' * 40}\n")
    path, second = unmarked(git_dir, DEAD), unmarked(git_dir, other)
    stale_locks.clear(git_dir)
    assert one.exists()
    assert path.exists()
    second.unlink()
    stale_locks.clear(git_dir)
    assert not one.exists()
    assert not path.exists()


def test_an_unmarked_lock_that_is_dated_in_the_future_stays(git_dir: Path) -> None:
    one = written(git_dir, f"{'1' * 40}\n", age=-3600)
    unmarked(git_dir, DEAD)
    stale_locks.clear(git_dir)
    assert one.exists()


@pytest.mark.parametrize(("later", "content"), [(-1.0, ""), (10.0, ""), (0.01, "ref: refs/heads/x\n")])
def test_a_lock_of_head_that_does_not_belong_to_an_unmarked_one_stays(
    git_dir: Path, later: float, content: str
) -> None:
    one = written(git_dir, f"{'1' * 40}\n", age=60)
    (git_dir / "HEAD.lock").write_text(content)
    head = lock(git_dir, "HEAD", age=60 - later)
    unmarked(git_dir, DEAD)
    stale_locks.clear(git_dir)
    assert not one.exists()
    assert head.exists()


def test_the_lock_of_a_head_that_points_elsewhere_is_not_noted(git_dir: Path) -> None:
    head = lock(git_dir, "HEAD")
    record(git_dir, DEAD, "refs/heads/side")
    stale_locks.clear(git_dir)
    assert head.exists()


def test_nothing_is_noted_once_receive_pack_has_ended(git_dir: Path) -> None:
    """It removes its locks when it gets SIGTERM, while its hook runs on: what lies there then may be anybody's."""
    one = lock(git_dir, MAIN)
    made = Record(str(git_dir), DEAD).open()
    made.note_locks([MAIN], deletes=False)
    stale_locks.clear(git_dir)
    assert one.exists()


@pytest.mark.parametrize("name", ["../outside.lock", "config", "refs/heads/main", "refs/../../outside.lock", "HEAD"])
def test_a_record_removes_nothing_but_locks_of_git_whatever_it_says(git_dir: Path, name: str) -> None:
    """Whoever may push may write a record; the controller may write more."""
    git_dir = git_dir / "site.git"
    (git_dir / FOLDER).mkdir(parents=True)
    (git_dir / "refs" / "heads").mkdir(parents=True)
    path = Path(os.path.normpath(git_dir / name))
    path.touch()
    made = record(git_dir, DEAD)
    with made.open("a") as file:
        file.write(f"lock {name} {held_locks.mark(str(path))}\n")
    stale_locks.clear(git_dir)
    assert path.exists()
    assert not made.exists()


@pytest.mark.parametrize("content", ["", "piehole 1 cut", "want refs/heads/main"])
def test_a_record_that_was_cut_off_before_its_first_line_is_swept(git_dir: Path, content: str) -> None:
    (git_dir / FOLDER / DEAD).write_text(content)
    stale_locks.clear(git_dir)
    assert not (git_dir / FOLDER / DEAD).exists()


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
