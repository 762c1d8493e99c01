"""`piehole status` as a person sees it, at a terminal."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from piehole.cli.tables import width
from tests.cli.terminal import Terminal
from tests.support.command_line import piehole
from tests.support.etcd import EtcdProcess
from tests.support.git import git
from tests.support.groups import Group
from tests.support.hook_socket import serving

_COLOUR = re.compile(r"\x1b\[\d*m")


@pytest.fixture(autouse=True)
def answering(pair: Group) -> Iterator[None]:
    with pair.answering():
        yield


def shown(*arguments: object, columns: int = 100, env: dict[str, str] | None = None) -> tuple[str, list[str]]:
    """What a terminal gets, and its lines without colours."""
    with Terminal("status", *map(str, arguments), columns=columns, env=env) as terminal:
        terminal.end()
        return terminal.shown, _COLOUR.sub("", terminal.shown).splitlines()


def behind(pair: Group) -> None:
    pair.commit("two")
    pair.push("a", "HEAD:refs/heads/main", "HEAD:refs/heads/next")
    pair.reconcile("a")


def test_the_sites_of_a_repository_are_a_table_worst_first_with_lag_in_seconds_and_a_summary(pair: Group) -> None:
    behind(pair)
    _, lines = shown("-C", pair["a"].repository)
    head = next(number for number, line in enumerate(lines) if line.startswith("SITE"))
    assert re.match(r"b +behind +\d+ s +2 refs ", lines[head + 1])
    assert re.match(r"a \(this site\) +in step +0 s ", lines[head + 2])
    assert lines[-1] == "2 sites: 1 in step, 1 behind"


def test_a_site_that_is_behind_here_has_a_lag_as_well(pair: Group) -> None:
    behind(pair)
    _, lines = shown("-C", pair["b"].repository)
    row = next(line for line in lines if line.startswith("b (this site)"))
    assert re.search(r"behind +\d+ s +2 refs", row)
    found = piehole("status", "-C", pair["b"].repository, "--json").json["repositories"][0]["sites"]
    assert 0 <= next(one["seconds"] for one in found if one["this"]) < 100


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_are_left_out_where_they_are_not_wanted(pair: Group, env: dict[str, str]) -> None:
    raw, lines = shown("-C", pair["a"].repository, env=env)
    assert "\x1b" not in raw
    assert any(line.startswith("SITE") for line in lines)
    assert "\x1b[32m" in shown("-C", pair["a"].repository, env={"NO_COLOR": ""})[0]


def test_without_a_terminal_the_lines_are_what_scripts_have_always_read(pair: Group) -> None:
    answer = piehole("status", "-C", pair["a"].repository)
    assert all(line.startswith(f"{pair['a'].repository}: ") for line in answer.out.splitlines())
    assert "\x1b" not in answer.out
    assert shown("-C", pair["a"].repository, "--format", "lines")[1] == answer.out.splitlines()
    assert "SITE" in piehole("status", "-C", pair["a"].repository, "--format", "table").out


def test_many_repositories_are_folded_into_counts_and_those_in_trouble_are_shown_first(pair: Group) -> None:
    a, root = pair["a"].repository, pair.folder / "many"
    config = (a / "config").read_text()
    with ExitStack() as served:
        for number in range(7):
            copy = root / f"r{number}.git"
            shutil.copytree(a, copy)
            (copy / "piehole" / "controller").unlink()
            (copy / "config").write_text(config.replace("group = g", "group = refs") if number == 3 else config)
            if number != 3:
                served.enter_context(serving(copy))
        _, lines = shown("--root", root)
        assert lines[0].startswith("REPOSITORY")
        assert re.match(r"r3.git +failed", lines[1])
        assert "6 in step, not listed (--all lists them)" in lines
        assert lines[-1] == "7 repositories: 6 in step, 1 failed"
        assert [line.split()[0] for line in shown("--root", root, "--all")[1] if re.match("r[0-9]", line)] == [
            "r3.git",
            *(f"r{number}.git" for number in (0, 1, 2, 4, 5, 6)),
        ]
        answer = piehole("status", "--root", root, "--json")
        failed = next(one for one in answer.json["repositories"] if one["error"])
        assert failed["repository"] == str(root / "r3.git")
        assert answer.status == 2


@pytest.mark.parametrize("columns", [40, 60])
def test_the_table_fits_into_a_narrow_window(pair: Group, columns: int) -> None:
    behind(pair)
    _, lines = shown("-C", pair["a"].repository, columns=columns)
    table = lines[lines.index("") :]
    assert max(map(width, table[:4])) <= columns


def test_hostile_names_cannot_write_to_the_terminal(pair: Group) -> None:
    main = pair["a"].at()
    for name in ("refs/heads/\u202eevil", "refs/heads/日本語", "refs/heads/\x9b2J", "refs/heads/cafe\u0301"):
        git(pair["a"].repository, "update-ref", name, main)
    raw, lines = shown("-C", pair["a"].repository)
    assert "\u202e" not in raw and "\x9b" not in raw
    assert "unadopted: refs/heads/\\u202eevil" in lines
    assert "unadopted: refs/heads/日本語" in lines


def test_lag_counts_from_the_first_change_that_a_site_lacks_though_the_same_ref_moves_again_and_again(
    pair: Group,
) -> None:
    behind(pair)
    before = piehole("log", "-C", pair["a"].repository, "main", "-n", "1", "--json").json["changes"][0]["time"]
    time.sleep(1.1)  # times in records are whole seconds
    for message in ("three", "four"):
        pair.commit(message)
        pair.push("a", "HEAD:refs/heads/main", "HEAD:refs/heads/next")
    for at in ("a", "b"):
        found = piehole("status", "-C", pair[at].repository, "--json").json["repositories"][0]["sites"]
        assert next(one["since"] for one in found if one["site"] == "b") == before


def test_sites_is_a_table_worst_first_with_lag_in_seconds_and_a_summary(pair: Group) -> None:
    behind(pair)
    with Terminal("sites", "-C", pair["a"].repository, columns=200, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
        lines = terminal.reads().splitlines()
    assert lines[0].split()[:4] == ["SITE", "STATE", "LAG", "REVISION"]
    assert re.match(r"b +behind +\d+ s ", lines[1])
    assert re.match(r"a \(this site\) +in step +0 s ", lines[2])
    assert lines[-1] == "2 sites: 1 behind, 1 in step"
    plain = piehole("sites", "-C", pair["a"].repository).out.splitlines()
    assert plain[0].startswith("* a  revision ")


def test_a_repository_costs_few_processes_and_requests(pair: Group, etcd: EtcdProcess, tmp_path: Path) -> None:
    counted, bin_folder = tmp_path / "counted", tmp_path / "bin"
    bin_folder.mkdir()
    wrapper = bin_folder / "git"
    wrapper.write_text(f'#!/bin/sh\necho x >>{counted}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    before = etcd.calls()
    assert piehole("status", "-C", pair["a"].repository, env=environment).status == 0
    assert len(counted.read_text().split()) <= 5, "find it, its settings, its tips, their history, its refs"
    asked = sum(etcd.calls().values()) - sum(before.values())
    assert asked <= 6, "the refs, the records, the sites, their signs of life"
