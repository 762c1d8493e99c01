"""The process that answers a push's hooks: what depends on it, and what must not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hooks import helper
from piehole.fastpath import controller_socket, hook_messages, inflight, processes
from piehole.refs import KEPT_REFS
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group
from tests.support.hook_socket import Line, serving, stub
from tests.support.process import send_signal
from tests.support.pushes import chain, deciding, finish, receive_pack, records, start_push, write_hook
from tests.support.wait import until


def silent(line: Line) -> None:
    """Takes the question and never says a word."""


def without_python(site: Path) -> None:
    """Only the helper, which runs already, can answer these hooks."""
    for name in ("update", "reference-transaction"):
        lines = (site / "hooks" / name).read_text().splitlines()
        write_hook(
            site,
            name,
            "\n".join("python=/nowhere/python" if one.startswith("python=") else one for one in lines) + "\n",
        )


def helper_of(site: Path) -> int:
    (record,) = records(site)

    def line() -> str:
        return next((line for line in record.read_text().splitlines() if line.startswith("helper ")), "")

    return int(until(line, 20, "the push has a helper").split(" ")[1])


def forget_records(site: Path) -> None:
    for record in records(site):
        record.unlink()


@pytest.mark.parametrize("with_controller", [True, False])
@pytest.mark.parametrize("options", [[], ["--atomic"]])
def test_one_python_serves_all_hooks_of_a_push(world: Group, with_controller: bool, options: list[str]) -> None:
    site, work, first = world.founded()
    without_python(site)
    second = commit(work, "second")
    refspecs = ["HEAD:main", *(f"HEAD:side{number}" for number in range(5))]
    if with_controller:
        with serving(site):
            accepted(push(work, site, *options, *refspecs))
            accepted(push(work, site, *options, ":side0", ":side1", f"+{first}:side2"))
    else:
        accepted(push(work, site, *options, *refspecs))
        accepted(push(work, site, *options, ":side0", ":side1", f"+{first}:side2"))
    assert world.history() == [first, second]
    live = {ref: oid for ref, oid in world.refs().items() if oid != ZERO_SHA1}
    assert live == {ref: oid for ref, oid in refs(site).items() if not ref.startswith(KEPT_REFS)}
    assert "refs/heads/side0" not in live
    assert refs(site)["refs/heads/side2"] == first


def test_the_helper_ends_with_its_receive_pack(world: Group) -> None:
    site, work, _ = world.founded()
    forget_records(site)
    commit(work)
    accepted(push(work, site, "HEAD:main"))
    pid = helper_of(site)
    until(lambda: processes.start_time(pid) is None, 20)


def test_each_ref_is_refused_by_itself(world: Group) -> None:
    site, work, first = world.founded()
    with serving(site):
        commit(work, "second")
        world.etcd.put(world.key(MAIN), "frozen")
        refused(push(work, site, "HEAD:main", "HEAD:side"), "locked")
    assert set(refs(site)) == {MAIN, "refs/heads/side"}
    assert refs(site)[MAIN] == first


def test_without_pre_receive_the_hooks_decide_themselves(world: Group) -> None:
    site, work, first = world.founded()
    write_hook(site, "pre-receive", "#!/bin/sh\ncat >/dev/null\n")
    second = commit(work, "second")
    with serving(site):
        accepted(push(work, site, "HEAD:main"))
    third = commit(work, "third")
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second, third]


def test_a_helper_that_was_killed_before_it_was_asked_is_not_missed(world: Group) -> None:
    site, work, first = world.founded()
    forget_records(site)
    chain(site, "update", 'until [ -e go ]; do sleep 0.02; done\nexec "$piehole" "$@"')
    second = commit(work, "second")
    pushing = start_push(work, site, "HEAD:main")
    until(lambda: records(site), 20)
    pid = helper_of(site)
    send_signal(pid, signal.SIGKILL)
    until(lambda: processes.start_time(pid) is None, 20)
    (site / "go").touch()
    accepted(finish(pushing))
    assert world.history() == [first, second]


def test_unknown_where_the_helper_dies_while_it_decides(world: Group) -> None:
    """It may have sent the swap; nobody can say "refused"."""
    site, work, first = world.founded()
    forget_records(site)
    commit(work)

    def holds(line: Line) -> None:
        if line.question[0] == "admit":
            line.say(*hook_messages.pack_here(8))
            line.say("take [1,1,1,0,1,[],1]")

    with stub(site, holds) as controller:
        pushing = start_push(work, site, "HEAD:main")
        controller.wait_for("propose")
        send_signal(helper_of(site), signal.SIGKILL)
        refused(finish(pushing), "unknown")
    assert world.history() == [first]
    assert refs(site)[MAIN] == first


def test_nothing_is_proposed_for_a_hook_that_is_gone(world: Group) -> None:
    """git takes it for a veto and lets go of the locks; the helper lives."""
    site, work, first = world.founded()
    forget_records(site)
    commit(work)
    with serving(site):
        chain(
            site,
            "reference-transaction",
            'if [ "$1" = prepared ]; then echo $$ >hook.pid; until [ -e go ]; do sleep 0.02; done; fi\nexec "$piehole" "$@"',
        )
        pushing = start_push(work, site, "HEAD:main")
        until((site / "hook.pid").exists, 20)
        pid = helper_of(site)
        shim = int((site / "hook.pid").read_text())
        os.kill(pid, 19)
        (site / "go").touch()
        until(lambda: b"reference-transaction.piehole" in Path(f"/proc/{shim}/cmdline").read_bytes(), 20)
        until(lambda: "pipe_read" in Path(f"/proc/{shim}/wchan").read_text(), 20)
        send_signal(shim, signal.SIGKILL)
        until(lambda: processes.start_time(shim) is None, 20)
        os.kill(pid, 18)
        assert finish(pushing).returncode != 0
        until(lambda: processes.start_time(pid) is None, 20)
    assert world.history() == [first]
    assert refs(site)[MAIN] == first


def test_an_answer_that_nobody_read_is_not_taken_for_the_next(world: Group) -> None:
    """An `update` that was killed leaves its answer in the pipe."""
    site, work, _ = world.founded()
    forget_records(site)
    world.etcd.put(world.key("refs/heads/b"), "frozen")
    chain(
        site,
        "update",
        'if [ "$1" = refs/heads/a ]; then "$piehole" "$@" & exec sh -c "kill -9 $!; exit 1"; fi\nexec "$piehole" "$@"',
    )
    commit(work)
    with serving(site):
        done = push(work, site, "HEAD:a", "HEAD:b", "HEAD:c")
    assert "locked" in refused(done, "locked")
    assert set(refs(site)) == {MAIN, "refs/heads/c"}


def test_a_controller_that_went_away_during_the_push_is_looked_for_anew(world: Group) -> None:
    site, work, first = world.founded()
    forget_records(site)
    chain(site, "update", 'touch asked; until [ -e go ]; do sleep 0.02; done\nexec "$piehole" "$@"')
    second = commit(work)
    with serving(site):
        pushing = start_push(work, site, "HEAD:main")
        until((site / "asked").exists, 20)
    with serving(site):
        git(site, "config", "--replace-all", "piehole.etcd", "http://127.0.0.1:1")
        (site / "go").touch()
        accepted(finish(pushing))
    assert world.history() == [first, second]


def test_who_pushes_is_known_also_where_a_controller_falls_silent_at_the_first_question(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    forget_records(site)

    with stub(site, silent, foresees=False):
        accepted(push(work, site, "HEAD:main", env={"REMOTE_USER": "somebody"}))
    assert world.history() == [first, second]
    assert list(world.pushes().values())[-1]["pusher"] == "somebody"
    (record,) = inflight.records(str(site))
    assert record.waited >= controller_socket.HERE_TIMEOUT


def test_somebody_else_s_record_names_no_helper(world: Group) -> None:
    """In a shared repository others can write the folder of the records."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another account")
    site, work, first = world.founded()
    forget_records(site)
    chain(
        site,
        "update",
        'set -- "$@"; for one in piehole/inflight/*; do sed -i "s/^helper .*/helper 1 0 0/" $one; chown 12345 $one; done\n'
        'exec "$piehole" "$@"',
    )
    second = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]


