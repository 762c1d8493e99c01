"""Processes, machines and the load on them: whoever dies, hangs or comes late, all sites agree afterwards without anybody's help."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from piehole.fastpath import processes
from tests.conftest import OwnCluster, OwnEtcd
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1
from tests.support.groups import Group, MakeGroup
from tests.support.process import ManagedProcess
from tests.support.pushes import chain, records, write_hook
from tests.support.wait import PATIENCE, meanwhile, until
from tests.transfer.liar import falls_silent_in_the_pack, lying_peer, says_nothing

SIDE = "refs/heads/side"


def no_locks(repository: Path) -> bool:
    # state.lock is a file to be locked, not a lock by being there.
    return not [path for path in repository.rglob("*.lock") if path.parent.name != "piehole"]


def test_never_quiet(make_group: MakeGroup) -> None:
    """A repository that never stops being pushed to converges all the same: the newest value is chased, not each on the way."""
    group = make_group(2)
    a, b = group
    work, first = group.begun()
    tips = [first]

    def pushes() -> None:
        tips.append(git.commit(work, "another"))
        accepted(git.push(work, a.repository, "HEAD:main"))

    b.pause()
    with meanwhile(pushes) as pusher:
        until(lambda: len(tips) > 6, PATIENCE, "some pushes")
        b.resume()
        for _ in range(2):
            behind = tips[-2]
            until(lambda behind=behind: git.has_object(b.repository, behind), PATIENCE, "B follows")  # type: ignore[misc]
        assert pusher.is_alive()
    group.arrives(MAIN, tips[-1], timeout=PATIENCE)
    seen = git.git(b.repository, "reflog", "show", "--format=%H", MAIN).stdout.split()
    assert not set(tips[1:5]) & set(seen), "it went through every value on the way"
    assert group.history() == tips


def test_backlog_first(make_group: MakeGroup) -> None:
    """A backlog that hangs, larger than what it may take at once, delays no fresh push to another repository."""
    group = make_group(2, started=False)
    a, b = group
    with lying_peer(says_nothing) as url:
        backlog = [Group(group.folder / f"h{n}", group.endpoints, group.prefix, name=f"h{n}") for n in range(10)]
        try:
            for other in backlog:
                other.add("b", root=b.root / other.name).build()
                other.etcd.put(f"{group.prefix}/site/{other.name}/x", json.dumps({"format": 1, "id": "x", "url": url}))
                other.put(MAIN, "12" * 20)
            group.start()
            work, _ = group.begun()
            for number in range(3):
                fresh = git.commit(work, str(number))
                accepted(git.push(work, a.repository, "HEAD:main"))
                group.arrives(MAIN, fresh, timeout=15.0)  # a stall would be a minute
            assert not [event for event in b.events("reconcile") if event["group"] != group.name], (
                "the backlog still hangs"
            )
        finally:
            b.kill()
            for other in backlog:
                other.end()


@pytest.mark.parametrize("step", ["before the swap", "after the swap", "after the swap, the hook alone"])
def test_kill_anywhere(make_group: MakeGroup, step: str) -> None:
    """kill -9 of the hook and its receive-pack: afterwards all agree on the old value, or on the new one."""
    group = make_group(2)
    a, _ = group
    work, first = group.begun()
    swaps = '"$piehole" "$@"; status=$?\n'
    chain(
        a.repository,
        "reference-transaction",
        {
            # As soon as piehole's hook has noted git's locks; it gets no answer.
            "before the swap": 'if [ "$1" = prepared ] && rm armed 2>/dev/null; then\n'
            'exec 3<&0; "$piehole" "$@" <&3 & until grep -q "^lock " piehole/inflight/*.$PPID.*; do :; done; kill -9 $PPID $! $$\nfi\n'
            + swaps,
            "after the swap": swaps + '[ "$1" != prepared ] || ! rm armed 2>/dev/null || kill -9 $PPID $$\n',
            "after the swap, the hook alone": swaps + '[ "$1" != prepared ] || ! rm armed 2>/dev/null || kill -9 $$\n',
        }[step]
        + "exit $status",
    )
    (a.repository / "armed").touch()
    second = git.commit(work, "second")
    if step == "before the swap":
        a.pause()
    assert git.push(work, a.repository, "HEAD:main").returncode != 0
    a.resume()
    agreed = first if step == "before the swap" else second
    assert group.value() == agreed
    group.arrives(MAIN, agreed, timeout=PATIENCE)
    # Nothing is left in the next push's way, though nothing that happened in etcd told of it.
    until(lambda: no_locks(a.repository), PATIENCE, "no lock is left")
    accepted(git.push(work, a.repository, "HEAD:main"))
    group.arrives(MAIN, second, timeout=PATIENCE)
    assert group.history() == [first, second]


@pytest.mark.parametrize("step", ["before the ref's move", "after the ref's move"])
def test_kill_anywhere_the_controller(make_group: MakeGroup, tmp_path: Path, step: str) -> None:
    group = make_group(2, started=False)
    a, b = group
    a.start()
    _, first = group.begun()
    dies = (
        "touch $seen; kill -9 $PPID; exit 1" if step.startswith("before") else '"$git" "$@"; touch $seen; kill -9 $PPID'
    )
    with group.git_that(tmp_path / "bin", "update-ref", dies) as killed:
        b.launch()
        until(killed.exists, PATIENCE)
    until(lambda: not b.running, PATIENCE)
    assert b.at() == ("" if step.startswith("before") else first)
    b.start()
    group.arrives(MAIN, first, timeout=PATIENCE)
    group.published()
    assert list((b.repository / "objects" / "pack").glob("*.keep")) == []
    b.fsck()


def test_kill_anywhere_during_a_fetch(make_group: MakeGroup) -> None:
    group = make_group(0)
    with lying_peer(falls_silent_in_the_pack) as url:
        a = group.add("a", url=url).build()
        b = group.add("b").build().start()
        work = git.clone(a.repository, group.fresh("work"))
        tip = git.commit(work, "first")
        accepted(git.push(work, a.repository, "HEAD:main"))
        arriving = "objects/piehole-quarantine-*/pack/tmp_pack*"
        until(lambda: list(b.repository.glob(arriving)), PATIENCE, "bytes arrive")
        b.kill()
    a.url = str(a.repository)
    a.install()
    b.start()
    group.arrives(MAIN, tip, timeout=PATIENCE)
    until(lambda: not list(b.repository.glob("objects/piehole-quarantine-*")), PATIENCE)
    b.fsck()


def test_leftover_lock(make_group: MakeGroup) -> None:
    """What a killed receive-pack has locked is free again by itself; what is somebody else's is reported."""
    group = make_group(2)
    a, b = group
    work, _ = group.begun("side")
    git.git(a.repository, "pack-refs", "--all", "--prune")
    chain(
        a.repository,
        "reference-transaction",
        '"$piehole" "$@"; status=$?\n[ "$1" != prepared ] || ! rm armed 2>/dev/null || kill -9 $PPID $$\nexit $status',
    )
    (a.repository / "armed").touch()
    second = git.commit(work, "second")
    assert git.push(work, a.repository, "HEAD:main").returncode != 0
    group.arrives(MAIN, second, timeout=PATIENCE)
    until(lambda: no_locks(a.repository) and not records(a.repository), PATIENCE, "locks and record are gone")
    # A lock that no record tells of is not ours to judge.
    foreign = b.repository / f"{SIDE}.lock"
    foreign.touch()
    accepted(git.push(work, a.repository, "HEAD:side"))
    assert "side.lock" in b.stuck(SIDE)
    assert foreign.exists()
    foreign.unlink()
    group.arrives(SIDE, second, timeout=PATIENCE)


