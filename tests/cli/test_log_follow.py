"""`piehole log` at a terminal, and `piehole log --follow`."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from piehole.group import ref_log
from tests.cli.terminal import Piped, Terminal
from tests.conftest import OwnEtcd
from tests.support.command_line import piehole
from tests.support.etcd import EtcdProcess
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until


@pytest.fixture
def member(own_etcd: OwnEtcd) -> EtcdProcess:
    return own_etcd()


@pytest.fixture
def alone(make_group: MakeGroup, member: EtcdProcess) -> Group:
    """One site on an etcd of its own, which may be stopped and compacted."""
    group = make_group(0, etcd=member)
    group.install("a")
    group.commit("one")
    group.push("a")
    return group


def agreed(group: Group) -> list[tuple[int, str]]:
    """What the group has agreed on, oldest first."""
    found = piehole("log", "-C", group["a"].repository, "--json").json["changes"]
    return [(one["revision"], one["ref"]) for one in reversed(found)]


def followed(piped: Piped) -> list[tuple[int, str]]:
    lines = [line for line in piped.text.splitlines() if line.startswith("{")]
    return [(one["revision"], one["ref"]) for one in map(json.loads, lines)]


def push(group: Group, *names: str) -> None:
    for name in names:
        group.commit(name)
        group.push("a", f"HEAD:refs/heads/{name}", "HEAD:refs/heads/main")


def test_a_terminal_shows_a_table_and_a_summary(pair: Group) -> None:
    with Terminal("log", "-C", pair["a"].repository, columns=140, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
        lines = terminal.reads().splitlines()
    assert lines[0].split() == ["REVISION", "TIME", "REF", "OLD", "NEW", "SITE", "PUSHER", "KIND", "PUSH"]
    assert re.search(rf"  main +nothing +{pair['a'].at()[:8]} .*  a +\S+ +push  ", lines[1])
    assert lines[-1] == "2 changes"


@pytest.mark.slow
def test_new_changes_appear_when_they_are_agreed_through_outages_each_once(
    alone: Group, member: EtcdProcess, tmp_path: Path
) -> None:
    with Piped(tmp_path / "log", "log", "-C", alone["a"].repository, "--follow", "--json") as piped:
        until(lambda: followed(piped) == agreed(alone), 30, "it begins with what there is")
        push(alone, "two")
        until(lambda: followed(piped) == agreed(alone), 30, "it shows what is pushed")
        member.kill()
        until(lambda: "No etcd endpoint answered" in piped.text or "was lost" in piped.text, 30, "it says so")
        member.start()
        push(alone, "three", "four")
        until(lambda: followed(piped) == agreed(alone), 30, "it goes on where it was")
        assert "etcd answers again" in piped.text
        member.pause()
        until(lambda: piped.text.count("shown when it answers again") == 2, 60, "it sees that etcd hangs")
        member.resume()
        push(alone, "five")
        until(lambda: followed(piped) == agreed(alone), 30, "and goes on")
        assert len(set(followed(piped))) == len(followed(piped))
        piped.process.send_signal(signal.SIGINT)
        assert piped.process.wait(10) == 130
        assert "Traceback" not in piped.text


@pytest.mark.slow
def test_what_etcd_compacted_during_an_outage_comes_from_the_local_log(
    alone: Group, member: EtcdProcess, tmp_path: Path
) -> None:
    a = alone["a"]
    a.start()
    with Piped(tmp_path / "log", "log", "-C", a.repository, "--follow", "--json") as piped:
        until(lambda: followed(piped) == agreed(alone), 30, "it begins with what there is")
        first = followed(piped)
        piped.process.send_signal(signal.SIGSTOP)
        member.kill()  # else its connection would have what follows already
        member.start()
        push(alone, "two", "three")
        until(
            lambda: any(one.ref == "refs/heads/three" for one in ref_log.read(a.repository)), 30, "the local log has it"
        )
        alone.etcd.compact(alone.etcd.revision())
        push(alone, "four")
        piped.process.send_signal(signal.SIGCONT)
        new = [one for one in agreed(alone) if one > first[-1]]
        assert len(new) == 6
        until(lambda: followed(piped) == first + new, 60, "nothing is left out")


def test_a_ref_is_followed_alone_and_columns_stay_in_place(pair: Group) -> None:
    with Terminal("log", "-C", pair["a"].repository, "main", "-f", columns=140, env={"NO_COLOR": "1"}) as terminal:
        terminal.sees("PUSH\r\n")
        push(pair, "two")
        terminal.sees(f"main  {pair['a'].at('main~1')[:8]}  {pair['a'].at()[:8]}  a ")
        assert " two " not in terminal.reads()
        terminal.presses("\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown
