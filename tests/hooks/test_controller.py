"""A hook and whoever answers on the socket: the real server, one that lies, one that falls silent."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, sleep

import pytest

from piehole.deadline import Deadline
from piehole.fastpath import controller_socket, hook_messages
from piehole.group.replica import Replica
from piehole.push import hook_protocol
from piehole.push.admission import Admission
from piehole.push.consensus_source import LinearizableSource
from piehole.repository.hook_files import HOOKS
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN, ZERO_SHA1, commit, git, push, refs
from tests.support.groups import Group
from tests.support.hook_socket import Line, serving, stub
from tests.support.pushes import records, write_hook

SNAPSHOT = "[1,1,1,0,[],1]"


def agreeable(line: Line) -> None:
    """Says yes to everything."""
    line.say(*hook_messages.pack_here(8))
    line.say(f"take {SNAPSHOT}" if line.question[0] == "admit" else "accepted 7")


def silent(line: Line) -> None:
    """Takes the question and never says a word."""


def test_the_controller_s_answers_count(world: Group) -> None:
    site, work, first = world.founded()
    with serving(site):
        git(
            site, "config", "--replace-all", "piehole.etcd", "http://127.0.0.1:1"
        )  # for hooks that would ask themselves
        second = commit(work, "second")
        accepted(push(work, site, "HEAD:main"))
        assert world.history() == [first, second]
        world.etcd.put(world.key(MAIN), "frozen")
        commit(work)
        refused(push(work, site, "HEAD:main"), "locked")


@pytest.mark.parametrize("what", ["no socket", "a stale pointer", "a pointer to nothing that could be a socket"])
def test_without_a_controller_the_hook_decides_itself(world: Group, what: str, tmp_path: Path) -> None:
    site, work, first = world.founded()
    pointers = {"no socket": str(tmp_path / "gone"), "a stale pointer": str(work / ".git" / "HEAD")}
    (site / controller_socket.POINTER).write_text(pointers.get(what, "x" * 300) + "\n")
    second = commit(work)
    accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]


def test_a_controller_that_does_not_say_here_within_a_second_is_not_waited_for(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work)
    with stub(site, silent) as controller:
        began = monotonic()
        accepted(push(work, site, "HEAD:main"))
        assert monotonic() - began > controller_socket.HERE_TIMEOUT
        # Once it has been silent, the same push does not wait for it again.
        assert [line.question[0] for line in controller.lines] == ["admit"]
    assert world.history() == [first, second]


def test_a_controller_that_falls_silent_leaves_the_hook_time_to_ask_itself(world: Group) -> None:
    site, work, first = world.founded()
    git(site, "config", "piehole.hookTimeout", "5")
    second = commit(work)
    with stub(site, lambda line: line.say(*hook_messages.pack_here(2)) if line.question[0] == "propose" else None):
        began = monotonic()
        accepted(push(work, site, "HEAD:main"))
        assert monotonic() - began < 20
    assert world.history() == [first, second]


def test_what_a_silent_controller_has_done_already_is_recognised(world: Group) -> None:
    """It performed the swap, then nobody heard its answer: the hook finds the push's own id in the group."""
    site, work, first = world.founded()
    replica = Replica.open(site)
    admission = Admission(replica, LinearizableSource(replica, lambda: None))

    def deaf(line: Line) -> None:
        question = hook_protocol.parse(line.question)
        answered = hook_protocol.answer(question, admission, Deadline(5), lambda: True)
        assert answered
        if question.kind == "admit":
            line.say(*hook_messages.pack_here(5))
            line.say(*answered.pack())

    second = commit(work)
    with stub(site, deaf):
        accepted(push(work, site, "HEAD:main"))
    assert world.history() == [first, second]
    assert refs(site)[MAIN] == second


def test_unknown_where_a_controller_took_the_proposal_and_the_hook_cannot_ask_itself(world: Group) -> None:
    """Nobody may say "refused" while a controller that fell silent could still carry the proposal out."""
    site, work, _ = world.founded()
    git(site, "config", "piehole.etcdUser", "piehole")
    git(site, "config", "piehole.etcdPasswordFile", "/nowhere")
    commit(work)
    with stub(site, lambda line: agreeable(line) if line.question[0] == "admit" else None):
        said = refused(push(work, site, "HEAD:main"), "unknown")
    assert "look (`git fetch`) before pushing again" in said


