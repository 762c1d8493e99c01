"""Maintenance makes few packs of many and loses nothing, also of what is published while it runs."""

from __future__ import annotations

import os
import threading

import pytest

from piehole.deadline import Deadline
from piehole.files import locked
from piehole.transfer.keep_files import Hold
from piehole.transfer.maintenance import due, maintain
from tests.support.fetch_bed import FetchBed, complete, leftovers, packs
from tests.support.git import commit, git


def pile_up(world: FetchBed, count: int) -> None:
    """So many fetched packs of one commit each."""
    for number in range(count):
        fetch_one(world, number)


def fetch_one(world: FetchBed, number: int) -> str:
    old = git(world.local, "rev-parse", "-q", "--verify", "refs/heads/main", check=False).stdout.strip()
    new = commit(world.work, f"commit {number}")
    git(world.work, "push", "-q", str(world.peer), "HEAD:refs/heads/main")
    with Hold() as hold:
        world.bring(str(world.peer), [new], [old] if old else [], hold=hold)
        git(world.local, "update-ref", "refs/heads/main", new)
    return new


def test_many_small_packs_become_few(world: FetchBed) -> None:
    pile_up(world, 50)
    assert due(world.local)
    maintain(world.local, stop=threading.Event())
    assert len(packs(world.local)) < 5
    assert not due(world.local)
    assert list((world.local / "objects" / "info" / "commit-graphs").iterdir())
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_what_is_held_for_a_moment_leaves_no_trace_in_the_commit_graph(world: FetchBed) -> None:
    pile_up(world, 50)
    tree = git(world.local, "rev-parse", "main^{tree}").stdout.strip()
    held = git(world.local, "commit-tree", tree, "-p", "main", "-m", "of a push that is refused").stdout.strip()
    git(world.local, "update-ref", f"refs/piehole/held/push/{held}", held)
    maintain(world.local, stop=threading.Event())
    git(world.local, "update-ref", "-d", f"refs/piehole/held/push/{held}")
    git(world.local, "repack", "-q", "-a", "-d")
    git(world.local, "prune", "--expire=now")
    assert git(world.local, "cat-file", "-e", held, check=False).returncode != 0
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_a_clone_from_here_finds_a_bitmap(world: FetchBed) -> None:
    pile_up(world, 50)
    maintain(world.local, stop=threading.Event())
    assert list((world.local / "objects" / "pack").glob("multi-pack-index-*.bitmap"))
    assert git(world.local, "rev-list", "--test-bitmap", "HEAD", check=False).returncode == 0


@pytest.mark.slow
def test_a_history_that_is_not_whole_gets_no_bitmap_and_few_packs_all_the_same(world: FetchBed) -> None:
    pile_up(world, 50)
    blob = git(world.local, "hash-object", "-w", "--stdin", stdin="lost").stdout.strip()
    tree = git(world.local, "mktree", stdin=f"100644 blob {blob}\tlost\n").stdout.strip()
    broken = git(world.local, "commit-tree", tree, "-m", "broken").stdout.strip()
    git(world.local, "update-ref", "refs/heads/broken", broken)
    (world.local / "objects" / blob[:2] / blob[2:]).unlink()
    maintain(world.local, stop=threading.Event())
    assert len(packs(world.local)) < 5
    assert not list((world.local / "objects" / "pack").glob("*.bitmap"))


def test_few_packs_are_left_alone(world: FetchBed) -> None:
    pile_up(world, 3)
    before = packs(world.local)
    maintain(world.local, stop=threading.Event())
    assert packs(world.local) == before


@pytest.mark.slow
def test_objects_that_no_ref_reaches_are_kept(world: FetchBed) -> None:
    pile_up(world, 50)
    tip = git(world.local, "rev-parse", "refs/heads/main").stdout.strip()
    git(world.local, "update-ref", "refs/heads/main", f"{tip}~10")
    maintain(world.local, stop=threading.Event())
    assert complete(world.local, tip)


@pytest.mark.slow
def test_nothing_is_lost_of_what_is_published_meanwhile(world: FetchBed) -> None:
    pile_up(world, 50)
    over = threading.Event()
    failures: list[AssertionError] = []

    def keep_maintaining() -> None:
        try:
            while not over.is_set():
                # What maintain does when it is due, over and over: also on packs that were published a moment ago.
                git(world.local, "repack", "--geometric=2", "-d", "--write-midx", "-q")
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=keep_maintaining)
    maintain(world.local, stop=threading.Event())
    thread.start()
    try:
        tips = [fetch_one(world, 100 + number) for number in range(30)]
        # The same objects again and again: their packs would have names that the repack knows.
        for _ in range(10):
            with Hold() as hold:
                world.bring(str(world.peer), [tips[-1]], [tips[0]], hold=hold)
    finally:
        over.set()
        thread.join()
    assert failures == []
    assert leftovers(world.local) == []
    assert complete(world.local, *tips)
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_a_stop_ends_it_cleanly(world: FetchBed) -> None:
    pile_up(world, 50)
    stop = threading.Event()
    stop.set()
    maintain(world.local, stop=stop)
    assert due(world.local)
    assert leftovers(world.local) == []
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_two_maintenances_never_run_at_once(world: FetchBed) -> None:
    pile_up(world, 50)
    with locked(world.local / "piehole" / "lock", 0o600, Deadline(1)) as alone:
        assert alone
        maintain(world.local, stop=threading.Event())
        assert due(world.local)
    maintain(world.local, stop=threading.Event())
    assert not due(world.local)


def test_a_running_gc_is_not_disturbed(world: FetchBed) -> None:
    pile_up(world, 50)
    (world.local / "gc.pid").write_text(f"{os.getpid()} {os.uname().nodename}")
    maintain(world.local, stop=threading.Event())
    assert due(world.local)
    (world.local / "gc.pid").write_text(f"{2**22 + 1} {os.uname().nodename}")
    maintain(world.local, stop=threading.Event())
    assert not due(world.local)
