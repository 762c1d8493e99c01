"""The read gate: a fetch from one site sees every push that another site has answered before, or says that it may not."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.replicate.freshness import as_compared, newest_push
from tests.conftest import OwnEtcd
from tests.reads.bed import DEPLOY, FRONTS, Front, lagging, oid_of
from tests.support import git
from tests.support.assertions import accepted
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site
from tests.support.wait import until


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    return Front(tmp_path / "bin", request.param)


@pytest.fixture
def quick(tmp_path: Path) -> Front:
    """Where it does not matter which of the two it is."""
    return Front(tmp_path / "bin", "read-gate.pl")


def gate(group: Group, mode: str, wait: float) -> Group:
    """Set the gate of all sites."""
    for site in group:
        git.git(site.repository, "config", "piehole.readGate", mode)
        git.git(site.repository, "config", "piehole.readWait", f"{wait}")
    return group


def pushed(group: Group, site: int = 0) -> str:
    """A new commit that a site has accepted."""
    oid = group.commit()
    accepted(git.push(group.work, group[site].repository, "HEAD:main"))
    return oid


def test_a_push_to_one_site_is_seen_by_every_fetch_from_another_one_that_starts_afterwards(
    make_group: MakeGroup, front: Front
) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "20"})
    for number in range(10):
        oid = pushed(group, number % 2)
        for site in group:
            got = front.listed(site)
            assert oid_of(got) == oid, got.stderr
            assert not got.stderr


def test_a_site_that_lags_behind_refuses_or_warns_and_is_waited_for(make_group: MakeGroup, front: Front) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "0.3"})
    old = pushed(group)
    group.arrives(MAIN, old)
    with lagging(group, "b"):
        new = pushed(group)
        refused = front.listed(group[1])
        assert (refused.returncode, refused.stdout) == (128, "")
        assert "remote error: piehole: behind: " in refused.stderr
        assert "has not reached the newest state of the group 'g'" in refused.stderr
        assert git.git(group.folder, "ls-remote", str(group[1].repository), MAIN).stdout.startswith(old), "no lag"
    group.arrives(MAIN, new)
    gate(group, "wait", 0.3)
    with lagging(group, "b"):
        old, new = new, pushed(group)
        warned = front.listed(group[1])
        assert (warned.returncode, oid_of(warned)) == (0, old)
        assert warned.stderr.startswith("piehole: behind: ")
        assert "What you get may be out of date." in warned.stderr
    group.arrives(MAIN, new)
    gate(group, "strict", 20)
    with lagging(group, "b") as lag:
        new = pushed(group)
        timer = threading.Timer(0.5, lag.end)
        timer.start()
        assert oid_of(front.listed(group[1])) == new
        timer.join()


def test_many_readers_wait_and_all_of_them_get_the_new_value(make_group: MakeGroup, quick: Front) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "20"})
    group.arrives(MAIN, pushed(group))
    with lagging(group, "b") as lag, ThreadPoolExecutor(20) as readers:
        new = pushed(group)
        waiting = [readers.submit(quick.listed, group[1]) for _ in range(20)]
        until(lambda: threads_that_wait(group[1]) >= 20, what="all readers wait at the gate")
        lag.end()
        assert {oid_of(one.result()) for one in waiting} == {new}


def threads_that_wait(site: Site) -> int:
    """How many connections to its controller are open."""
    path = (site.repository / "piehole" / "controller").read_text().strip()
    return sum(line.endswith(path) and " 03 " in line for line in Path("/proc/net/unix").read_text().splitlines())


def test_a_push_that_came_through_this_site_is_not_waited_for(make_group: MakeGroup, quick: Front) -> None:
    """The reconcile after it comes later; a reader asks for it at once."""
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "0.25"})
    for _ in range(5):
        oid = pushed(group)
        got = quick.listed(group[0])
        assert oid_of(got) == oid, got.stderr


@pytest.mark.parametrize("mode", ["wait", "strict"])
def test_without_etcd_nobody_can_tell(make_group: MakeGroup, own_etcd: OwnEtcd, quick: Front, mode: str) -> None:
    etcd = own_etcd()
    group = make_group(1, etcd=etcd, settings={"piehole.readGate": mode, "piehole.readWait": "0.5"})
    oid = pushed(group)
    assert oid_of(quick.listed(group[0])) == oid
    etcd.pause()
    got = quick.listed(group[0])
    assert "behind: " in got.stderr
    assert "No etcd endpoint answered" in got.stderr
    assert (got.returncode, oid_of(got)) == ((0, oid) if mode == "wait" else (128, ""))
    etcd.resume()
    git.git(group[0].repository, "config", "piehole.readWait", "20")
    until(lambda: oid_of(quick.listed(group[0])) == oid, what="the gate opens when etcd is back")


@pytest.mark.parametrize("hangs", [False, True])
def test_without_a_controller_the_gate_asks_etcd_itself(make_group: MakeGroup, front: Front, hangs: bool) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "0.1"})
    group.arrives(MAIN, old := pushed(group))
    group[1].pause() if hangs else group[1].stop()
    got = front.listed(group[1])
    assert oid_of(got) == old, got.stderr
    pushed(group)
    got = front.listed(group[1])
    assert got.returncode == 128
    assert "no controller answers" in got.stderr
    assert "refs/heads/main is not at the group's value here yet" in got.stderr


def test_a_change_since_the_question_makes_no_older_value_a_new_one(make_group: MakeGroup) -> None:
    """Compared without a controller: what a site lacked when it was asked, it lacks still when the group has moved on meanwhile."""
    group = make_group(2, started=False)
    first, asked = pushed(group), group.etcd.revision()
    here = as_compared(group[1].replica())

    def late(revision: int) -> bool:
        return bool(here(revision, Deadline(0)))

    assert late(asked), "b is empty"
    pushed(group)
    assert late(asked), "b is as empty as before"
    group.reconcile("b")
    assert not late(asked)
    second = group[1].at()
    pushed(group)
    assert not late(asked), "b has what the group had after the question"
    assert late(group.etcd.revision())
    group[1].move(MAIN, first)
    assert not late(asked), "b has what the group had at the question"
    assert late(asked + 1)
    accepted(git.push(group.work, group[0].repository, f"+{first}:main"))
    group[1].move(MAIN, second)
    assert late(group.etcd.revision()), "the group went back to an ancestor of what b has"
    group[1].move(MAIN, "")
    assert late(asked)
    group.put(MAIN, git.ZERO_SHA1)
    accepted(git.push(group.work, group[0].repository, "HEAD:new"))
    assert not late(asked), "main is deleted, and there was no other ref at the question"
    assert late(group.etcd.revision())


@pytest.mark.parametrize("mode", ["wait", "strict"])
def test_an_empty_site_without_a_controller_is_not_fresh_however_fast_others_push(
    make_group: MakeGroup, front: Front, mode: str
) -> None:
    group = make_group(2, started=False, settings={"piehole.readGate": mode, "piehole.readWait": "0.3"})
    values = [pushed(group), pushed(group)]
    ending = threading.Event()

    def push() -> None:
        while not ending.is_set():
            for oid in values:
                group.put(MAIN, oid)

    with ThreadPoolExecutor(1) as others:
        pushing = others.submit(push)
        got = front.listed(group[1])
        ending.set()
        pushing.result()
    assert "behind: " in got.stderr
    assert (got.returncode, got.stdout) == ((0, "") if mode == "wait" else (128, ""))


def test_an_account_without_the_credential_gets_the_words_and_no_data(make_group: MakeGroup, quick: Front) -> None:
    group = make_group(1, settings={"piehole.readGate": "strict"})
    pushed(group)
    assert quick.listed(group[0]).returncode == 0
    group[0].stop()
    for name, value in (("etcdUser", "piehole"), ("etcdPasswordFile", str(group.folder / "nothing-here"))):
        git.git(group[0].repository, "config", f"piehole.{name}", value)
    got = quick.listed(group[0])
    assert got.returncode == 128
    assert "no controller answers" in got.stderr
    assert "nothing-here" in got.stderr


def test_a_stuck_ref_is_not_reached_and_a_locked_one_is(make_group: MakeGroup, quick: Front) -> None:
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "5"})
    oid = pushed(group)
    group.put("refs/heads/frozen", "FROZEN")
    assert oid_of(quick.listed(group[0])) == oid
    git.git(group[0].repository, "config", "piehole.readWait", "0.3")
    group.put("refs/heads/lost", "1" * 40)
    group[0].stuck("refs/heads/lost")
    new = group.commit()
    accepted(git.push(group.work, group[0].repository, "HEAD:other"))
    got = quick.listed(group[0])
    assert got.returncode == 128
    assert "refs/heads/lost is stuck here" in got.stderr
    group.put("refs/heads/lost", "0" * 40)
    git.git(group[0].repository, "config", "piehole.readWait", "20")
    until(lambda: oid_of(quick.listed(group[0], "refs/heads/other")) == new, 30)


def test_a_site_that_is_halted_says_so_at_once(make_group: MakeGroup, quick: Front) -> None:
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "30"})
    pushed(group)
    group.etcd.put(f"{group.prefix}/group/{group.name}", '{"id": "another", "object_format": "sha1"}')
    group.put("@fence", "{}")
    group[0].wait_event("site.halted")
    started = time.monotonic()
    got = quick.listed(group[0])
    assert time.monotonic() - started < 10
    assert got.returncode == 128
    assert "if the group was founded anew" in got.stderr


# ---- what the gate has no say in, and bad input


def test_off_asks_nobody_and_a_repository_of_no_group_is_served(make_group: MakeGroup, front: Front) -> None:
    group = make_group(1)
    oid = pushed(group)
    got = front.listed(group[0])
    assert (oid_of(got), got.stderr) == (oid, "")
    alone = Site(group, "alone")
    git.make_bare(alone.repository)
    accepted(git.push(group.work, alone.repository, "HEAD:main"))
    got = front.listed(alone)
    assert (oid_of(got), got.stderr) == (oid, "")
    git.git(alone.repository, "config", "piehole.readGate", "strict")
    got = front.listed(alone)
    assert oid_of(got) == oid
    assert "belongs to no group" in got.stderr
    assert "piehole install" in got.stderr


def test_a_copy_of_a_repository_is_another_repository(make_group: MakeGroup, front: Front) -> None:
    group = make_group(1, settings={"piehole.readGate": "strict"})
    pushed(group)
    copy = Site(group, "copy", root=group.folder / "elsewhere")
    shutil.copytree(group[0].repository, copy.repository)
    git.git(copy.repository, "update-ref", "-d", MAIN)
    got = front.listed(copy)
    assert got.returncode == 128
    assert f"does not serve {copy.repository}" in got.stderr


def test_a_repository_is_found_as_git_finds_it(make_group: MakeGroup, front: Front) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "0.2"})
    group.arrives(MAIN, pushed(group))
    named = group.folder / "link"
    named.symlink_to(group[1].repository)
    with lagging(group, "b"):
        pushed(group)
        for path in (named, group[1].repository.with_suffix(""), f"{group[1].repository}/"):
            got = git.git(group.folder, "ls-remote", f"--upload-pack={front.upload_pack}", str(path), check=False)
            assert "behind: " in got.stderr, path
    missing = git.git(group.folder, "ls-remote", f"--upload-pack={front.upload_pack}", "/nowhere.git", check=False)
    assert "does not appear to be a git repository" in missing.stderr


def test_a_mode_that_is_none_refuses_and_names_the_three(make_group: MakeGroup, quick: Front) -> None:
    group = make_group(1)
    pushed(group)
    group[0].stop()
    git.git(group[0].repository, "config", "piehole.readGate", "yes")
    got = quick.listed(group[0])
    assert got.returncode == 128
    assert "piehole.readGate is 'yes'; it must be off, wait or strict" in got.stderr


def test_what_only_asks_runs_no_git(make_group: MakeGroup, front: Front) -> None:
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "0.1"})
    pushed(group)

    def ask() -> tuple[int, str, str]:
        command = [str(front.upload_pack), "--ask", str(group[0].repository)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    assert ask() == (0, "", "")
    group[0].stop()
    group.put(MAIN, "1" * 40)
    status, out, err = ask()
    assert (status, out) == (1, "")
    assert err.startswith("piehole: behind: ")


def test_a_watch_that_brings_nothing_is_noticed(make_group: MakeGroup, tamper: Tamper, quick: Front) -> None:
    """The site knows of no change, and etcd does."""
    group = make_group(1, settings={"piehole.readGate": "strict", "piehole.readWait": "0.3"})
    old = pushed(group)
    tamper.always("hold request", "watch")
    late = group.add("late").build(endpoints=[tamper.endpoint])
    late.start()
    until(lambda: late.at() == old)
    assert oid_of(quick.listed(late)) == old
    pushed(group)
    got = quick.listed(late)
    assert got.returncode == 128
    assert "the watch of etcd has not brought the newest changes yet" in got.stderr


def test_the_newest_push_or_fence_counts_and_nothing_that_sites_ask_each_other(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    pushed(group)
    replica = group[0].replica()

    def newest() -> int:
        return newest_push(replica, Deadline(10))[0]

    push = group.etcd.look(group.key(MAIN))
    assert push is not None
    assert newest() == push.mod_revision
    for other in ("@copies/1", "@copies/1/b", "@drop/x", "nested/@push", "nested/refs/heads/main", "zzz/@fence"):
        group.put(other, "{}")
    assert newest() == push.mod_revision
    fence = group.put("@fence", "{}")
    assert newest() == fence


def test_a_peers_key_passes_by_where_its_mark_cannot(make_group: MakeGroup, front: Front) -> None:
    """An sshd that accepts no GIT_PROTOCOL: the forced command of the peer's key says that it is one."""
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "0.1"})
    group.arrives(MAIN, old := pushed(group))
    repository = group[1].repository
    asked = f"SSH_ORIGINAL_COMMAND=\"git-upload-pack '{repository}'\""
    with lagging(group, "b"):
        pushed(group)
        assert front.listed(group[1]).returncode == 128
        for command in (
            f"{front.upload_pack} --peer",
            f"env {asked} sh {DEPLOY}/ssh-upload-pack.sh {repository}; :",
            f"env GIT_PROTOCOL=version=2:piehole=peer {front.upload_pack}",
        ):
            got = git.git(group.folder, "ls-remote", f"--upload-pack={command}", str(repository), MAIN, check=False)
            assert (oid_of(got), got.stderr) == (old, ""), command
