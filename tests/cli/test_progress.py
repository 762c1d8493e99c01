"""What commands show of long work: a line of a terminal that is gone in the end, and elsewhere a line now and then."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from piehole.cli.progress_line import fitted, words
from piehole.long_work import BYTES, WorkStep
from tests.cli.settings import living
from tests.cli.terminal import Terminal
from tests.cli.test_drop import secret
from tests.cli.test_kept import TOPIC, deleted
from tests.field.test_audit_of_objects import a_pack
from tests.field.test_corrupt_copies import two
from tests.support.git import git
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until


def patched(what: str) -> tuple[str, ...]:
    """A ``piehole`` with other times."""
    return (
        sys.executable,
        "-c",
        f"from piehole import long_work; from piehole.cli import main, progress_line; {what}; main()",
    )


# Shows everything that it does, as if that had taken long.
AT_ONCE = patched("progress_line.AFTER = progress_line.REDRAW = 0")
EACH = patched("long_work.EVERY = 0")


def rest(printed: str) -> list[str]:
    """The lines that a terminal shows in the end, where each was erased before it was written anew."""
    return [line.rpartition("\x1b[K")[2].strip("\r") for line in printed.split("\r\n")]


def shows(parts: Sequence[str], *arguments: str | Path, columns: int = 100) -> list[str]:
    """Run the command, see these parts of its line one after the other, and return what it leaves on the terminal."""
    with Terminal(*arguments, columns=columns, program=AT_ONCE) as terminal:
        for part in parts:
            terminal.sees(part)
        assert terminal.end() == 0
        return rest(terminal.reads())


def many(repository: Path, oid: str, count: int = 200) -> None:
    lines = "".join(f"create refs/heads/many/{number} {oid}\n" for number in range(count))
    git(repository, "update-ref", "--stdin", stdin=lines)


def test_install_shows_how_many_refs_are_adopted(world: Group) -> None:
    site = world["a"].make()
    oid = world.commit("one")
    git(world.work, "push", "-q", str(site.repository), "HEAD:refs/heads/main")
    many(site.repository, oid)
    settings = ("--group", "g", "--site", "a", "--url", site.url, "--prefix", world.prefix)
    parts = [
        "checking that everything that the refs need is here",
        "writing refs to etcd: 0 of 202 refs (0%)",
        "202 of 202 refs (100%)",
    ]
    left = shows(parts, "install", "-C", site.repository, *settings, "--etcd", ",".join(world.endpoints), "--adopt")
    assert left[0] == "adopted 201 refs of this repository"
    assert left[-2] == f"{site.repository} is the site 'a' of the group 'g'"


def test_reconcile_shows_the_fetch_and_the_moves(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    b = pair["b"].repository
    parts = [
        "comparing the refs with the group's",
        "fetching from a: ",
        "checking what came from",
        "moving refs: 0 of 1 refs (",
    ]
    left = shows(parts, "reconcile", "--once", b)
    assert left[-2].endswith(f"in step at revision {pair['b'].progress()}")
    assert all(line.startswith(str(b)) for line in left[:-1]), left


def test_an_audit_shows_the_proof_the_repair_and_the_comparison(make_group: MakeGroup) -> None:
    group, _ = two(make_group, started=False)
    b = group["b"].repository
    a_pack(b)
    parts = [
        "proving all objects: checksum of ",
        "%), ",
        "examining all objects",
        "fetching from a: ",
        "proving all objects: ",
        "comparing the sites: 2 of 2 sites (100%)",
    ]
    left = shows(parts, "audit", "--deep", "--repair", "-C", b)
    assert all(line.startswith(str(b)) for line in left[:-1]), left


def test_clobber_shows_how_many_refs_are_written(pair: Group) -> None:
    a = pair["a"].repository
    many(a, pair["a"].at())
    parts = [
        "checking that everything that the refs need is here",
        "comparing refs: ",
        "writing refs to etcd: 0 of 200 refs (0%)",
        "200 of 200 refs (100%)",
    ]
    left = shows(parts, "clobber", "-C", a, "--yes")
    assert left == ["changed 200 of the group's values; the other sites follow", ""]


def test_clobber_newest_shows_which_sites_were_asked(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    parts = [
        "asking the sites for their refs: 1 of 1 sites (100%)",
        "fetching from a: ",
        "comparing refs: 0 of 1 refs (0%)",
    ]
    left = shows(parts, "clobber", "--newest", "-C", pair["b"].repository, "--yes")
    assert left == ["nothing to change: the group has the newest that any site has", ""]


def test_kept_tips_show_how_they_are_brought_back(pair: Group) -> None:
    tip = deleted(pair)
    parts = ["checking that everything that the tips need is here", "writing refs to etcd: 0 of 1 refs (0%)"]
    left = shows(parts, "kept", "restore", "-C", pair["a"].repository, tip, "--yes")
    assert left == ["changed 1 of the group's values; the other sites follow", ""]
    assert pair.value(TOPIC) == tip


def test_kept_tips_show_who_is_waited_for_when_they_are_dropped(pair: Group) -> None:
    oid, _ = secret(pair, "a", "b")
    with Terminal(
        "kept", "drop", "-C", pair["a"].repository, oid, "--yes", "--wait", "60", columns=100, program=AT_ONCE
    ) as terminal:
        terminal.sees("removing them here")
        terminal.sees("waiting for the other sites: 1 of 2 answers (50%)")
        assert pair.reconcile("b").status == 0
        assert terminal.end() == 0
        assert [line[:23] for line in rest(terminal.reads())] == [
            f"{oid[:12]} a: dropped",
            f"{oid[:12]} b: dropped",
            "",
        ]


def test_raising_copies_shows_how_many_sites_are_there(pair: Group) -> None:
    living(pair, "a", "b")
    pair.commit("two")
    pair.push("a")
    pair.reconcile("a")
    words = ("group", "set", "copies", "2", "--wait", "60", "-C", pair["a"].repository)
    with Terminal(*words, columns=100, program=AT_ONCE) as terminal:
        terminal.sees("waiting for sites that have what was pushed before: 1 of 2 sites (50%)")
        assert pair.reconcile("b").status == 0
        assert terminal.end() == 0
        assert rest(terminal.reads()) == ["changed; every site follows", ""]


def test_a_line_is_drawn_after_half_a_second_and_gone_after_ctrl_c(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    with Terminal("wait", "-C", pair["a"].repository, "--sites", "all", columns=40) as terminal:
        terminal.sees("waiting: site b: it is at")
        terminal.sees("…, ")  # cut to the width, and drawn again while nothing is told
        terminal.presses("\x03")
        assert terminal.end() == 130
        assert rest(terminal.reads()) == [""]
        assert terminal.is_restored


@pytest.mark.parametrize("quiet", ["--json", "TERM=dumb", "quick", "pipe"])
def test_nothing_is_drawn_where_nobody_wants_a_line(pair: Group, quiet: str) -> None:
    words = ["audit", "-C", str(pair["b"].repository), *(["--json"] if quiet == "--json" else [])]
    piehole = AT_ONCE if quiet != "quick" else patched("progress_line.AFTER = 60")
    if quiet == "pipe":
        done = subprocess.run([*piehole, *words], capture_output=True, text=True, check=True, cwd="/")
        assert done.stderr == ""
        return
    with Terminal(*words, program=piehole, env={"TERM": "dumb"} if quiet == "TERM=dumb" else {}) as terminal:
        assert terminal.end() == 0
        assert "\x1b" not in terminal.reads()
        assert "comparing" not in terminal.reads()


def test_a_log_gets_a_line_now_and_then_beside_the_output(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    command = [*EACH, "reconcile", "--once", str(pair["b"].repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    told = done.stderr.splitlines()
    assert all(line.startswith("piehole: ") for line in told), told
    assert any(line.startswith("piehole: fetching from a: ") for line in told), told
    assert all(line.startswith(str(pair["b"].repository)) for line in done.stdout.splitlines())
    quiet = subprocess.run(
        [*EACH, "audit", "-C", command[-1], "--json"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert (quiet.stderr, json.loads(quiet.stdout)["in_sync"]) == ("", True)


def test_work_of_which_nothing_new_is_told_goes_on_being_shown(pair: Group) -> None:
    pair.commit("two")
    pair.push("a")
    log = pair.folder / "wait.log"
    command = [*patched("long_work.EVERY = 0.3"), "wait", "-C", str(pair["a"].repository), "--sites", "all"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd="/")
        try:
            until(
                lambda: log.read_text().count("piehole: waiting: site b: it is at revision ") > 2,
                30,
                "it says that it waits",
            )
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("step", "seconds", "shown"),
    [
        (("comparing", 0, 0, ""), 7.9, ("comparing", ", 7 s")),
        (("moving refs", 250, 1000, "refs"), 119, ("moving refs", ": 250 of 1000 refs (25%), 119 s")),
        (("fetching", 12_340_000, 0, BYTES), 300, ("fetching", ": 12.3 MB, 1.2 MB/s, 5 min")),
        (
            ("proving", 3_000_000_000, 2_000_000_000, BYTES),
            7500,
            ("proving", ": 3.0 GB of 2.0 GB (100%), 300.0 MB/s, 2 h 5 min"),
        ),
        (("fetching", 999, 0, BYTES), 1, ("fetching", ": 999 bytes, 99 bytes/s, 1 s")),
    ],
)
def test_words_say_how_far_how_quick_and_how_long(
    step: tuple[str, int, int, str], seconds: float, shown: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    assert words(WorkStep(*step, 0.0, 0), seconds) == shown


@pytest.mark.parametrize("most", [79, 30, 12, 1])
def test_a_line_has_room_in_any_terminal_whatever_a_peer_is_called(most: int) -> None:
    line = fitted("fetching from \x1b[2J\u202e漢字漢字漢字", ": 12.3 MB, 5 min", most)
    assert sum(2 if char in "漢字" else 1 for char in line) <= most
    assert "\x1b" not in line
    assert "\u202e" not in line
    if most >= 30:
        assert line.endswith(": 12.3 MB, 5 min")


def test_with_quiet_nothing_is_shown(world: Group) -> None:
    repository = world["a"].make().repository
    work = world.commit("one")
    git(world.work, "push", "-q", str(repository), "HEAD:main")
    many(repository, work)
    where = ("--group", "g", "--site", "a", "--url", repository, "--etcd", world.endpoints[0], "--prefix", world.prefix)
    with Terminal("install", "-C", repository, *where, "--quiet", columns=100, program=AT_ONCE) as terminal:
        assert terminal.end() == 0
        assert "\x1b[K" not in terminal.reads()