def test_no_other_account_can_ask_the_helper(world: Group) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another account")
    site, work, _ = world.founded()
    forget_records(site)
    commit(work)
    with stub(site, lambda _: None) as controller:
        pushing = start_push(work, site, "HEAD:main")
        controller.wait_for("admit")
        pipes = [Path(f"/proc/{helper_of(site)}/fd/{end}") for end in (helper.REQUESTS, helper.ANSWERS)]
        assert all(pipe.exists() for pipe in pipes)
        script = f"for one in {' '.join(map(str, pipes))}; do (: <$one) || (: >$one) || echo closed; done"
        tried = ["setpriv", "--reuid=12345", "--clear-groups", "sh", "-c", script]
        assert subprocess.run(tried, capture_output=True, text=True, check=False).stdout == "closed\nclosed\n"
    accepted(finish(pushing))


def test_processes_of_a_push_are_found(world: Group) -> None:
    """What the other tests kill is there."""
    site, work, _ = world.founded()
    forget_records(site)
    commit(work)
    with stub(site, lambda _: None) as controller:
        pushing = start_push(work, site, "HEAD:main")
        line = controller.wait_for("admit")
        assert line.hook in deciding(site, receive_pack(site))
        assert helper_of(site) in deciding(site, receive_pack(site))
    accepted(finish(pushing))
    assert not list(inflight.records(str(site / "nowhere")))


