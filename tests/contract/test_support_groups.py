"""What the bed promises: its assertions fail when they should, and a command runs the program that its environment names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fault.tree import Tree
from tests.support.assertions import Pushed, accepted, arrives, refused
from tests.support.command_line import piehole, start_piehole
from tests.support.git import MAIN, commit, push
from tests.support.groups import MakeGroup
from tests.support.wait import until


def pushed(status: int, said: str) -> Pushed:
    return subprocess.CompletedProcess(["git", "push"], status, "", said)


@pytest.mark.parametrize("start", ["", "remote: "])
def test_refused_returns_the_sentence_after_its_token(start: str) -> None:
    said = f"remote: something else\n{start}piehole: stale: fetch first   \nerror: failed to push\n"
    assert refused(pushed(1, said), "stale") == "fetch first"


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, "piehole: stale: x\n"), (1, "piehole: locked: x\n"), (1, "no piehole: stale: x\n"), (1, "")],
    ids=["accepted", "another token", "not at the start", "nothing"],
)
def test_refused_fails_where_the_push_was_not_refused_with_this_token(status: int, said: str) -> None:
    with pytest.raises(AssertionError):
        refused(pushed(status, said), "stale")


def test_accepted_fails_with_what_a_refused_push_has_said() -> None:
    with pytest.raises(AssertionError, match="the reason"):
        accepted(pushed(1, "the reason"))


def test_unchanged_fails_on_a_push_and_on_a_ref_that_is_moved_by_hand(make_group: MakeGroup) -> None:
    group = make_group(0)
    site, work, first = group.founded()
    with group.unchanged(site):
        assert push(work, site, "HEAD:main").returncode == 0  # everything up to date
    with pytest.raises(AssertionError), group.unchanged():
        commit(work)
        accepted(push(work, site, "HEAD:main"))
    with pytest.raises(AssertionError), group.unchanged(site):
        group["a"].move("refs/heads/by-hand", first)


def test_arrives_fails_where_a_site_does_not_have_it(make_group: MakeGroup) -> None:
    group = make_group(0)
    _, _, first = group.founded()
    group["b"].build()
    arrives([group["a"]], MAIN, first)
    arrives([group["b"]], MAIN, "")
    with pytest.raises(AssertionError, match="at b"):
        arrives(group, MAIN, first, timeout=0)


def test_a_site_that_is_asked_for_by_name_is_added_once(make_group: MakeGroup) -> None:
    group = make_group(1, started=False)
    assert group["a"] is group[0]
    assert group["b"] is group["b"]
    assert [str(site) for site in group] == ["a", "b"]


def test_the_program_that_pythonpath_names_is_run(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree").append("piehole/cli/__init__.py", "def main():\n    print('changed')\n")
    environment = tree.environment(os.environ)
    assert piehole("--help", env=environment).out == "changed\n"
    assert piehole("--help").out.startswith("usage: piehole")
    process = start_piehole(["--help"], tmp_path / "log", environment)
    until(lambda: not process.alive)
    assert process.tail() == "changed"
    process = start_piehole(["--help"], tmp_path / "other-log", os.environ)
    until(lambda: not process.alive)
    assert process.tail(100).startswith("usage: piehole")