def test_leftover_lock_files_of_another_account(make_group: MakeGroup) -> None:
    """Git could not write the reflog after the swap: the push is refused before it. And nobody but the owner works here."""
    group = make_group(1)
    (a,) = group
    work, _ = group.begun()
    in_the_way = a.repository / "logs" / "refs" / "heads" / "topic"
    in_the_way.write_text("")  # root, too, fails to make a folder here
    refused(git.push(work, a.repository, "HEAD:topic/one"), "no-access")
    assert group.value("refs/heads/topic/one") is None
    in_the_way.unlink()
    accepted(git.push(work, a.repository, "HEAD:topic/one"))
    if os.geteuid() == 0:
        a.stop()
        os.chown(a.repository, 65534, -1)
        done = group.piehole("reconcile", "--once", str(a.repository), check=False)
        assert done.status == 1
        assert "owner" in done.err


@pytest.mark.parametrize(
    "way", ["wrapper", "namespace", "symref", "missing object", "aborted", "reused pid", "container"]
)
def test_gate_bypass(make_group: MakeGroup, way: str) -> None:
    """Each way around the gate is refused, or goes through the swap."""
    group = make_group(1)
    (a,) = group
    site = a.repository
    work, first = group.begun("side")
    second = git.commit(work, "second")
    if way == "wrapper":
        chain(site, "reference-transaction", 'sh -c "\\"\\$0\\" \\"\\$@\\"; exit \\$?" "$piehole" "$@"\nexit $?')
        accepted(git.push(work, site, "HEAD:main"))
        assert group.history() == [first, second]
        group.put(MAIN, "frozen")
        git.commit(work, "third")
        refused(git.push(work, site, "HEAD:main"), "locked")
        assert a.at() == second
        return
    if way == "namespace":
        refused(git.push(work, site, "--receive-pack=env GIT_NAMESPACE=x git-receive-pack", "HEAD:main"), "reserved")
    elif way == "symref":
        git.git(site, "symbolic-ref", "refs/heads/alias", MAIN)
        refused(git.push(work, site, "HEAD:alias"), "reserved")
        git.git(site, "symbolic-ref", "--delete", "refs/heads/alias")
    elif way == "missing object":
        accepted(git.push(work, site, "HEAD:broken"))
        (site / "objects" / second[:2] / second[2:]).unlink()
        refused(git.push(work, site, ":broken"), "stale")
        assert group.value("refs/heads/broken") == second
        assert (site / "refs/heads/broken").read_text().strip() == second
        return
    elif way == "aborted":
        # A loose ref is deleted: git says `aborted 0 0 REF` before `prepared`.
        accepted(git.push(work, site, ":side"))
        assert group.history(SIDE)[:2] == [first, ZERO_SHA1]
        assert a.refs() == {MAIN: first}
        return
    else:
        # `update` is not ours, and a record of another process, or of another pid namespace, says what ours would.
        named = {
            "reused pid": '"$boot.$namespace.$PPID.1.$machine"',
            "container": '"$boot.1$namespace.$PPID.$started.$machine"',
        }[way]
        write_hook(
            site,
            "update",
            f"""#!/bin/sh
boot=$(cat /proc/sys/kernel/random/boot_id)
machine={processes.machine()}
namespace=$(readlink /proc/self/ns/pid | tr -dc 0-9)
started=$(sed 's/.*) //' /proc/$PPID/stat | cut -d' ' -f20)
printf 'piehole 1 0123456789abcdef\\nwant %s %s %s [1,1,1,0,[],1]\\n' "$1" "$2" "$3" >piehole/inflight/{named}
""",
        )
        refused(git.push(work, site, "HEAD:main"), "no-access")
    assert group.history() == [first]
    assert a.refs() == {MAIN: first, SIDE: first}


