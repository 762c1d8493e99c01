"""Refs move only while the group still wants it, which is asked under git's locks; and git can hold up nobody for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from piehole.deadline import Deadline
from piehole.errors import EtcdError, GitSilent
from piehole.etcd.model import Put
from piehole.fastpath import inflight
from piehole.group.replica import Replica
from piehole.refs import Command
from piehole.replicate.fetch_objects import FetchSummary, ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.reconcile import Reconciler, Report
from piehole.repository import ref_transaction, stale_locks
from piehole.repository.ref_moves import RefMover
from piehole.repository.repository import Repository
from tests.conftest import OwnEtcd
from tests.support.git import MAIN, ZERO_SHA1, git, make_bare
from tests.support.groups import Group
from tests.support.process import descendants
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]


class Meanwhile(ObjectFetcher):
    """A fetch during which something happens."""

    def __init__(self, replica: Replica, happens: Callable[[], object]) -> None:
        super().__init__(replica, PeerHealth())
        self._happens = happens

    def fetch(self, *arguments: Any, **named: Any) -> FetchSummary:
        fetched = super().fetch(*arguments, **named)
        self._happens()
        return fetched


def run(replica: Replica, happens: Callable[[], object]) -> Report:
    def claim() -> int:
        return replica.reader.read([], Deadline(10)).revision

    return Reconciler(
        replica, Meanwhile(replica, happens), lambda: replica.reader.list_group(Deadline(10)), claim
    ).run()


def locks(repository: Path) -> list[Path]:
    return [*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock")]


def forgotten(repository: Path) -> bool:
    """Whether no push is on record here, once those that have ended were removed."""
    stale_locks.clear(repository)
    return not list(inflight.records(str(repository)))


def values(bed: Group, site: str, ref: str) -> list[str]:
    """What a ref has been, the newest first; for as long as there was a reflog."""
    return git(bed[site].repository, "log", "-g", "--format=%H", ref, "--").stdout.split()


def test_a_ref_that_went_there_and_back_during_a_fetch_stays(bed: Group) -> None:
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a")
    bed.reconcile("a", "b")
    git(bed["a"].repository, "config", "core.logAllRefUpdates", "true")
    second = bed.commit("two")
    bed.push("b")

    def there_and_back() -> None:
        bed.push("a", f"{second}:{MAIN}")
        assert bed["a"].at() == second
        bed.push("a", f"+{first}:{MAIN}")
        # Both are over, and forgotten: what is on record would keep the reconcile away from the ref.
        until(lambda: forgotten(bed["a"].repository), what="both pushes have ended")

    report = run(bed["a"].replica(), there_and_back)
    assert (bed.value(), bed["a"].at()) == (first, first)
    assert values(bed, "a", MAIN)[:2] == [first, second], "only the pushes have moved it"
    assert values(bed, "a", MAIN).count(second) == 1
    assert (report.moved, report.deferred, report.stuck) == ({}, (MAIN,), {})
    assert not report.converged
    assert bed.reconcile("a").status == 0
    assert bed["a"].at() == first


def test_a_ref_that_is_pushed_to_all_the_time_elsewhere_moves_all_the_same(bed: Group) -> None:
    bed.install("a", "b")
    bed.commit("one")
    bed.push("a")
    bed.reconcile("a", "b")
    second = bed.commit("two")
    bed.push("b")

    def on_it_goes() -> None:
        bed.commit("three")
        bed.push("b")

    report = run(bed["a"].replica(), on_it_goes)
    assert set(report.moved) == {MAIN}
    assert bed["a"].at() == second


def test_a_ref_that_a_push_here_may_have_moved_is_not_moved_to_what_the_group_has_left_behind(bed: Group) -> None:
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a")
    bed.reconcile("a", "b")
    second = bed.commit("two")
    bed.push("b")

    def there_and_back_and_on() -> None:
        bed.push("a", f"{second}:{MAIN}")
        bed.push("a", f"+{first}:{MAIN}")
        bed.commit("three")
        bed.push("b", f"+HEAD:{MAIN}")

    bed.reconcile("b")
    report = run(bed["a"].replica(), there_and_back_and_on)
    assert report.moved == {}
    assert bed["a"].at() == first


def test_what_is_still_wanted_moves_and_the_rest_is_looked_at_again(bed: Group) -> None:
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:one", "HEAD:two", "HEAD:gone")
    bed.reconcile("a", "b")
    second = bed.commit("two")
    bed.push("b", "HEAD:one", "HEAD:two", "HEAD:new", ":gone")

    def happens() -> None:
        bed.put("refs/heads/two", first)
        bed.put("refs/heads/gone", first)

    report = run(bed["a"].replica(), happens)
    assert set(report.moved) == {"refs/heads/one", "refs/heads/new"}
    assert (report.deferred, report.stuck) == (("refs/heads/gone", "refs/heads/two"), {})
    now = dict.fromkeys((MAIN, "refs/heads/two", "refs/heads/gone"), first)
    assert bed["a"].refs() == now | dict.fromkeys(("refs/heads/one", "refs/heads/new"), second)
    assert locks(bed["a"].repository) == []


def in_the_way(bed: Group) -> str:
    """x, which the group knows nothing of, is where its x/y shall be; the oid of both."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    bed.reconcile("a", "b")
    bed["a"].move("refs/heads/x", tip)
    bed.push("b", "HEAD:x/y")
    return tip