def test_what_the_controller_gets_is_what_was_waited(world: Group) -> None:
    site, work, _ = world.founded()
    commit(work)

    def slow(line: Line) -> None:
        if line.question[0] == "admit":
            sleep(0.9)
        agreeable(line)

    with stub(site, slow) as controller:
        accepted(push(work, site, "HEAD:main"))
        waited = [float(line.question[3].removeprefix("waited ")) for line in controller.lines]
    assert waited[0] == 0
    assert 0.9 <= waited[1] < 0.9 + 2


def test_a_question_tells_of_the_push_as_the_protocol_has_it(world: Group) -> None:
    site, work, first = world.founded()
    second = commit(work)
    with stub(site, agreeable) as controller:
        accepted(push(work, site, "HEAD:main", "HEAD:side"))
    # git 2.49 and older propose one ref after the other, newer ones both together.
    admit, propose = (controller.wait_for(kind).question for kind in ("admit", "propose"))
    assert admit[:2] == ["admit", f"repository {site}"]
    assert admit[5].startswith("pusher ")
    assert admit[6] == f"command {MAIN} {first} {second}"
    assert propose[0] == "propose"
    assert f"want {MAIN} {first} {second} {SNAPSHOT}" in propose
    assert "earlier" not in propose
    assert {line.question[2] for line in controller.lines} == {admit[2]}
    assert admit[2] == propose[2]
    (foresee,) = (line.question for line in controller.foreseen)
    assert foresee[:2] == ["foresee", f"repository {site}"]
    assert foresee[2] == admit[2]
    assert foresee[4:] == [f"command {MAIN} {first} {second}", f"command refs/heads/side {ZERO_SHA1} {second}"]


def test_a_record_that_vanished_after_the_swap_is_no_veto(world: Group) -> None:
    """What is noted after the group has taken a push is for people."""
    site, work, _ = world.founded()

    def forgetful(line: Line) -> None:
        if line.question[0] == "propose":
            for record in records(site):
                record.unlink()
        agreeable(line)

    tip = commit(work)
    with stub(site, forgetful):
        accepted(push(work, site, "HEAD:main"))
    assert refs(site)[MAIN] == tip


def test_an_answer_that_makes_no_sense_moves_nothing(world: Group) -> None:
    site, work, first = world.founded()

    def raving(line: Line) -> None:
        line.say(*hook_messages.pack_here(8))
        line.say(f"take {SNAPSHOT}" if line.question[0] == "admit" else "perhaps")

    commit(work)
    with stub(site, raving):
        refused(push(work, site, "HEAD:main"), "unknown")
    assert world.refs() == {MAIN: first}
    assert refs(site)[MAIN] == first


def test_another_account_s_controller_is_not_believed(world: Group) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a repository to another account")
    site, work, first = world.founded()
    second = commit(work)
    with stub(site, agreeable) as impostor:
        os.chown(site, 12345, -1)
        accepted(push(work, site, "HEAD:main"))
        os.chown(site, 0, -1)
        assert not impostor.lines
    assert world.history() == [first, second]


HEAVY = (
    "etcd3gw",
    "requests",
    "structlog",
    "dulwich",
    "tenacity",
    "json",
    "socket",
    "dataclasses",
    "typing",
    "subprocess",
    "re",
)


def test_the_fast_path_imports_nothing_heavy_while_a_controller_answers(world: Group, tmp_path: Path) -> None:
    site, work, _ = world.founded()
    for name in HOOKS:
        path = site / "hooks" / name
        script = path.read_text().replace(" -I -S ", " -I -S -X importtime ")
        assert "importtime" in script
        write_hook(site, name, script.rstrip() + f" 2>>{tmp_path / 'imports'}\n")
    commit(work)
    with stub(site, agreeable):
        accepted(push(work, site, "HEAD:main"))
    told = [line for line in (tmp_path / "imports").read_text().splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in told}
    assert {
        "hooks.push_hooks",
        "hooks.helper",
        "piehole.fastpath.controller_socket",
        "piehole.fastpath.inflight",
        "piehole.fastpath.processes",
    } <= imported
    assert not [name for name in imported if name.partition(".")[0] in HEAVY]
    assert "hooks.direct" not in imported