@pytest.mark.slow
def test_etcd_trouble(make_group: MakeGroup, own_cluster: OwnCluster) -> None:
    """The leader dies, a member hangs, the quorum is lost: pushes go on or are refused, reads go on, no push is lost."""
    cluster = own_cluster(3)
    group = make_group(2, endpoints=cluster.endpoints, settings={"piehole.hookTimeout": "4"})
    a, b = group
    work, first = group.begun()
    tips = [first]

    def push_through(site: int) -> None:
        tips.append(git.commit(work, f"{len(tips)}"))
        until(
            lambda: git.push(work, group[site].repository, "HEAD:main").returncode == 0, PATIENCE, "a push goes through"
        )
        group.arrives(MAIN, tips[-1], timeout=PATIENCE)

    leader = cluster.leader()
    leader.kill()
    push_through(0)
    leader.start()
    hung = cluster.leader()
    hung.pause()  # no reset, no word
    push_through(1)
    other = next(member for member in cluster.members if member is not hung)
    other.pause()
    git.commit(work, "without a quorum")
    done = git.push(work, a.repository, "HEAD:main")
    assert done.returncode != 0
    assert "piehole: no-quorum: " in done.stderr or "piehole: unknown: " in done.stderr, done.stderr
    assert git.rev_parse(a.clone()) == a.at() == tips[-1]
    other.resume()
    hung.resume()
    tips.append(git.rev_parse(work))
    until(lambda: git.push(work, b.repository, "HEAD:main").returncode == 0, PATIENCE, "the quorum is back")
    group.arrives(MAIN, tips[-1], timeout=PATIENCE)
    values = next(m for m in cluster.members if m.alive).raw.history(group.key(MAIN))
    assert [change.value for change in values] == tips


