"""A site that must not move: pushes are refused with the word that says why, nothing moves, and a person's decision ends it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import pytest

from piehole.deadline import Deadline
from piehole.group import progress
from tests.conftest import OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until


def begun(group: Group) -> tuple[Path, str]:
    """A clone of the first site, and the commit that all sites have and have told of."""
    work = group[0].clone()
    oid = pushed(group, work, "one")
    told(group)
    return work, oid


def pushed(group: Group, work: Path, text: str) -> str:
    """A new commit that was pushed to the first site, and that all sites have."""
    oid = git.commit(work, text)
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)
    return oid


def told(group: Group) -> None:
    newest = group.etcd.look(group.key(MAIN))
    assert newest is not None
    for site in group:
        until(lambda site=site: site.progress() >= newest.mod_revision, 15, f"{site.name} has told of it")  # type: ignore[misc]


def is_awaited(lock: TextIO) -> bool:
    """Whether somebody waits for the lock of this file."""
    inode = f":{os.fstat(lock.fileno()).st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def went_back(group: Group, first: str, newest: str) -> None:
    """A person accepts at each site what etcd has: all go back to the first commit, and keep the newest one."""
    for site in group:
        site.piehole("accept", "--yes")
    group.arrives(MAIN, first)
    assert all(newest in site.kept() for site in group)


@pytest.mark.slow
def test_etcd_restored_from_a_backup(make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, first = begun(group)
    etcd.terminate()
    etcd.copy_data(tmp_path / "backup")
    etcd.start()
    newest = pushed(group, work, "two")
    told(group)
    etcd.terminate()
    etcd.restore_data(tmp_path / "backup")
    etcd.start()
    for site in group:
        halted = site.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
        assert "restored from a backup" in halted["reason"]
    git.commit(work, "three")
    assert "went back" in refused(git.push(work, "origin", "HEAD:main"), "went-back")
    assert [site.at() for site in group] == [newest, newest]  # nothing went back
    assert group.value() == first  # and nothing was written
    went_back(group, first, newest)


def test_a_backup_of_etcd_that_is_younger_than_the_last_progress(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, first = begun(group)
    etcd.save_snapshot(tmp_path / "backup")
    with ExitStack() as nothing_is_told:
        for site in group:
            lock = nothing_is_told.enter_context((site.repository / "piehole" / "state.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        newest = pushed(group, work, "two")
        etcd.kill()
        etcd.restore_snapshot(tmp_path / "backup")
        etcd.start()
    for site in group:
        site.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    assert [site.at() for site in group] == [newest, newest]
    git.commit(work, "three")
    refused(git.push(work, "origin", "HEAD:main"), "went-back")
    went_back(group, first, newest)


@pytest.mark.slow
def test_a_late_record_of_an_older_reconcile_does_not_hide_that_etcd_went_back(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    """It would raise the revision of the restored etcd to the one that this site has acted on."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, _ = begun(group)
    home, other = group.sites
    with (other.repository / "piehole" / "state.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first = pushed(group, work, "one more")
        until(lambda: is_awaited(lock), PATIENCE, "the record of that waits for the lock")
        home.signal(signal.SIGSTOP)  # so that it writes nothing either
        etcd.save_snapshot(tmp_path / "backup")
        newest = pushed(group, work, "two")
        etcd.kill()
        etcd.restore_snapshot(tmp_path / "backup")
        etcd.start()
    other.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    home.signal(signal.SIGCONT)
    assert other.at() == newest
    went_back(group, first, newest)


def test_a_backup_of_etcd_is_recognised_by_a_site_that_something_keeps_back(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    """Its progress stands still, so that cannot tell; and its controller is started anew, so neither can its memory."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, _ = begun(group)
    group.put("refs/heads/nowhere", "1" * 40)
    for site in group:
        until(
            lambda site=site: "refs/heads/nowhere" in site.piehole("status", check=False).out,  # type: ignore[misc]
            what=f"a ref is stuck at {site.name}",
        )
    keys = [f"{group.prefix}/progress/{group.name}/{site.name}" for site in group]
    etcd.save_snapshot(tmp_path / "backup")
    before = {group.etcd.get(key) for key in keys}
    newest = pushed(group, work, "two")
    until(lambda: not before & {group.etcd.get(key) for key in keys}, what="each has told of it under a new id")
    for site in group:
        site.stop()
    etcd.kill()
    etcd.restore_snapshot(tmp_path / "backup")
    etcd.start()
    for number in range(20):
        group.etcd.put(f"{group.prefix}-elsewhere", str(number))
    for site in group:
        site.start()
    for site in group:
        site.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    assert [site.at() for site in group] == [newest, newest]


@pytest.mark.slow
def test_an_etcd_that_was_put_back_and_has_overtaken_what_the_sites_had_heard_is_listed_anew(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    """Its revision is no reason to list again; but what the watch goes on from has never been, there."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, first = begun(group)
    etcd.save_snapshot(tmp_path / "backup")
    newest = pushed(group, work, "two")
    told(group)
    with ExitStack() as cut_off:
        for site in group:
            site.signal(signal.SIGSTOP)
            cut_off.callback(site.signal, signal.SIGCONT)
        etcd.kill()
        etcd.restore_snapshot(tmp_path / "backup")
        etcd.start()
        for number in range(50):
            group.etcd.put(f"{group.prefix}-elsewhere", str(number))
    for site in group:
        site.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    went_back(group, first, newest)


def test_a_decision_holds_though_a_ref_is_stuck_afterwards(
    make_group: MakeGroup, own_etcd: OwnEtcd, tmp_path: Path
) -> None:
    """What was reached before is not published then: it is of an etcd that is gone, and would halt the site again."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, first = begun(group)
    etcd.save_snapshot(tmp_path / "backup")
    for number in range(50):  # the restored etcd will not have come that far
        group.etcd.put(f"{group.prefix}-elsewhere", str(number))
    newest = pushed(group, work, "two")
    told(group)
    etcd.kill()
    etcd.restore_snapshot(tmp_path / "backup")
    etcd.start()
    for site in group:
        site.wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    group.put("refs/heads/nowhere", "1" * 40)
    went_back(group, first, newest)
    for site in group:
        site.stuck("refs/heads/nowhere")
    keys = [f"{group.prefix}/progress/{group.name}/{site.name}" for site in group]
    before = {group.etcd.get(key) for key in keys}
    git.git(work, "reset", "-q", "--hard", first)
    third = git.commit(work, "three")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, third)
    until(lambda: not before & {group.etcd.get(key) for key in keys}, what="each has published under a new id")
    for site in group:
        assert len(site.events("site.halted")) == 1
        assert site.progress() < group.etcd.look(group.key(MAIN)).mod_revision  # type: ignore[union-attr]


def test_a_check_that_waits_while_somebody_decides_believes_the_decision(world: Group) -> None:
    """It would write down that etcd went back, and so undo what `piehole accept` has just written."""
    replica = world["a"].build().replica()
    acted_on = [10**9]
    with ThreadPoolExecutor(1) as pool:
        with (replica.git_dir / "piehole" / "state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            checked = pool.submit(progress.check, replica, Deadline(20), seen=lambda: acted_on[0])
            until(lambda: is_awaited(lock), what="the check waits for the lock")
            acted_on[0] = 0
        assert checked.result().revision < 10**9


def test_an_emptied_etcd(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    work, oid = begun(group)
    etcd.kill()
    etcd.wipe()
    etcd.start()
    for site in group:
        site.wait_event("site.halted", token="wrong-group")  # noqa: S106 -- a word, not a password
    git.commit(work, "two")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")
    assert [site.at() for site in group] == [oid, oid]
    assert group.etcd.get_prefix(group.prefix) == {}


def test_another_group_of_the_same_name(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, oid = begun(group)
    key = f"{group.prefix}/group/{group.name}"
    record = json.loads(group.etcd.get(key) or "")
    group.etcd.put(key, json.dumps({**record, "id": "another one"}))
    git.commit(work, "two")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")
    assert group.value() == oid
    group.etcd.put(key, json.dumps(record))
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, git.rev_parse(work))


def test_a_site_that_was_made_to_leave(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, oid = begun(group)
    group[1].piehole("leave", "--site", "a", "--yes")
    group[0].stop()
    group[0].start()
    left = group[0].wait_event("site.halted")
    assert "made to leave" in left["reason"]
    git.commit(work, "two")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")
    accepted(git.push(work, group[1].url, "HEAD:main"))
    group.arrives(MAIN, git.rev_parse(work), [group[1]])
    assert group[0].at() == oid


def test_a_running_site_that_was_made_to_leave_takes_no_further_push(make_group: MakeGroup) -> None:
    """Its controller has not noticed yet; the swap compares the site's record."""
    group = make_group(2)
    work, oid = begun(group)
    group[1].piehole("leave", "--site", "a", "--yes")
    git.commit(work, "two")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")
    assert group.value() == oid


def test_a_running_site_that_was_made_to_leave_notices_with_the_next_change(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, _ = begun(group)
    group[1].piehole("leave", "--site", "a", "--yes")
    git.commit(work, "two")
    accepted(git.push(work, group[1].url, "HEAD:main"))
    group[0].wait_event("site.halted")
    git.commit(work, "three")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")


def test_a_twin_that_took_the_name(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, _ = begun(group)
    twin = Site(group, "a", "", root=group.folder / "twin")
    twin.build(replace=True)
    git.commit(work, "two")
    accepted(git.push(work, group[1].url, "HEAD:main"))
    group.arrives(MAIN, git.rev_parse(work), [group[1]])
    halted = group[0].wait_event("site.halted")
    assert "another machine has the name" in halted["reason"]
    git.commit(work, "three")
    refused(git.push(work, "origin", "HEAD:main"), "wrong-group")


def test_a_disk_that_came_back_from_a_backup(make_group: MakeGroup) -> None:
    group = make_group(2)
    work, first = begun(group)
    state = group[1].repository / "piehole" / "state.json"
    before = state.read_text()
    newest = pushed(group, work, "two")
    told(group)
    group[1].stop()
    state.write_text(before)
    group[1].move(MAIN, first)
    group[1].start()
    halted = group[1].wait_event("site.halted", token="went-back")  # noqa: S106 -- a word, not a password
    assert "disk was restored" in halted["reason"]
    assert group[1].at() == first
    refused(git.push(work, group[1].url, "HEAD:again"), "went-back")
    group[1].piehole("accept", "--yes")
    group.arrives(MAIN, newest)


def test_it_is_told_once_and_ends_by_itself_once_a_person_has_decided(make_group: MakeGroup) -> None:
    group = make_group(1)
    begun(group)
    site = group[0]
    state = site.repository / "piehole" / "state.json"
    # What is told of is written down before it is sent, and again when it is known to have arrived.
    until(lambda: not json.loads(state.read_text())["pending"], 10, "the disk knows what etcd has")
    good = state.read_text()
    site.stop()
    state.write_text(good.replace(json.loads(good)["published"]["id"], "somebody else's"))
    site.start()
    site.wait_event("site.halted")
    for n in range(3):
        site.signal(signal.SIGHUP)
        until(lambda n=n: len(site.events("controller.reloading")) > n, 10, "it looks again")  # type: ignore[misc]
    assert len(site.events("site.halted")) == 1
    state.write_text(good)
    group.put("refs/heads/x", group.value() or "")
    site.wait_event("site.resumed")
    group.arrives("refs/heads/x", group.value() or "")
