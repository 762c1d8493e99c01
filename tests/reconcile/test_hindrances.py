"""What stands in a reconcile's way: locks, kills, pruning, peers that hang."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.fastpath import inflight, processes
from piehole.refs import Command
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.plan import Value, desired_state
from piehole.replicate.reconcile import Reconciler, Report
from piehole.repository.repository import ObservedState, Repository
from piehole.transfer.keep_files import Hold
from tests.support.git import MAIN, git
from tests.support.groups import Group
from tests.support.httpd import HttpServer
from tests.support.sshd import SshServer


def leftover_lock(path: Path, age: float = 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_disk_trouble_an_old_lock_is_reported_and_holds_up_no_other_ref(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a", "HEAD:main", "HEAD:one", "HEAD:two", "HEAD:three")
    lock = leftover_lock(bed["b"].repository / "refs/heads/two.lock")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "stuck: refs/heads/two" in answer.err
    assert "two.lock" in answer.err
    assert bed["b"].refs() == dict.fromkeys((MAIN, "refs/heads/one", "refs/heads/three"), tip)
    assert lock.exists(), "it is not ours to judge"
    lock.unlink()
    assert bed.reconcile("b").status == 0


def test_a_lock_that_somebody_holds_at_the_moment_is_waited_for(bed: Group) -> None:
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    lock = bed["b"].repository / f"{MAIN}.lock"
    lock.touch()
    timer = threading.Timer(0.7, lock.unlink)
    timer.start()
    try:
        answer = bed.reconcile("b")
    finally:
        timer.join()
    assert answer.status == 0, answer
    assert bed["b"].at() == tip


def test_an_old_lock_of_head_is_reported(bed: Group) -> None:
    bed.install("a")
    bed.commit()
    bed.push("a", "HEAD:main", "HEAD:trunk")
    bed.reconcile("a")
    bed.put("HEAD", "ref: refs/heads/trunk")
    lock = leftover_lock(bed["a"].repository / "HEAD.lock")
    answer = bed.reconcile("a")
    assert answer.status == 1
    assert "stuck: HEAD" in answer.err
    lock.unlink()
    assert bed.reconcile("a").status == 0
    assert bed["a"].head() == "refs/heads/trunk"


def test_leftover_lock(bed: Group) -> None:
    """The lock of a receive-pack that was killed, which its in-flight record knows, is removed."""
    bed.install("a", "b")
    tip = bed.commit()
    bed.push("a")
    gone = subprocess.Popen(["sleep", "60"])
    lock = leftover_lock(bed["b"].repository / f"{MAIN}.lock", 10)
    name = inflight.file_name(processes.identity(gone.pid) or "")
    made = inflight.Record(str(bed["b"].repository), name).open()
    made.announce(inflight.Announcement(MAIN, "0" * 40, tip, "[1,0,1,0,[0],1]", managed=True))
    made.note_locks([MAIN], deletes=False)
    record = Path(made.path)
    gone.kill()
    gone.wait()
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].at() == tip
    assert not lock.exists()
    assert not record.exists()


def test_stale_view(bed: Group) -> None:
    """A view older than the local refs must not take a fresh push for a stray change and rewind it."""
    bed.install("a")
    bed.commit("one")
    bed.push("a")
    replica = bed["a"].replica()
    old = replica.reader.list_group(Deadline(10))
    new = bed.commit("two")
    bed.push("a", "HEAD:main", "HEAD:side")
    report = Reconciler(replica, ObjectFetcher(replica, PeerHealth()), lambda: old, lambda: old.revision).run()
    assert report.moved == {}
    assert bed["a"].refs() == {MAIN: new, "refs/heads/side": new}
    assert report.revision == old.revision


def test_a_deletion_is_not_passed_while_a_push_here_may_still_create_the_ref(bed: Group) -> None:
    """The push was accepted, then the ref was deleted elsewhere; its git has not moved the local ref yet. Were the tombstone reaped
    now, what it is about to create would stay here for good."""
    bed.install("a")
    tip = bed.commit("one")
    bed.push("a", "HEAD:main", "HEAD:side")
    bed.push("a", ":side")
    replica = bed["a"].replica()
    record = inflight.Record(str(bed["a"].repository), processes.identity(os.getpid()) or "").open()
    record.announce(inflight.Announcement("refs/heads/side", "0" * 40, tip, "[1,0,1,0,0,[0],1]", managed=True))

    def run() -> Report:
        view = replica.reader.list_group(Deadline(10))
        return Reconciler(replica, ObjectFetcher(replica, PeerHealth()), lambda: view, lambda: view.revision).run()

    assert run().deferred == ("refs/heads/side",)
    assert not run().converged
    Path(record.path).unlink()
    assert run().converged


def test_what_is_claimed_was_read_before_everything_else(bed: Group) -> None:
    bed.install("a")
    bed.commit("one")
    bed.push("a")
    replica = bed["a"].replica()
    before = replica.reader.list_group(Deadline(10))
    bed.commit("two")
    bed.push("a")
    after = replica.reader.list_group(Deadline(10))
    report = Reconciler(replica, ObjectFetcher(replica, PeerHealth()), lambda: after, lambda: before.revision).run()
    assert report.converged
    assert (report.revision, report.newest) == (before.revision, before.revision)


def test_a_push_that_lands_during_a_reconcile_is_no_fault(bed: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.install("a")
    bed.commit("one")
    bed.push("a")
    new = bed.commit("two")
    pushed: list[str] = []

    original = Repository.observe

    def observe(self: Repository) -> ObservedState:
        observed = original(self)
        if not pushed:
            pushed.append(new)
            bed.push("a")
        return observed

    monkeypatch.setattr(Repository, "observe", observe)
    answer = bed.reconcile("a")
    assert answer.status == 0, answer
    assert bed["a"].at() == new
    assert "stuck" not in answer.err


@pytest.mark.parametrize("seed", range(2))
def test_kill_anywhere(bed: Group, seed: int) -> None:
    """kill -9 at any moment of a reconcile; the next one ends in step, and nothing is left behind."""
    chance = random.Random(seed)  # noqa: S311 -- a test's choice
    bed.install("a", "b")
    for round_ in range(3):
        for n in range(6):
            bed.commit(f"{round_}.{n}")
        old = bed["b"].at() if round_ else ""
        tip = bed.commit("last")
        bed.push("a", f"HEAD:n{round_}", "+HEAD:main")
        process = subprocess.Popen(
            [sys.executable, "-m", "piehole.cli", "reconcile", "--once", str(bed["b"].repository)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.25 + chance.random() * 0.9)
        process.send_signal(signal.SIGKILL)
        process.wait()
        answer = bed.reconcile("b")
        assert answer.status == 0, answer
        assert bed["b"].at() == tip
        assert old in ("", bed["b"].at(f"refs/heads/n{round_ - 1}"))
        assert not list((bed["b"].repository / "objects" / "pack").glob("*.keep"))
        assert not list((bed["b"].repository / "objects").glob("tmp_objdir-piehole-*"))
    bed["b"].fsck()


def test_prune_race(bed: Group) -> None:
    """Objects that no ref holds and that a prune takes right after they were found are secured, or fetched again."""
    bed.install("a", "b")
    bed.commit("one")
    bed.push("a")
    bed.reconcile("b")
    tip = bed.commit("two")
    bed.push("a")
    # Loose objects without a ref, old enough for any prune.
    git(bed["b"].repository, "-c", "fetch.unpackLimit=1000", "fetch", "-q", str(bed["a"].repository), tip)
    replica = bed["b"].replica()
    wanted = {tip: local_value(bed)}
    with Hold() as hold:
        assert ObjectFetcher(replica, PeerHealth()).fetch(wanted, [bed["b"].at()], hold).lacking == {}
        git(bed["b"].repository, "prune", "--expire=now")
        git(bed["b"].repository, "gc", "-q", "--prune=now")
        bed["b"].move(MAIN, tip)
    bed["b"].fsck()
    assert git(bed["b"].repository, "log", "--oneline", MAIN).stdout.count("\n") == 2


def local_value(bed: Group) -> Value:
    entries = bed["b"].replica().reader.read([Command(MAIN, "?", "?")], Deadline(10)).entries
    return desired_state(entries, "sha1", ()).refs[MAIN]


def test_a_peer_that_hangs_holds_up_nobody_who_can_ask_another(bed: Group) -> None:
    bed.install("b", "z")
    tip = bed.commit()
    bed.push("z")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"git://127.0.0.1:{silent.getsockname()[1]}/x.git"
        bed["a"].url = hanging
        bed["a"].build()
        # The one that hangs is asked first: it is said to have made the push.
        push = bed.etcd.get(bed.key("@push"))
        assert push is not None
        bed.put(MAIN, tip)
        bed.put("@push", push.replace('"site":"z"', '"site":"a"'))
        began = time.monotonic()
        answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].at() == tip
    assert time.monotonic() - began < 10, "a stall alone would take a minute"


def test_peers_over_ssh_are_fetched_from(bed: Group, sshd: SshServer) -> None:
    bed.install("b")
    bed["a"].url = sshd.url_for(bed["a"].repository)
    bed["a"].build()
    git(bed["b"].repository, "config", "core.sshCommand", sshd.git_ssh_command)
    tip = bed.commit()
    bed.push("a")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].at() == tip


def test_peers_over_http_are_fetched_from(bed: Group, httpd: HttpServer) -> None:
    bed.install("b")
    bed["a"].url = httpd.url_for(bed["a"].repository)
    bed["a"].build()
    tip = bed.commit()
    bed.push("a")
    answer = bed.reconcile("b")
    assert answer.status == 0, answer
    assert bed["b"].at() == tip


def test_a_protocol_that_is_not_allowed_is_never_used(bed: Group, git_daemon: object) -> None:
    del git_daemon
    bed.install("b")
    bed.install("a")
    git(bed["b"].repository, "config", "--unset-all", "piehole.allowProtocol")
    bed.commit()
    bed.push("a")
    answer = bed.reconcile("b")
    assert answer.status == 1
    assert "not allowed" in answer.err
    assert bed["b"].refs() == {}
