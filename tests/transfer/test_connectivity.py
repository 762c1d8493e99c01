"""What is missing is known, and what is here but held by no ref cannot vanish before its ref is there."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from piehole.errors import TransferError
from piehole.transfer.connectivity import check_closures, secure
from piehole.transfer.keep_files import Hold
from tests.support.fetch_bed import FetchBed, complete, leftovers, packs
from tests.support.git import commit, git, has_object

PRUNINGS = (
    ("prune", "--expire=now"),
    ("gc", "--quiet", "--prune=now"),
    ("repack", "-a", "-d", "-q"),
    ("repack", "-A", "-d", "-q", "--unpack-unreachable=now"),
    ("reflog", "expire", "--expire=all", "--all"),
)
ABSENT = "12" * 20


def loose(world: FetchBed, message: str) -> str:
    """A commit at local, loose, that no ref reaches; its parent is the local main."""
    tip = commit(world.work, message)
    listed = git(world.work, "rev-list", "--objects", f"{tip}^..{tip}").stdout
    pack = subprocess.run(
        ["git", "pack-objects", "--stdout", "-q"],
        cwd=world.work,
        input=listed.encode(),
        capture_output=True,
        check=True,
    ).stdout
    subprocess.run(["git", "unpack-objects", "-q"], cwd=world.local, input=pack, check=True)
    return tip


def drop(repository: Path, oid: str) -> None:
    (repository / "objects" / oid[:2] / oid[2:]).unlink()


def test_nothing_is_missing_when_all_is_here(world: FetchBed) -> None:
    old = world.follow()
    new = loose(world, "two")
    assert check_closures(world.local, [old, new], bases=[old]).missing == set()
    assert check_closures(world.local, [old, new], bases=[]).missing == set()


def test_absent_objects_are_missing(world: FetchBed) -> None:
    old = world.follow()
    assert check_closures(world.local, [old, ABSENT], bases=[old, "34" * 20]).missing == {ABSENT}


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("what", ["^{tree}", ":file.txt", "^"])
def test_a_tip_without_its_closure_is_missing(world: FetchBed, what: str, bounded: bool) -> None:
    old = world.follow()
    middle = loose(world, "two")
    tip = loose(world, "three")
    drop(world.local, git(world.work, "rev-parse", f"{tip}{what}").stdout.strip())
    assert has_object(world.local, tip)
    assert tip in check_closures(world.local, [tip, middle, old], bases=[old] if bounded else []).missing


def test_the_bad_ones_among_many_are_found(world: FetchBed) -> None:
    old = world.follow()
    tips = []
    for number in range(20):
        git(world.work, "checkout", "-q", "--detach", old)
        tips.append(loose(world, f"branch {number}"))
    bad = {tips[3], tips[11]}
    for tip in bad:
        drop(world.local, git(world.work, "rev-parse", f"{tip}:file.txt").stdout.strip())
    assert check_closures(world.local, [*tips, ABSENT], bases=[old]).missing == {*bad, ABSENT}


def test_a_stale_commit_graph_vouches_for_nothing(world: FetchBed) -> None:
    old = world.follow()
    middle = loose(world, "two")
    tip = loose(world, "three")
    git(world.local, "update-ref", "refs/heads/x", tip)
    git(world.local, "commit-graph", "write", "--reachable")
    git(world.local, "update-ref", "-d", "refs/heads/x")
    drop(world.local, middle)
    assert check_closures(world.local, [tip], bases=[old]).missing == {tip}


@pytest.mark.parametrize("pruning", PRUNINGS, ids=" ".join)
def test_secured_objects_survive_a_pruning_before_the_ref_moves(world: FetchBed, pruning: tuple[str, ...]) -> None:
    """prune_race"""
    old = world.follow()
    tip = loose(world, "two")
    with Hold() as hold:
        secure(world.local, [tip], hold=hold)
        git(world.local, *pruning)
        assert complete(world.local, tip)
        git(world.local, "update-ref", "refs/heads/main", tip, old)
    git(world.local, *pruning)
    assert leftovers(world.local) == []
    assert complete(world.local, tip)
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_without_securing_the_objects_would_vanish(world: FetchBed) -> None:
    """Else the promise above would be empty."""
    world.follow()
    tip = loose(world, "two")
    git(world.local, "prune", "--expire=now")
    assert not has_object(world.local, tip)


@pytest.mark.parametrize("pruning", PRUNINGS, ids=" ".join)
def test_fetched_objects_survive_a_pruning_before_the_ref_moves(world: FetchBed, pruning: tuple[str, ...]) -> None:
    """prune_race"""
    old = world.follow()
    tip = world.advance("two")
    with Hold() as hold:
        world.bring(str(world.peer), [tip], [old], hold=hold)
        git(world.local, *pruning)
        git(world.local, "update-ref", "refs/heads/main", tip, old)
    git(world.local, *pruning)
    assert leftovers(world.local) == []
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_securing_what_refs_reach_does_nothing(world: FetchBed) -> None:
    old = world.follow()
    before = packs(world.local)
    with Hold() as hold:
        secure(world.local, [old], hold=hold)
        secure(world.local, [], hold=hold)
        assert leftovers(world.local) == []
    assert packs(world.local) == before


def test_securing_objects_of_an_unreachable_pack_protects_them(world: FetchBed) -> None:
    """They are in a pack already, but in one that a gc may drop."""
    old = world.follow()
    tip = world.advance("two")
    world.bring(str(world.peer), [tip], [old])
    with Hold() as hold:
        secure(world.local, [tip], hold=hold)
        git(world.local, "gc", "--quiet", "--prune=now")
        git(world.local, "update-ref", "refs/heads/main", tip, old)
    git(world.local, "fsck", "--strict", "--no-dangling")


def test_securing_what_is_incomplete_fails(world: FetchBed) -> None:
    world.follow()
    tip = loose(world, "two")
    drop(world.local, git(world.work, "rev-parse", f"{tip}:file.txt").stdout.strip())
    before = packs(world.local)
    with Hold() as hold, pytest.raises(TransferError):
        secure(world.local, [tip], hold=hold)
    assert packs(world.local) == before
    assert leftovers(world.local) == []


def test_what_secure_accepted_is_never_lost_to_a_pruning_that_runs(world: FetchBed) -> None:
    """prune_race: prunings run all the time; secure may refuse, but where it accepts the ref stays whole."""
    old = world.follow()
    over = threading.Event()

    def prune() -> None:
        while not over.is_set():
            git(world.local, "prune", "--expire=now", check=False)
            git(world.local, "repack", "-A", "-d", "-q", "--unpack-unreachable=now", check=False)
            over.wait(0.02)  # else next to no loose object lives long enough to be secured

    thread = threading.Thread(target=prune)
    thread.start()
    accepted = 0
    try:
        for number in range(40):
            git(world.work, "checkout", "-q", "--detach", old)
            try:
                tip = loose(world, f"branch {number}")
            except subprocess.CalledProcessError:
                continue
            try:
                with Hold() as hold:
                    secure(world.local, [tip], hold=hold)
                    git(world.local, "update-ref", f"refs/heads/b{number}", tip)
            except TransferError:
                continue
            accepted += 1
    finally:
        over.set()
        thread.join()
    assert leftovers(world.local) == []
    git(world.local, "fsck", "--strict", "--no-dangling")
    assert accepted