def test_nothing_makes_room_for_a_ref_that_is_no_longer_wanted(bed: Group) -> None:
    tip = in_the_way(bed)
    report = run(bed["a"].replica(), lambda: bed.put("refs/heads/x/y", ZERO_SHA1))
    assert bed["a"].refs() == {MAIN: tip, "refs/heads/x": tip}
    assert report.stuck == {}
    assert bed.reconcile("a").status == 0
    assert bed["a"].refs() == {MAIN: tip, "refs/heads/x": tip}


def test_a_ref_whose_room_is_wanted_by_now_is_not_stuck(bed: Group) -> None:
    tip = in_the_way(bed)
    report = run(bed["a"].replica(), lambda: bed.put("refs/heads/x", tip))
    assert bed["a"].refs() == {MAIN: tip, "refs/heads/x": tip}
    assert (report.deferred, report.stuck) == (("refs/heads/x", "refs/heads/x/y"), {})


@pytest.mark.slow
def test_ten_thousand_refs_move_at_once_but_for_those_that_have_changed(bed: Group) -> None:
    bed.install("a")
    first = bed.commit("one")
    second = bed.commit("two")
    bed.push("a")
    bed.reconcile("a")
    replica = bed["a"].replica()
    names = [f"refs/heads/n{n:05}" for n in range(10_000)]
    for start in range(0, len(names), 100):
        puts = [Put(bed.key(name).encode(), second.encode()) for name in names[start : start + 100]]
        replica.etcd.txn([], puts, deadline=Deadline(10))
    changed = [names[0], names[5_000], names[-1]]
    began = time.monotonic()
    report = run(replica, lambda: [bed.put(name, first) for name in changed])
    assert time.monotonic() - began < 60
    assert report.deferred == tuple(changed)
    assert set(report.moved) == set(names) - set(changed)
    assert bed["a"].refs() == {MAIN: second} | dict.fromkeys(report.moved, second)
    assert locks(bed["a"].repository) == []


def test_an_etcd_that_is_silent_under_the_locks_moves_nothing(tmp_path: Path, own_etcd: OwnEtcd, prefix: str) -> None:
    etcd = own_etcd()
    bed = Group(tmp_path, [etcd.endpoint], prefix)
    bed.install("a", "b")
    first = bed.commit("one")
    bed.push("a")
    bed.reconcile("a", "b")
    bed.commit("two")
    bed.push("b")
    began: list[float] = []

    def silence() -> None:
        etcd.pause()
        began.append(time.monotonic())

    try:
        with pytest.raises(EtcdError):
            run(bed["a"].replica(), silence)
        assert time.monotonic() - began[0] < 5
        assert bed["a"].at() == first
        assert locks(bed["a"].repository) == []
    finally:
        etcd.resume()
    assert bed.reconcile("a").status == 0
    assert bed["a"].at() != first


@pytest.fixture
def moves(tmp_path: Path) -> tuple[Repository, Sequence[Command]]:
    """Two moves that can be made."""
    path = make_bare(tmp_path / "r.git")
    tree = git(path, "hash-object", "-t", "tree", "-w", "--stdin").stdout.strip()
    tip = git(path, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-m", "one").stdout.strip()
    return Repository(path), [Command("refs/heads/one", ZERO_SHA1, tip), Command("refs/heads/two", ZERO_SHA1, tip)]


def signals(number: int) -> Callable[[Sequence[Command]], Collection[str]]:
    """Confirms everything, after git was sent a signal."""

    def confirm(moves: Sequence[Command]) -> Collection[str]:
        for pid in descendants(os.getpid()):
            if "update-ref" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, number)
        return {move.ref for move in moves}

    return confirm


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_git_that_is_killed_under_its_locks_moves_nothing(
    moves: tuple[Repository, Sequence[Command]], number: signal.Signals
) -> None:
    repository, wanted = moves
    unmoved = RefMover(repository, "m", signals(number)).move(wanted)
    assert set(unmoved.failed) == {move.ref for move in wanted}
    assert repository.observe().refs == {}
    if number == signal.SIGTERM:
        assert locks(repository.git_dir) == []
        assert noted(repository) == []
    movable_again(repository, wanted)


