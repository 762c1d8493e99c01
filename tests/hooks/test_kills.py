"""kill -9 at the steps of a push: nothing is swapped for a push whose locks are gone, and what was swapped is followed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.fastpath import hook_messages, processes
from tests.support.assertions import accepted
from tests.support.command_line import piehole
from tests.support.etcd_tamper import Tamper
from tests.support.git import MAIN, commit, git, push, refs
from tests.support.groups import Group
from tests.support.hook_socket import Line, stub
from tests.support.process import send_signal
from tests.support.pushes import chain, deciding, finish, receive_pack, records, start_push
from tests.support.wait import until


def basis(world: Group) -> str:
    """What a controller would have a hook record for main now: but for what the test is about, the swap would succeed."""
    keys = (f"{world.prefix}/group/{world.name}", f"{world.prefix}/site/{world.name}/a", world.key("@fence"))
    group, site, fence = (found.mod_revision if found else 0 for found in map(world.etcd.look, keys))
    return f"[{world.etcd.revision()},{world.changes()[-1].revision},{group},{site},{fence},[],1]"


def admits_and_holds(world: Group) -> Callable[[Line], None]:
    """A controller that admits what is asked, and never answers a proposal."""

    def talk(line: Line) -> None:
        line.say(*hook_messages.pack_here(8))
        if line.question[0] == "admit":
            line.say(f"take {basis(world)}")

    return talk


def forget_records(site: Path) -> None:
    """Sweep what earlier pushes left, so that the next record is the next push's."""
    for record in records(site):
        record.unlink()


def test_kill_anywhere_before_the_swap(world: Group) -> None:
    """receive-pack dies while its hook has not begun: nothing is swapped."""
    site, work, first = world.founded()
    forget_records(site)
    chain(
        site,
        "reference-transaction",
        'if [ "$1" = prepared ]; then echo $$ >hook.pid; until [ -e go ]; do sleep 0.02; done; fi\n"$piehole" "$@"\n'
        'status=$?; [ "$1" = prepared ] && echo $status >status; exit $status',
    )
    commit(work)
    pushing = start_push(work, site, "HEAD:main")
    until((site / "hook.pid").exists, 20)
    send_signal(receive_pack(site), signal.SIGKILL)
    (site / "go").touch()  # the hook holds the client's end of the pipe, too
    assert finish(pushing).returncode != 0
    until((site / "status").exists, 20)
    assert (site / "status").read_text() == "1\n"
    assert world.history() == [first]


@pytest.mark.slow
def test_kill_anywhere_while_the_hook_waits_for_its_answer(world: Group) -> None:
    """receive-pack dies while the hook waits for a controller: the hook, which decides itself now, does not swap."""
    site, work, first = world.founded()
    forget_records(site)

    commit(work)
    with stub(site, admits_and_holds(world)) as controller:
        pushing = start_push(work, site, "HEAD:main")
        hook = controller.wait_for("propose").hook
        send_signal(receive_pack(site), signal.SIGKILL)
    # The stub is gone: the connection broke, and the hook turned to etcd.
    assert finish(pushing).returncode != 0
    until(lambda: processes.start_time(hook) is None, 20)
    assert world.history() == [first]


def test_leftover_lock(world: Group, tamper: Tamper) -> None:
    """receive-pack and hook die after the swap: the locks go, the ref follows, and nothing is left of the push."""
    site = world["a"].build(endpoints=[tamper.endpoint]).repository
    work = world.clone(site)
    first = commit(work, "first")
    accepted(push(work, site, "HEAD:main"))
    forget_records(site)
    second = commit(work, "second")
    before = tamper.seen.count("swap")
    tamper.once("swap", "hang answer")
    pushing = start_push(work, site, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    until(lambda: world.value() == second)
    pid = receive_pack(site)
    for one in (pid, *deciding(site, pid)):
        send_signal(one, signal.SIGKILL)
    assert finish(pushing).returncode != 0
    assert refs(site)[MAIN] == first
    assert (site / f"{MAIN}.lock").exists()
    done = piehole("reconcile", "--once", str(site))
    assert "refs/heads/main" in done.out
    assert refs(site)[MAIN] == second
    assert {path.name for path in site.glob("**/*.lock")} <= {
        "state.lock",
        "removal.lock",
        "verified.lock",
    }  # which stay
    assert not records(site)
    third = commit(work, "third")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second, third]


def test_kill_anywhere_the_hook_alone_after_the_swap(world: Group, tamper: Tamper) -> None:
    """git takes a dead hook for a veto; the group has the push, and the site follows."""
    site = world["a"].build(endpoints=[tamper.endpoint]).repository
    work = world.clone(site)
    first = commit(work, "first")
    accepted(push(work, site, "HEAD:main"))
    forget_records(site)
    second = commit(work, "second")
    before = tamper.seen.count("swap")
    tamper.once("swap", "hang answer")
    pushing = start_push(work, site, "HEAD:main")
    tamper.wait_for("swap", before + 1)
    until(lambda: world.value() == second)
    for one in deciding(site, receive_pack(site)):
        send_signal(one, signal.SIGKILL)
    assert finish(pushing).returncode != 0
    assert refs(site)[MAIN] == first
    assert world.reconcile(site).status == 0
    assert refs(site)[MAIN] == second
    assert world.history() == [first, second]


@pytest.mark.slow
def test_sigterm_removes_the_locks_and_the_swap_is_not_made(world: Group) -> None:
    """receive-pack removes its locks on SIGTERM while its hook runs on."""
    site, work, first = world.founded()
    forget_records(site)

    commit(work)
    with stub(site, admits_and_holds(world)) as controller:
        pushing = start_push(work, site, "HEAD:main")
        hook = controller.wait_for("propose").hook
        send_signal(receive_pack(site), signal.SIGTERM)
        finish(pushing)
        until(lambda: not (site / f"{MAIN}.lock").exists(), 10)
    until(lambda: processes.start_time(hook) is None, 20)
    assert world.history() == [first]


def test_a_deletion_that_was_killed_leaves_no_lock_of_the_packed_refs(world: Group, tamper: Tamper) -> None:
    site = world["a"].build(endpoints=[tamper.endpoint]).repository
    work = world.clone(site)
    commit(work, "first")
    accepted(push(work, site, "HEAD:main", "HEAD:side"))
    git(site, "pack-refs", "--all", "--prune")
    forget_records(site)
    before = tamper.seen.count("swap")
    tamper.once("swap", "hang answer")
    pushing = start_push(work, site, ":side")
    tamper.wait_for("swap", before + 1)
    pid = receive_pack(site)
    for one in (pid, *deciding(site, pid)):
        send_signal(one, signal.SIGKILL)
    finish(pushing)
    assert (site / "packed-refs.lock").exists()
    until(lambda: world.value("refs/heads/side") == "0" * 40)
    assert world.reconcile(site).status == 0
    assert "refs/heads/side" not in refs(site)
    assert not list(site.glob("packed-refs.*"))