def begin_push(site: Path, work: Path, *refspecs: str) -> tuple[subprocess.Popen[str], Path]:
    """A push whose first `update` waits for the file `go`, and what says that its helper lets all commands pass."""
    forget_records(site)
    chain(site, "update", 'touch asked; until [ -e go ]; do sleep 0.02; done\nexec "$piehole" "$@"')
    pushing = start_push(work, site, *refspecs)
    until((site / "asked").exists, 20)
    return pushing, Path(f"/proc/{helper_of(site)}/fd/{helper.PASSED}")


def decided(site: Path) -> bool:
    """Whether the push's helper knows what may pass, and waits for the hooks: it looks at the receive-pack only then."""
    process = Path(f"/proc/{helper_of(site)}")
    looks = any(os.readlink(one) == "anon_inode:[pidfd]" for one in (process / "fd").iterdir())
    return looks and (process / "stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_pre_receive_does_not_wait_for_what_is_foreseen(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    forget_records(site)
    chain(site, "update", 'touch asked\nexec "$piehole" "$@"')
    seen: list[bool] = []

    def talk(line: Line) -> None:
        if line.question[0] == "foresee":
            line.say(*hook_messages.pack_here(30))
            seen.append(until((site / "asked").exists, 10))
            line.say("foreseen", "later")

    with stub(site, talk, foresees=False):
        accepted(push(work, site, "HEAD:main"))
    assert seen == [True]
    assert world.history() == [first, second]


def test_as_many_answers_as_there_are_questions_are_believed(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")

    def talk(line: Line) -> None:
        if line.question[0] == "foresee":
            line.say(*hook_messages.pack_here(30))
            line.say("foreseen", "free", "free")

    with stub(site, talk, foresees=False):
        accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]


def test_update_asks_nothing_where_all_commands_have_passed(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    with serving(site):
        pushing, passed = begin_push(site, work, "HEAD:main", "HEAD:side")
        until(passed.exists, 20)
        os.kill(helper_of(site), 19)
        (site / "go").touch()
        until((site / f"{MAIN}.lock").exists, 20)
        os.kill(helper_of(site), 18)
        accepted(finish(pushing))
    assert world.history() == [first, second]
    assert refs(site) == {MAIN: second, "refs/heads/side": second}


def test_what_passed_too_long_ago_has_to_ask_and_is_refused_by_itself(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    with serving(site):
        pushing, passed = begin_push(site, work, "HEAD:main", "HEAD:side")
        until(passed.exists, 20)
        until(lambda: not passed.exists(), 20)
        world.etcd.put(world.key(MAIN), "frozen")
        (site / "go").touch()
        assert "locked" in refused(finish(pushing), "locked")
    assert refs(site) == {MAIN: first, "refs/heads/side": second}


def test_nothing_passes_where_one_command_may_not(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    world.etcd.put(world.key(MAIN), "frozen")
    with serving(site):
        pushing, passed = begin_push(site, work, "HEAD:main", "HEAD:side")
        until(lambda: decided(site), 20)
        assert not passed.exists()
        (site / "go").touch()
        assert "locked" in refused(finish(pushing), "locked")
    assert refs(site) == {MAIN: first, "refs/heads/side": second}


@pytest.mark.parametrize("chained", [False, True])
def test_nothing_passes_where_somebody_else_s_hook_has_the_gate(world: Group, chained: bool) -> None:
    site, work, first = world.founded()
    second = commit(work, "second")
    if chained:
        chain(site, "reference-transaction", '"$piehole" "$@"\nexit $?')
    else:
        write_hook(site, "reference-transaction", "#!/bin/sh\ncat >/dev/null\nexit 0\n")
    with serving(site):
        pushing, passed = begin_push(site, work, "HEAD:main")
        until(lambda: decided(site), 20)
        assert not passed.exists()
        (site / "go").touch()
        done = finish(pushing)
    if chained:
        accepted(done)
        assert world.history() == [first, second]
    else:
        refused(done, "no-access")
        assert refs(site) == {MAIN: first}
        assert world.history() == [first]


def test_nothing_passes_a_gate_that_is_gone(world: Group) -> None:
    site, work, first = world.founded()
    commit(work, "second")
    with serving(site):
        pushing, passed = begin_push(site, work, "HEAD:main")
        until(passed.exists, 20)
        (site / "hooks" / "reference-transaction").chmod(0o644)
        (site / "go").touch()
        refused(finish(pushing), "no-access")
    assert refs(site) == {MAIN: first}
    assert world.history() == [first]
