"""A reconcile that looks only at the refs whose keys have changed, as a controller does it: with an informer's view.

A ref of no concern that somebody has moved by hand tells whether all refs were looked at: a whole look puts it back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.etcd_view import EtcdAddress, EtcdView
from piehole.deadline import Deadline
from piehole.errors import EtcdUnreachable
from piehole.fastpath import inflight, processes
from piehole.refs import HEAD
from piehole.replicate import recheck, reconcile
from piehole.replicate.fetch_objects import FetchSummary, ObjectFetcher
from piehole.replicate.incremental import FEW
from piehole.replicate.peers import PeerHealth
from piehole.replicate.plan import Value
from piehole.replicate.reconcile import Reconciler, Report
from tests.support.git import MAIN, ZERO_SHA1, git
from tests.support.groups import Group
from tests.support.process import descendants

SIDE = "refs/heads/side"


class Follower:
    """The site ``b``, which has settled, and whose ``side`` was then moved by hand."""

    def __init__(self, bed: Group) -> None:
        self.bed = bed
        bed.install("a", "b")
        self.first = bed.commit("one")
        bed.push("a", "HEAD:main", f"HEAD:{SIDE}", "HEAD:refs/heads/far/away")
        self.replica = bed["b"].replica()
        config = self.replica.config
        self.cluster = EtcdView(EtcdAddress.of(config), lambda *_: None, lambda: None, lambda _: None)
        self.cluster.start()
        self.fetcher = ObjectFetcher(self.replica, PeerHealth())
        self.reconciler = Reconciler(
            self.replica,
            self.fetcher,
            lambda: self.cluster.view("g"),
            lambda: self.cluster.view("g").revision,
            lambda revision: self.cluster.changed("g", revision),
        )
        assert self.look().full
        self.stray = bed.commit("by hand")
        git(bed["b"].repository, "fetch", "-q", str(bed.work), f"+HEAD:{SIDE}")

    def look(self) -> Report:
        assert self.cluster.informer.cache.wait_for(self.bed.etcd.revision(), Deadline(10))
        return self.reconciler.run()

    def strayed(self) -> bool:
        return self.bed["b"].at(SIDE) == self.stray


@pytest.fixture
def follower(bed: Group) -> Iterator[Follower]:
    one = Follower(bed)
    yield one
    one.cluster.stop()
    one.cluster.join()


def test_only_what_has_changed_is_looked_at_and_everything_once_nothing_has(follower: Follower) -> None:
    bed = follower.bed
    new = bed.commit("two", onto=follower.first)
    bed.push("a", "HEAD:main", "HEAD:refs/heads/new", ":refs/heads/far/away")
    report = follower.look()
    assert not report.full
    assert report.converged
    assert set(report.moved) == {MAIN, "refs/heads/new", "refs/heads/far/away"}
    assert report.revision == report.newest == bed.etcd.revision()
    assert bed["b"].refs() == {MAIN: new, "refs/heads/new": new, SIDE: follower.stray}
    report = follower.look()
    assert report.full
    assert bed["b"].refs() == {MAIN: new, "refs/heads/new": new, SIDE: follower.first}
    assert bed["b"].kept() == {follower.stray, follower.first}
    bed["b"].fsck()


def test_a_push_that_went_through_here_leaves_nothing_to_do(follower: Follower) -> None:
    bed = follower.bed
    bed.commit("two", onto=follower.first)
    bed.push("b")
    report = follower.look()
    assert (report.full, report.converged, dict(report.moved)) == (False, True, {})
    assert report.newest == bed.etcd.revision()


@pytest.mark.parametrize("packed", [False, True])
def test_a_ref_that_is_not_where_it_was_is_a_matter_for_a_whole_look(follower: Follower, packed: bool) -> None:
    bed = follower.bed
    bed["b"].move(MAIN, follower.stray)
    if packed:
        git(bed["b"].repository, "pack-refs", "--all")
    new = bed.commit("two", onto=follower.first)
    bed.push("a")
    # (Of a packed one git has to tell.)
    assert [follower.look().full, follower.look().full][packed]
    assert bed["b"].refs() == {MAIN: new, SIDE: follower.first, "refs/heads/far/away": follower.first}
    assert follower.stray in bed["b"].kept()


def test_a_ref_that_is_packed_is_followed(follower: Follower) -> None:
    bed = follower.bed
    git(bed["b"].repository, "pack-refs", "--all")
    new = bed.commit("two", onto=follower.first)
    bed.push("a")
    assert not follower.look().full
    assert bed["b"].at() == new


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a symbolic link"])
def test_what_is_no_ref_in_a_ref_s_place_holds_nothing_up(follower: Follower, what: str) -> None:
    bed = follower.bed
    bed.push("a", f"{follower.first}:refs/heads/odd")
    follower.look()
    path = bed["b"].repository / "refs/heads/odd"
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    else:
        path.symlink_to("refs/heads/main")  # as git made them long ago
    assert follower.replica.repository.loose_value("refs/heads/odd") in (None, "a symbolic link")
    if what == "a pipe":  # (git itself waits for it)
        path.unlink()
    new = bed.commit("two", onto=follower.first)
    bed.push("a", "HEAD:main", "HEAD:refs/heads/odd")
    for _ in range(2):
        report = follower.look()
    assert bed["b"].at() == new
    if what == "a symbolic link":
        assert set(report.stuck) == {"refs/heads/odd"}
    else:
        assert bed["b"].at("refs/heads/odd") == new


def test_what_was_replaced_by_force_is_kept(follower: Follower) -> None:
    bed = follower.bed
    old = bed.commit("two", onto=follower.first)
    bed.push("a")
    follower.look()
    new = bed.commit("another two", onto=follower.first)
    bed.push("a", "+HEAD:main")
    report = follower.look()
    assert not report.full
    assert bed["b"].at() == new
    assert bed["b"].kept() >= {old}


def test_a_name_that_stands_in_the_way_is_a_matter_for_a_whole_look(follower: Follower) -> None:
    bed = follower.bed
    git(bed["b"].repository, "update-ref", "refs/heads/here", follower.first)  # the group has no opinion
    bed.push("a", f"{follower.first}:refs/heads/here/below")
    for _ in range(2):
        report = follower.look()
    assert report.full
    assert report.converged
    assert bed["b"].at("refs/heads/here/below") == follower.first
    assert bed["b"].at("refs/heads/here") == ""


@pytest.mark.parametrize("name", [HEAD, MAIN])
def test_what_an_administrator_writes_is_a_matter_for_a_whole_look(follower: Follower, name: str) -> None:
    bed = follower.bed
    bed.put(name, f"ref: {SIDE}" if name == HEAD else "locked")
    report = follower.look()
    assert report.full
    assert not follower.strayed()
    assert bed["b"].head() == (SIDE if name == HEAD else MAIN)


@pytest.mark.parametrize("removed", [False, True])
def test_the_end_of_a_lock_is_a_matter_for_a_whole_look(follower: Follower, removed: bool) -> None:
    bed = follower.bed
    bed.put(MAIN, "locked")
    assert set(follower.look().locked) == {MAIN}
    if removed:
        bed.etcd.delete(bed.key(MAIN))
    else:
        bed.put(MAIN, follower.first)
    report = follower.look()
    assert report.full
    assert dict(report.locked) == {}
    assert report.unadopted == ((MAIN,) if removed else ())


def test_a_value_put_by_hand_is_followed_with_no_push_behind_it(follower: Follower) -> None:
    bed = follower.bed
    bed.commit("two", onto=follower.first)
    bed.push("a")
    follower.look()
    bed.put(MAIN, follower.first)
    report = follower.look()
    assert not report.full
    assert bed["b"].at() == follower.first
    assert report.newest == bed.etcd.revision()


def test_more_changes_than_are_remembered_are_a_matter_for_a_whole_look(follower: Follower) -> None:
    for number in range(FEW + 1):
        follower.bed.put(f"refs/tags/{number}", follower.first)
    report = follower.look()
    assert report.full
    assert len(report.moved) == FEW + 2
    assert not follower.strayed()


def test_a_ref_in_the_hands_of_a_push_is_left_to_it_and_looked_at_again(follower: Follower) -> None:
    bed = follower.bed
    new = bed.commit("two", onto=follower.first)
    bed.push("a")
    record = inflight.Record(str(bed["b"].repository), processes.identity(os.getpid()) or "").open()
    record.announce(inflight.Announcement(MAIN, follower.first, "1" * 40, "[1,0,1,0,0,[0],1]", managed=True))
    report = follower.look()
    assert (report.deferred, report.converged) == ((MAIN,), False)
    bed.push("a", "HEAD:refs/heads/later")
    Path(record.path).unlink()
    report = follower.look()
    assert report.full
    assert report.converged
    assert bed["b"].at() == bed["b"].at("refs/heads/later") == new


def test_what_no_peer_has_is_looked_for_everywhere_and_the_rest_moves(follower: Follower) -> None:
    bed = follower.bed
    new = bed.commit("two", onto=follower.first)
    bed.push("a")
    bed.put("refs/heads/lost", "1" * 40)
    report = follower.look()
    assert report.full
    assert set(report.stuck) == {"refs/heads/lost"}
    assert bed["b"].at() == new
    assert MAIN in report.moved
    assert not report.converged
    bed.put("refs/heads/lost", ZERO_SHA1)
    assert follower.look().converged


def test_where_a_look_at_everything_fails_nothing_counts_as_settled(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = follower.bed
    bed.put("refs/heads/lost", "1" * 40)

    def unreachable(*_: object) -> None:
        raise EtcdUnreachable("no quorum for a moment")

    with monkeypatch.context() as trouble:
        trouble.setattr(recheck, "refreshed", unreachable)
        with pytest.raises(EtcdUnreachable):
            follower.look()
    bed.commit("two", onto=follower.first)
    bed.push("a")
    report = follower.look()
    assert report.full
    assert set(report.stuck) == {"refs/heads/lost"}


@pytest.mark.parametrize("how", ["unadopted", "created here", "created again"])
def test_nothing_is_claimed_of_a_ref_that_has_no_file_where_no_move_would_tell(follower: Follower, how: str) -> None:
    """It may be packed, and git looks only where something is to be moved. A tombstone that is passed wrongly is reaped."""
    bed = follower.bed
    ref = "refs/heads/far/away" if how == "created again" else "refs/heads/topic"
    if how == "unadopted":
        git(bed["b"].repository, "update-ref", ref, follower.first)
        git(bed["b"].repository, "pack-refs", "--all")
        follower.reconciler.forget()
        assert ref in follower.look().unadopted
        bed.put(ref, ZERO_SHA1)
    elif how == "created here":
        bed.commit("here", onto=follower.first)
        bed.push("b", f"HEAD:{ref}")
        git(bed["b"].repository, "pack-refs", "--all")
        bed.reconcile("a")
        bed.push("a", f":{ref}")
    else:
        bed.push("b", f":{ref}")
        bed.reconcile("a")
        bed.push("a", f"{follower.first}:{ref}")
    report = follower.look()
    assert report.full
    assert report.converged
    assert bed["b"].at(ref) == (follower.first if how == "created again" else "")


def test_changes_that_come_all_the_time_do_not_put_off_the_look_at_everything(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = follower.bed
    bed.commit("two", onto=follower.first)
    bed.push("a")
    assert not follower.look().full
    monkeypatch.setattr(reconcile, "_INCREMENTAL_FOR", 0.0)
    bed.commit("three")
    bed.push("a")
    assert follower.look().full
    assert not follower.strayed()


@pytest.mark.parametrize("how", ["killed", "not needed"])
def test_a_git_that_was_started_early_and_moves_nothing_is_no_hindrance(
    follower: Follower, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bed = follower.bed
    bed.commit("two", onto=follower.first)
    bed.push("a")
    follower.look()  # the peers are known now
    new = bed.commit("three")
    bed.push("a")
    bring = follower.fetcher.fetch
    started: list[int] = []

    def meanwhile(wanted: Mapping[str, Value], *others: Any, **named: Any) -> FetchSummary:
        started.extend(pid for pid in descendants(os.getpid()) if b"update-ref" in command_line(pid))
        if how == "killed":
            if named["origin"]:
                os.kill(started[0], signal.SIGKILL)
            return bring(wanted, *others, **named)
        return FetchSummary(dict.fromkeys(wanted, "nobody has it"))

    with monkeypatch.context() as trouble:
        trouble.setattr(follower.fetcher, "fetch", meanwhile)
        report = follower.look()
    assert started
    assert not any(b"update-ref" in command_line(pid) for pid in descendants(os.getpid()))
    assert report.full
    assert report.converged is (how == "killed")
    assert follower.look().converged
    assert bed["b"].at() == new


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_after_forgetting_everything_is_looked_at(follower: Follower) -> None:
    bed = follower.bed
    bed.commit("two", onto=follower.first)
    bed.push("a")
    follower.reconciler.forget()
    assert follower.look().full
    assert not follower.strayed()


def test_an_origin_that_is_gone_is_no_hindrance(follower: Follower) -> None:
    bed = follower.bed
    bed.install("c")
    assert bed.reconcile("c").status == 0
    bed.commit("two", onto=follower.first)
    bed.push("a")
    follower.look()  # the peers are known now
    new = bed.commit("three")
    bed.push("c")
    assert bed.reconcile("a").status == 0
    bed["c"].repository.rename(bed.folder / "gone")
    report = follower.look()
    assert report.converged
    assert report.peers == ("a",)
    assert bed["b"].at() == new
