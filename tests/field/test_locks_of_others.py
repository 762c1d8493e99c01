"""A lock is never taken from a process that may hold it, whatever the clock says and whoever can be seen (docs/trouble/locks.md)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from piehole.fastpath import held_locks, inflight, processes
from piehole.repository import stale_locks
from tests.fault.tree import SOURCE
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.process import descendants, send_signal
from tests.support.pushes import chain, finish, receive_pack, records, start_push
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

OWN = "refs/own"
SIDE = "refs/heads/side"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts /proc anew, for which it has to be root")


@contextmanager
def deleting(site: Path, ref: str) -> Iterator[subprocess.Popen[str]]:
    """A git of somebody's own that deletes a packed ref, and holds the lock of the packed refs until the block is left."""
    process = subprocess.Popen(
        ["git", "-c", "core.hooksPath=/dev/null", "update-ref", "--stdin"],
        cwd=site,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"start\ndelete {ref}\nprepare\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(2)] == ["start: ok\n", "prepare: ok\n"]
    try:
        yield process
    finally:
        process.communicate("commit\n", timeout=60)


@pytest.mark.parametrize("age", [5, -7200], ids=["five seconds old", "dated in the future"])
def test_a_git_that_holds_the_packed_refs_for_long_keeps_its_lock_beside_pushes_that_delete(
    make_group: MakeGroup, age: float
) -> None:
    """Refs that piehole does not manage were lost: its lock was removed as that of a push which had ended well."""
    group = make_group(1, settings={"piehole.exclude": f"{OWN}/", "core.packedRefsTimeout": "100"})
    (site,) = (one.repository for one in group)
    work, tip = group.begun("one", "two")
    mine = {f"{OWN}/{number}" for number in range(50)}
    git.git(site, "update-ref", "--stdin", stdin="".join(f"create {ref} {tip}\n" for ref in [*mine, f"{OWN}/gone"]))
    git.git(site, "pack-refs", "--all", "--prune")
    with deleting(site, f"{OWN}/gone") as holder:
        # A push that deletes ended well a moment ago, and its record is still there.
        named = inflight.file_name(f"{(processes.identity(os.getpid()) or '').rpartition('.')[0]}.1")
        record = inflight.Record(str(site), named).open()
        record.announce(inflight.Announcement(SIDE, tip, "0" * 40, "[1,0,1,0,[0],1]", managed=True))
        record.settle([SIDE])
        locks = [site / name for name in ("packed-refs.lock", "packed-refs.new", f"{OWN}/gone.lock")]
        made = [one.stat().st_ino for one in locks]
        for one in locks:
            os.utime(one, (time.time() - age,) * 2)
        until(lambda: not records(site), PATIENCE, "the record of the push that has ended is removed")
        assert [one.stat().st_ino for one in locks] == made
        assert git.push(work, site, ":one").returncode != 0, "its git cannot have the lock"
    assert holder.returncode == 0
    assert {ref for ref in git.refs(site) if ref.startswith(OWN)} == mine
    accepted(git.push(work, site, ":two"))


def test_two_machines_on_one_file_system_leave_each_other_s_pushes_alone(make_group: MakeGroup) -> None:
    """A push that another machine serves was taken for dead, since its boot id is another one's."""
    group = make_group(1)
    (a,) = group
    _, tip = group.begun("side")
    site = a.repository
    until(lambda: not records(site), PATIENCE, "those of our own pushes are gone")
    lock = site / f"{SIDE}.lock"
    lock.touch()
    long_ago = time.time() - 30
    os.utime(lock, (long_ago, long_ago))
    found = []
    for name in ("0000-another-boot.4026531836.4242.4242", "0000-another-boot.4026531836.4243.4243.0123456789ab-other"):
        record = inflight.Record(str(site), name).open()
        record.announce(inflight.Announcement(SIDE, tip, "1" * 40, "[1,0,1,0,[0],1]", managed=True))
        with Path(record.path).open("a") as file:
            file.write(held_locks.lines(str(site), [SIDE], deletes=False))
        found.append(Path(record.path))
    done = a.piehole("reconcile", "--once")
    assert done.status == 0, "what holds nothing back here is no trouble of this machine"
    assert lock.exists()
    assert records(site) == sorted(found)
    said = a.piehole("check", check=False).out
    assert "the machine other" in said
    assert f"rm {found[1]}" in said
    assert str(lock) in said
    assert f"unjudged {found[1]} is of the machine other" in a.piehole("status", check=False).out
    # Its own machine says that it is over.
    for one in found:
        inflight.Record(str(site), one.name).note_end()
    until(lambda: not lock.exists() and not records(site), PATIENCE, "what is left of it goes")


HIDES = """
import os, sys
from piehole.fastpath import processes
os.setgroups([])
os.setgid(65534)  # the group 0 sees everything
os.setuid(65534)
name = sys.argv[1]
assert not os.path.exists(f"/proc/{name.split('.')[2]}"), "it is not hidden"
print(processes.lives(name), processes.some_are_hidden())
"""


@AS_ROOT
def test_a_push_of_another_account_lives_though_proc_hides_it() -> None:
    """With hidepid, every push of another account was taken for dead within a second."""
    with subprocess.Popen(["sleep", "60"]) as process:
        name = str(processes.identity(process.pid))
        mounts = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        program = [sys.executable, "-c", HIDES, name]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounts, "sh", *program],
            cwd=SOURCE,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        process.kill()
    assert done.stdout == "None True\n", done.stderr


