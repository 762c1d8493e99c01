"""`--dry-run` says what would change and changes nothing, and what is hard to undo is asked about."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piehole.cli.parser import COMMANDS
from tests.cli.terminal import Terminal
from tests.support.command_line import piehole
from tests.support.git import MAIN, git, make_bare
from tests.support.groups import Group

TOPIC = "refs/heads/topic"


def state(group: Group) -> tuple[object, ...]:
    """Every key of the group in etcd with its revision, and every file of every repository."""
    files = {path: path.is_file() and path.read_bytes() for path in sorted(group.folder.rglob("*"))}
    return group.etcd.look_prefix(f"{group.prefix}/"), files


def site(group: Group, name: str = "a") -> Path:
    return group[name].repository


@pytest.fixture
def uneven(pair: Group) -> Group:
    """Of two sites the first is ahead: main has moved, topic was deleted, another branch came and went, one was made without a push."""
    pair.commit("on topic")
    git(pair.work, "tag", "tip")
    pair.push("a", f"HEAD:{TOPIC}")
    pair.reconcile("b")
    pair.push("a", f":{TOPIC}")
    pair.commit("only at a")
    pair.push("a", "HEAD:refs/heads/brief")
    pair.push("a", ":refs/heads/brief")
    pair.commit("two", onto=pair["a"].at())
    pair.push("a", f"HEAD:{MAIN}")
    git(site(pair), "update-ref", "refs/heads/alone", MAIN)
    make_bare(pair.folder / "new.git")
    git(pair.folder / "new.git", "fetch", "-q", str(site(pair)), f"{MAIN}:refs/heads/theirs")
    return pair


def went_back(group: Group) -> None:
    """etcd does not remember what this site has published."""
    site(group).joinpath("piehole/state.json").write_text("damaged")


def damaged(group: Group) -> None:
    (loose,) = (one for one in (site(group) / "objects").glob("??/*") if one.parent.name + one.name == group["a"].at())
    loose.chmod(0o644)
    loose.write_bytes(b"damaged")


def install(group: Group, *options: str) -> tuple[str | Path, ...]:
    given = {"group": "g", "site": "c", "url": "/c", "etcd": group.etcd.endpoint, "prefix": group.prefix}
    return (
        "install",
        group.folder / "new.git",
        *(w for name, value in given.items() for w in (f"--{name}", value)),
        *options,
    )


Command = Callable[[Group], tuple[str | Path, ...]]

# Each change: the command, what it says, and its exit status.
CHANGES: dict[str, tuple[Command, str, int]] = {
    "install": (install, "would register the site 'c'", 0),
    "install, hooks": (install, "hooks/update", 0),
    "install --adopt": (lambda g: install(g, "--adopt"), "would adopt refs/heads/theirs", 0),
    "install, again": (lambda g: ("install", site(g), "--url", "/elsewhere"), "would set piehole.url = /elsewhere", 0),
    "install --replace": (lambda g: install(g, "--site", "b", "--replace"), "would register the site 'b'", 0),
    "uninstall": (lambda g: ("uninstall", site(g)), "the site 'a' would leave the group 'g'", 0),
    "uninstall --local": (
        lambda g: ("uninstall", "--local", site(g)),
        "would remove piehole.* from its configuration",
        0,
    ),
    "leave": (lambda g: ("leave", site(g)), "would let the site 'a' leave the group 'g'", 0),
    "leave --site": (lambda g: ("leave", site(g), "--site", "b"), "would let the site 'b' leave", 0),
    "leave --site nobody": (lambda g: ("leave", site(g), "--site", "nobody"), "has no site 'nobody'", 1),
    "rename": (lambda g: ("rename", "other", "-C", site(g)), "would be opened with the 1 ref of 'g'", 0),
    "clobber": (lambda g: ("clobber", "-C", site(g)), "refs/heads/alone: no opinion -> ", 0),
    "clobber REF": (lambda g: ("clobber", "main", "-C", site(g, "b")), "would change 1 of the group's values", 0),
    "clobber --newest": (lambda g: ("clobber", "--newest", "-C", site(g, "b")), "a dry run fetches nothing", 1),
    "accept": (lambda g: ("accept", site(g)), "would follow etcd as it is", 0),
    "reconcile": (lambda g: ("reconcile", "--once", site(g, "b")), "would move 2 refs", 1),
    "kept restore": (lambda g: ("kept", "restore", tip(g), "-C", site(g)), "would change 1 of the group's values", 0),
    "kept restore --since": (
        lambda g: ("kept", "restore", "--since", "1h", "-C", site(g, "b")),
        "a dry run fetches nothing",
        1,
    ),
    "kept drop": (lambda g: ("kept", "drop", tip(g), "-C", site(g)), "nothing was changed (--dry-run)", 0),
    "group set head": (lambda g: ("group", "set", "head", "main", "-C", site(g)), "nothing to change", 0),
    "group set copies": (lambda g: ("group", "set", "copies", "1", "-C", site(g)), "nothing to change", 0),
    "group set copiesElse": (lambda g: ("group", "set", "copiesElse", "warn", "-C", site(g)), "refuse -> warn", 0),
    "group rename": (lambda g: ("group", "rename", "other", "-C", site(g)), "would rename the group to 'other'", 0),
    "audit --repair": (lambda g: ("audit", "--deep", "--repair", site(g)), "would be fetched from other sites", 1),
}
BEFORE = {"accept": went_back, "audit --repair": damaged}


def tip(group: Group) -> str:
    return git(group.work, "rev-parse", "tip").stdout.strip()


@pytest.mark.slow
def test_nothing_changes(uneven: Group) -> None:
    for change in sorted(CHANGES, key=lambda change: change in BEFORE):
        command, words, status = CHANGES[change]
        BEFORE.get(change, lambda _group: None)(uneven)
        arguments = command(uneven)
        before = state(uneven)
        answer = piehole(*arguments, "--dry-run")
        assert (answer.status, words in answer.out + answer.err) == (status, True), (change, answer)
        assert state(uneven) == before, change
        done = ("nothing was changed (--dry-run)", "nothing to change")
        assert status or any(word in answer.out for word in done), (change, answer)


def test_every_command_that_changes_something_can_say_what() -> None:
    changing = {name.split()[0].strip(",") for name in CHANGES} | {"setup"}  # tests/servers/test_setup.py
    dry = {name for name, one in COMMANDS.items() if any("--dry-run" in options for options in _options(one.parser()))}
    assert dry == changing


def _options(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    for action in parser._actions:
        yield list(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _options(one)


# ---- the question

# What each command asks at a terminal, and the exit status where nobody can be asked.
ASKED: dict[str, tuple[Command, str, int]] = {
    "leave": (lambda g: ("leave", site(g, "b")), "Let the site 'b' leave the group 'g'?", 1),
    "leave --site": (lambda g: ("leave", site(g), "--site", "b"), "Let the site 'b' leave the group 'g'?", 0),
    "uninstall": (lambda g: ("uninstall", "--local", site(g)), "out of its group?", 0),
    "install --replace": (lambda g: install(g, "--site", "b", "--replace"), "Take the name of this site away", 0),
    "rename": (lambda g: ("rename", "other", "-C", site(g)), "Close the group 'g' for all sites", 1),
    "clobber": (lambda g: ("clobber", "-C", site(g)), "of the group's values?", 1),
    "kept restore": (lambda g: ("kept", "restore", tip(g), "-C", site(g)), "of the group's values?", 1),
    "kept drop": (lambda g: ("kept", "drop", tip(g), "-C", site(g), "--wait", "0"), "at every site, for good?", 1),
    "accept": (lambda g: ("accept", site(g)), "Follow etcd as it is?", 1),
}


@pytest.mark.slow
def test_what_is_hard_to_undo_is_asked_about(uneven: Group) -> None:
    for command in sorted(ASKED, key=lambda command: command in BEFORE):
        made, question, status = ASKED[command]
        BEFORE.get(command, lambda _group: None)(uneven)
        before = state(uneven)
        with Terminal(*made(uneven)) as terminal:
            terminal.sees(question)
            terminal.types("n")
            assert terminal.end() == 1
            assert "nothing was changed" in terminal.shown, command
        assert state(uneven) == before, command
        if status:
            answer = piehole(*made(uneven))
            assert (answer.status, "--yes" in answer.err) == (status, True), (command, answer)
            assert state(uneven) == before, command


def test_where_nobody_can_be_asked_documented_scripts_go_on(uneven: Group) -> None:
    for command, (made, _, status) in ASKED.items():
        if not status:
            before = state(uneven)
            answer = piehole(*made(uneven))
            assert answer.status == 0, (command, answer)
            assert state(uneven) != before, command
