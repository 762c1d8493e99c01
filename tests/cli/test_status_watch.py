"""`piehole status --watch`: in place at a terminal, a block after each change elsewhere."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from piehole.cli.tables import width
from tests.cli.terminal import Piped, Terminal
from tests.conftest import OwnEtcd
from tests.support.command_line import piehole
from tests.support.groups import Group
from tests.support.wait import until

_CONTROL = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
_FRAME = "\x1b[?2026h\x1b[H"


@pytest.fixture(autouse=True)
def answering(pair: Group) -> Iterator[None]:
    with pair.answering():
        yield


def frame(text: str) -> list[str]:
    """The lines of the last frame."""
    return _CONTROL.sub("", text.rpartition(_FRAME)[2].partition("\x1b[?2026l")[0]).split("\r\n")


def test_it_redraws_in_place_follows_the_window_and_gives_the_terminal_back_after_ctrl_c(pair: Group) -> None:
    with Terminal("status", "-C", pair["a"].repository, "--watch", columns=120) as terminal:
        terminal.sees("\x1b[?1049h")
        terminal.sees("2 sites: 2 in step")
        pair.commit("two")
        pair.push("a", "HEAD:refs/heads/main")
        terminal.sees("behind")
        terminal.sees(_FRAME)
        terminal.resize(44, 9)
        until(lambda: max(map(width, frame(terminal.reads()))) <= 43, 10, "it fits")
        terminal.sees("more lines; enlarge the window")
        until(lambda: "1 behind" in frame(terminal.reads())[-1], 10, "the summary stays in sight")
        assert len(frame(terminal.shown)) <= 9
        assert "\x1b[2J" not in terminal.shown, "nothing is erased before it is overwritten"
        assert not terminal.is_restored, "what is typed is not shown"
        terminal.presses("\x03")
        assert terminal.end() == 130
        assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")
        until(lambda: terminal.is_restored, 10, "the settings are those of before")
        assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back_when_it_is_ended_otherwise(pair: Group, number: signal.Signals) -> None:
    with Terminal("status", "-C", pair["a"].repository, "--watch") as terminal:
        terminal.sees("2 in step")
        terminal.signal(number)
        assert terminal.end() == 128 + number
        assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")
        assert terminal.is_restored


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(pair: Group) -> None:
    with Terminal("status", "-C", pair["a"].repository, "--watch") as terminal:
        terminal.sees("2 in step")
        terminal.presses("\x1a")
        terminal.sees("\x1b[?25h\x1b[?1049l")
        until(lambda: terminal.is_stopped, 10, "it is stopped")
        until(lambda: terminal.is_restored, 10, "the settings are those of before")
        terminal.signal(signal.SIGCONT)
        terminal.sees("\x1b[?1049h")
        terminal.sees("2 in step")


def test_ctrl_c_does_not_wait_for_an_etcd_that_hangs(pair: Group, own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    member.pause()
    with Terminal("status", "-C", pair["a"].repository, "--watch", "--etcd", member.endpoint) as terminal:
        terminal.sees("piehole status at …")
        terminal.sees(_FRAME)
        began = time.monotonic()
        terminal.presses("\x03")
        assert terminal.end() == 130
        assert time.monotonic() - began < 2


def test_without_a_terminal_a_new_block_is_printed_after_each_change_alone(pair: Group, tmp_path: Path) -> None:
    with Piped(tmp_path / "log", "status", "-C", pair["a"].repository, "--watch") as piped:
        until(lambda: "site b: in step" in piped.blocks()[0], 30, "the first block")
        time.sleep(3)  # more than one look, to show that nothing is printed
        assert len(piped.blocks()) == 1
        pair.commit("two")
        pair.push("a", "HEAD:refs/heads/main")
        until(lambda: "site b: behind by 1 ref" in piped.blocks()[-1], 30, "the change")
        assert "\x1b" not in "".join(piped.blocks())
        piped.process.send_signal(signal.SIGINT)
        assert piped.process.wait(10) == 130
        assert "Traceback" not in piped.blocks()[-1]


def test_with_json_each_change_is_one_object_on_one_line(pair: Group, tmp_path: Path) -> None:
    with Piped(tmp_path / "log", "status", "-C", pair["a"].repository, "--watch", "--json") as piped:
        until(lambda: piped.blocks()[0].endswith("}\n"), 30, "the first object")
        assert json.loads(piped.blocks()[0])["converged"] is True


def test_watching_and_waiting_exclude_each_other(pair: Group) -> None:
    answer = piehole("status", "-C", pair["a"].repository, "--watch", "--wait", "5")
    assert answer.status == 2
    assert "--watch" in answer.err