@AS_ROOT
def test_a_push_in_a_container_of_its_own_is_over_for_the_controller_outside_once_it_has_ended(
    make_group: MakeGroup,
) -> None:
    """Nobody outside can tell whether it lives, so its record would stay for ever: its helper says so."""
    group = make_group(1)
    (a,) = group
    work, _ = group.begun()
    tip = git.commit(work, "second")
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "60"]) as container:
        first_process = until(lambda: descendants(container.pid), PATIENCE, "the container runs")[0]
        until(lambda: os.readlink(f"/proc/{first_process}/exe").endswith("sleep"), PATIENCE, "it has its own /proc")
        inside = f"nsenter --target {first_process} --mount --pid git-receive-pack"
        accepted(git.push(work, a.repository, f"--receive-pack={inside}", "HEAD:main"))
        assert group.value() == a.at() == tip
        until(lambda: not records(a.repository), PATIENCE, "its record is removed")
        container.kill()


def push_that_dies_before_its_hook(site: Site, work: Path, refspec: str) -> None:
    """Push, and have receive-pack be killed when git holds the locks and has not asked the hook yet."""
    until(lambda: not records(site.repository), PATIENCE)
    chain(
        site.repository,
        "reference-transaction",
        '[ "$1" != prepared ] || ! rm armed 2>/dev/null || { kill -9 $PPID; exit 1; }\nexec "$piehole" "$@"',
    )
    (site.repository / "armed").touch()
    assert git.push(work, site.repository, refspec).returncode != 0


def made_old(*locks: Path) -> None:
    for lock in locks:
        made = lock.stat().st_mtime_ns - 60_000_000_000
        os.utime(lock, ns=(made, made))


def test_a_lock_that_no_hook_has_seen_goes_once_it_is_old(make_group: MakeGroup) -> None:
    """Nobody has noted the file; but it holds what the push was to write."""
    group = make_group(1)
    (a,) = group
    work, first = group.begun()
    second = git.commit(work, "second")
    push_that_dies_before_its_hook(a, work, "HEAD:main")
    locks = (a.repository / f"{MAIN}.lock", a.repository / "HEAD.lock")
    assert all(lock.exists() for lock in locks)
    assert records(a.repository)
    made_old(*locks)
    until(lambda: not any(lock.exists() for lock in locks), PATIENCE, "the locks go")
    until(lambda: not records(a.repository), PATIENCE, "the record goes")
    accepted(git.push(work, a.repository, "HEAD:main"))
    assert group.history() == [first, second]


def test_a_lock_of_a_deletion_that_no_hook_has_seen_is_reported_and_stays(make_group: MakeGroup) -> None:
    """It is empty: nobody can tell it from anybody else's."""
    group = make_group(1)
    (a,) = group
    work, first = group.begun("side")
    push_that_dies_before_its_hook(a, work, ":side")
    until(lambda: not records(a.repository), PATIENCE, "the record goes")
    lock = a.repository / "refs/heads/side.lock"
    made_old(lock)
    shown = a.piehole("status", check=False)
    assert str(lock) in shown.out, shown
    assert group.history("refs/heads/side") == [first]


def test_a_receive_pack_that_is_killed_in_its_hook_leaves_nothing_whatever_the_clock_says(
    make_group: MakeGroup,
) -> None:
    """A lock dated in the future (the clock was set back) stayed for ever, as did one that is much younger than the record."""
    group = make_group(1)
    (a,) = group
    work, first = group.begun("side")
    site = a.repository
    until(lambda: not records(site), PATIENCE)
    a.pause()
    chain(
        site,
        "reference-transaction",
        '"$piehole" "$@"; status=$?\nif [ "$1" = prepared ]; then touch there; sleep 60; fi\nexit $status',
    )
    second = git.commit(work, "second")
    pushing = start_push(work, site, "HEAD:main")
    until(lambda: group.value() == second and (site / "there").exists(), PATIENCE, "it has been agreed")
    pid = receive_pack(site)
    (record,) = records(site)
    long_ago = time.time() - 3600
    os.utime(record, (long_ago, long_ago))
    send_signal(pid, signal.SIGKILL)
    os.killpg(pushing.pid, signal.SIGKILL)
    finish(pushing)
    assert (site / f"{MAIN}.lock").exists()
    a.resume()
    group.arrives(MAIN, second, timeout=PATIENCE)
    assert not records(site)
    assert not stale_locks.old_locks(site)
    assert group.history() == [first, second]