def test_etcd_trouble_history_is_compacted_while_a_site_is_away(make_group: MakeGroup, own_etcd: OwnEtcd) -> None:
    """And the watch is cut: the site lists anew, and misses nothing, deletions included."""
    etcd = own_etcd()
    group = make_group(2, etcd=etcd)
    a, b = group
    work, first = group.begun("side")
    group.published()
    b.pause()
    etcd.restart()  # else what is compacted below would reach B on its old connection
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main", ":side", "HEAD:new"))
    group.etcd.put("/elsewhere", "x")
    group.etcd.compact(group.etcd.revision())
    b.resume()
    assert group.in_step() == {MAIN: second, "refs/heads/new": second}
    third = git.commit(work, "third")
    accepted(git.push(work, b.repository, "HEAD:main"))
    group.arrives(MAIN, third, timeout=PATIENCE)
    assert first in b.kept()


WRONG_CLOCK = """
import datetime, sys
true = datetime.datetime
class Clock(true):
    @classmethod
    def now(cls, tz=None):
        return true.now(tz) + datetime.timedelta(hours=HOURS)
datetime.datetime = Clock
from piehole.cli import main
sys.exit(main())
"""


def test_clock_wrong(make_group: MakeGroup) -> None:
    """One site is hours ahead, the other hours behind: what the group has agreed on counts, whatever its time says."""
    group = make_group(2, started=False)
    a, b = group
    for site, hours in ((a, 7), (b, -7)):
        program = WRONG_CLOCK.replace("HOURS", str(hours))
        site.controller = ManagedProcess(
            [sys.executable, "-c", program, "controller", "--root", str(site.root), "--log-format", "json"],
            site.log,
            env=group.environment,
        )
        site.wait_served()
    work, first = group.begun("side")
    # The one whose clock is behind speaks last, and people's clocks are wrong, too.
    second = dated(work, "second", "2040-01-01T00:00:00Z")
    accepted(git.push(work, a.repository, "HEAD:main"))
    third = dated(work, "third", "2001-01-01T00:00:00Z")
    group.arrives(MAIN, second)
    accepted(git.push(work, b.repository, "HEAD:main", ":side"))
    group.arrives(MAIN, third)
    accepted(git.push(work, a.repository, "--force", f"{second}:{MAIN}"))
    assert group.in_step() == {MAIN: second}
    assert group.history() == [first, second, third, second]
    until(lambda: group.value(SIDE) is None, PATIENCE, "the tombstone is reaped")
    group.published()
    times = [json.loads(change.value or "{}")["time"] for change in group.etcd.history(group.key("@push"))]
    assert times != sorted(times), "the clocks were right, so this shows nothing"
    shown = a.piehole("status")
    assert "behind" not in shown.out


def dated(work: Path, message: str, date: str) -> str:
    env = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    git.git(work, "commit", "-q", "--allow-empty", "-m", message, env=env)
    return git.rev_parse(work)