def noted(repository: Repository) -> list[inflight.Record]:
    return list(inflight.records(str(repository.git_dir), inflight.MOVING))


def movable_again(repository: Repository, wanted: Sequence[Command]) -> None:
    """Whatever a dead git left is gone, since its record knows its locks."""

    def gone() -> bool:
        stale_locks.clear(repository.git_dir)
        return not locks(repository.git_dir) and not noted(repository)

    until(gone, what="a git that was killed has ended, and its locks are gone")
    assert not RefMover(repository, "m", lambda moves: {move.ref for move in moves}).move(wanted).failed
    assert set(repository.observe().refs) == {move.ref for move in wanted}
    assert noted(repository) == []


DIES = """
import os, sys
from pathlib import Path
from piehole.fastpath.inflight import Record
from piehole.refs import Command
from piehole.repository.ref_moves import RefMover
from piehole.repository.repository import Repository
from tests.support.process import descendants

def die(*_, **named):
    for pid in (*descendants(os.getpid()), os.getpid()):
        os.kill(pid, 9)

if sys.argv[3] == "unmarked":
    Record.note_locks = die
moves = [Command(ref, "0" * 40, sys.argv[2]) for ref in sys.argv[4:]]
RefMover(Repository(Path(sys.argv[1])), "m", die).move(moves)
"""


def dies(repository: Repository, when: str, wanted: Sequence[Command]) -> None:
    """Have a process and its git be killed while git holds the locks of these moves."""
    arguments = [str(repository.git_dir), wanted[0].new, when, *(move.ref for move in wanted)]
    done = subprocess.run([sys.executable, "-c", DIES, *arguments], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_site_that_dies_with_all_its_processes_under_the_locks_leaves_none_for_long(
    moves: tuple[Repository, Sequence[Command]],
) -> None:
    repository, wanted = moves
    dies(repository, "marked", wanted)
    assert len(locks(repository.git_dir)) == 2
    movable_again(repository, wanted)


def test_locks_that_git_has_just_taken_when_all_is_killed_go_once_they_are_old(
    moves: tuple[Repository, Sequence[Command]],
) -> None:
    """Nobody has noted which files they are; but what they hold was noted before."""
    repository, wanted = moves
    git(repository.git_dir, "symbolic-ref", "HEAD", wanted[1].ref)
    dies(repository, "unmarked", wanted)
    left = locks(repository.git_dir)
    assert len(left) == 3
    monitor = stale_locks.StaleLockMonitor(repository.git_dir)
    until(monitor.any_dead, what="its record is that of a dead process")
    stale_locks.clear(repository.git_dir)
    assert locks(repository.git_dir) == left
    assert monitor.any_dead()  # so the next look comes by itself
    for one in left:
        made = one.stat().st_mtime_ns - 16_000_000_000
        os.utime(one, ns=(made, made))
    movable_again(repository, wanted)


def test_a_git_that_hangs_under_its_locks_is_ended_and_leaves_none(
    moves: tuple[Repository, Sequence[Command]], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, wanted = moves
    monkeypatch.setattr(ref_transaction, "_LEAST", 2.0)
    with pytest.raises(GitSilent):
        RefMover(repository, "m", signals(signal.SIGSTOP)).move(wanted)
    assert repository.observe().refs == {}
    assert locks(repository.git_dir) == []


def test_an_error_under_the_locks_moves_nothing_and_leaves_none(moves: tuple[Repository, Sequence[Command]]) -> None:
    repository, wanted = moves

    def confirm(_: Sequence[Command]) -> Collection[str]:
        assert len(locks(repository.git_dir)) == 2
        raise EtcdError("silent")

    with pytest.raises(EtcdError):
        RefMover(repository, "m", confirm).move(wanted)
    assert repository.observe().refs == {}
    assert locks(repository.git_dir) == []


def test_what_is_left_of_a_transaction_is_confirmed_anew(moves: tuple[Repository, Sequence[Command]]) -> None:
    repository, wanted = moves
    asked: list[list[str]] = []

    def confirm(some: Sequence[Command]) -> Collection[str]:
        asked.append([move.ref for move in some])
        return ["refs/heads/two"]

    unmoved = RefMover(repository, "m", confirm).move(wanted)
    assert asked == [["refs/heads/one", "refs/heads/two"], ["refs/heads/two"]]
    assert unmoved.unwanted == {"refs/heads/one"}
    assert set(repository.observe().refs) == {"refs/heads/two"}
