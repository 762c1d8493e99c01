"""One form of REPO for all commands, and what they say where there is no repository."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from piehole.cli.parser import COMMANDS
from piehole.deadline import seconds
from tests.support.command_line import Answer, piehole, piehole_in_process
from tests.support.git import git, make_bare
from tests.support.groups import Group

# What each command is about. ONE: REPO or -C. SEVERAL: REPO…, -C, --root or piehole.root. OPTION: -C, since its arguments are others.
# SERVER: the same, and where there is no repository it is about the server.
ONE, SEVERAL, OPTION, SERVER, NONE = "REPO", "REPO…", "-C", "-C, or none", "none"
FORMS = {
    "install": ONE,
    "uninstall": ONE,
    "leave": ONE,
    "accept": ONE,
    "check": ONE,
    "sites": ONE,
    "status": SEVERAL,
    "audit": SEVERAL,
    "reconcile": SEVERAL,
    "rename": OPTION,
    "group": OPTION,
    "clobber": OPTION,
    "log": OPTION,
    "wait": OPTION,
    "kept": OPTION,
    "config": SERVER,
    "doctor": SERVER,
    "completion": NONE,
    "controller": NONE,
    "demo": NONE,
    "explain": NONE,
    "files": NONE,
    "setup": NONE,
    "upload-pack": NONE,
    "http-backend": NONE,
}
# Words that each command needs, with which it changes nothing.
WORDS = {
    "group": ("show",),
    "rename": ("other",),
    "reconcile": ("--once",),
    "wait": ("--timeout", "10"),
    "install": ("--site", "a b"),
    "leave": ("--site", "nobody"),
}
# The exit status of these, and what they say, where the repository is found.
FOUND = {
    "rename": (1, "no terminal"),
    "install": (2, "a b"),
    "leave": (1, "no site 'nobody'"),
    "check": (1, "fault"),  # no controller runs
    "status": (1, "site a"),
    "uninstall": (0, "piehole"),
}


def test_the_table_names_every_command() -> None:
    assert set(FORMS) == set(COMMANDS)


@pytest.mark.parametrize(
    "command", [name for name, form in FORMS.items() if form != NONE and name not in ("uninstall", "doctor")]
)
def test_every_form_of_repo_means_the_same(pair: Group, command: str) -> None:
    words = WORDS.get(command, ())
    site = pair["a"].repository
    forms: list[tuple[str | Path, ...]] = [("-C", site, command, *words), (command, "-C", site, *words)]
    forms += [(command, site, *words), (command, *words, "-C", site.parent, site.name)] * (
        FORMS[command] in (ONE, SEVERAL)
    )
    forms += [(command, "--root", site.parent, *words)] * (FORMS[command] == SEVERAL)
    for form in forms:
        _found(command, piehole(*form), form)
    _found(command, piehole(command, *words, cwd=site), (command, "in it"))
    if FORMS[command] == SEVERAL:
        git(site, "config", "--global", "piehole.root", str(site.parent))
        _found(command, piehole(command, *words), (command, "piehole.root"))
        both = piehole(command, site, pair["b"].repository, *words)
        _found(command, both, (command, "both"))
        assert str(pair["b"].repository) in both.out, both


def _found(command: str, answer: Answer, form: object) -> None:
    status, words = FOUND.get(command, (0, ""))
    assert (answer.status, words in answer.out + answer.err) == (status, True), (form, answer)


@pytest.mark.parametrize("command", [name for name, form in FORMS.items() if form not in (SERVER, NONE)])
def test_where_there_is_no_repository_the_message_says_how_to_name_one(tmp_path: Path, command: str) -> None:
    words = WORDS.get(command, ())
    nowhere = piehole(command, *words, cwd=tmp_path)
    assert nowhere.status == 1, nowhere
    assert f"{tmp_path} is no git repository. Name the repository with -C DIR" in nowhere.err
    assert ("as REPO" in nowhere.err) == (FORMS[command] != OPTION)
    assert ("--root DIR" in nowhere.err and "piehole.root" in nowhere.err) == (FORMS[command] == SEVERAL)
    assert "git init" not in nowhere.err
    (tmp_path / "file").touch()
    make_bare(tmp_path / "tools.git")
    git(tmp_path, "init", "-q", "tree")
    for name, said in (
        ("file", f"{tmp_path}/file is a file, not a repository"),
        ("tools", f"there is no folder {tmp_path}/tools. Did you mean {tmp_path}/tools.git?"),
        ("tree", "is not a bare repository"),
        ("", "an argument is empty"),
    ):
        answer = piehole(command, "-C", tmp_path / name if name else "", *words)
        assert (answer.status, said in answer.err) == (1 if name else 2, True), answer


@pytest.mark.parametrize("command", [name for name, form in FORMS.items() if form == SEVERAL])
def test_repositories_are_named_in_one_way(tmp_path: Path, command: str) -> None:
    words = WORDS.get(command, ())
    for arguments, said in (
        (("x.git", "--root", tmp_path), "either repositories (REPO) or --root DIR"),
        (("--root", tmp_path / "nowhere"), "there is no folder"),
        (("--root", tmp_path), "no repository with a piehole.group below"),
    ):
        answer = piehole(command, *arguments, *words)
        assert (answer.status, said in answer.err) == (2, True), (arguments, answer)


def test_what_this_account_may_not_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, who may read everything, nothing is closed: the system's answer is replayed."""
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir, access = os.scandir, os.access

    def refuse(folder: str) -> Iterator[os.DirEntry[str]]:
        if folder == str(closed):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    below = piehole_in_process("status", "--root", tmp_path)
    assert below.status == 2
    assert f"{closed} cannot be read by this account" in below.err
    at = piehole_in_process("log", "-C", closed)
    assert at.status == 1
    assert f"may not look into {closed}" in at.err


def test_install_advises_to_make_a_repository_only_where_one_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "full" / "of").mkdir(parents=True)
    (tmp_path / "file").touch()
    git(tmp_path, "init", "-q", "tree")
    for name, advised in (("new.git", True), ("full/of", True), ("full", False), ("file", False), ("tree", False)):
        answer = piehole("install", tmp_path / name)
        assert (answer.status, f"git init --bare {tmp_path / name}`" in answer.err) == (1, advised), answer


def test_all_missing_settings_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    site = make_bare(tmp_path / "bare.git")
    new = piehole("install", site)
    assert new.status == 2
    assert "piehole.group, piehole.site, piehole.url and piehole.etcd are not set" in new.err
    assert f"`piehole install {site} --group GROUP --site SITE --url URL --etcd ETCD`" in new.err
    some = piehole("install", site, "--group", "g x", "--etcd", "h:1,h:2")
    assert "piehole.site and piehole.url are not set" in some.err
    assert f"`piehole install {site} --group 'g x' --etcd h:1 --etcd h:2 --site SITE --url URL`" in some.err
    git(site, "config", "piehole.group", "g")
    status = piehole("status", site)
    assert status.status == 2
    assert "piehole.site and piehole.etcd are not set" in status.err
    assert f"`piehole install {site} --site SITE --etcd ETCD`" in status.err


JSON = {
    "status": (),
    "check": (),
    "audit": (),
    "sites": (),
    "log": (),
    "group show": (),
    "group sites": (),
    "kept": (),
    "kept list": (),
    "kept show": ("0123",),
    "kept drop": ("0123",),
}


@pytest.mark.parametrize("command", JSON)
def test_a_failure_is_an_object_too(pair: Group, command: str) -> None:
    words = (*command.split(), "--json", *JSON[command])
    for arguments in (
        ("-C", pair.folder / "nowhere"),
        ("-C", make_bare(pair.folder / "bare.git")),
        ("--no-such-option",),
    ):
        answer = piehole(*words, *arguments)
        told = json.loads(answer.out)
        assert told["format"] == 1
        assert "converged" not in told or not told["converged"]
        (error,) = [told["error"]] if "error" in told else [one["error"] for one in told["repositories"]]
        assert error in answer.err
        assert answer.status == piehole(*(word for word in words if word != "--json"), *arguments).status != 0


@pytest.mark.parametrize("command", ["status", "audit"])
def test_a_repository_that_fails_has_its_place_among_the_others(pair: Group, command: str) -> None:
    git(pair["b"].repository, "config", "--unset", "piehole.site")
    (pair["b"].repository.parent / "odd.git").mkdir()
    answer = piehole(command, "--json", pair["a"].repository, pair["b"].repository, pair.folder / "nowhere")
    found = {one["repository"]: one.get("error") for one in answer.json["repositories"]}
    assert list(found) == [str(pair["a"].repository), str(pair["b"].repository), str(pair.folder / "nowhere")]
    a, b, nowhere = found.values()
    assert (a, "piehole.site is not set" in b, "no folder" in nowhere) == (None, True, True)
    assert answer.status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("leave", "--site", ""), "an argument is empty"),
        (("rename", "other", "HERE"), "a repository is named with -C HERE"),
        (("group", "show", "HERE"), "a repository is named with -C HERE"),
        (("log", "main", "HERE"), "a repository is named with -C HERE"),
        (("log", "-n", "-1"), "is no whole number"),
        (("controller", "--root", "HERE", "--fetch-stall", "0"), "a time above 0"),
        (("controller", "--root", "HERE", "--fetch-max-bytes", "5x"), "is no number of bytes"),
        (("controller", "--root", "HERE", "--fetch-max-bytes", "0"), "is no number of bytes"),
        (("-C", "HERE"), "no command is given"),
        (("-C",), "See `piehole --help`"),
    ],
)
def test_a_slip_gets_a_sentence_and_status_two(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    answer = piehole(*(str(tmp_path) if word == "HERE" else word for word in words))
    assert (answer.status, said.replace("HERE", str(tmp_path)) in answer.err) == (2, True), answer


TIMES = {
    "status": ("--wait",),
    "wait": ("--timeout",),
    "group": ("set", "copies", "1", "--wait"),
    "kept": ("drop", "--wait"),
    "controller": ("--root", "/nowhere", "--fetch-stall"),
}


@pytest.mark.parametrize("command", TIMES)
def test_every_option_takes_the_same_times(tmp_path: Path, command: str) -> None:
    for time in ("5", "5s", "2.5s", ".5", "250ms", "10m", "12h", "7d", "2w"):
        assert "such as 10, or a time such as" not in piehole(command, *TIMES[command], time, cwd=tmp_path).err, time
    for time in ("5x", "s", "1e3", "nan", "inf", "5 m", "²", "9" * 20):
        answer = piehole(command, *TIMES[command], time, cwd=tmp_path)
        assert (answer.status, "such as 10, or a time such as 250ms" in answer.err) == (2, True), (time, answer)


@pytest.mark.parametrize(
    ("text", "found"),
    [("10", 10), ("2.5s", 2.5), ("250ms", 0.25), ("1.5m", 90), ("12h", 43200), ("7d", 604800), ("2w", 1209600)],
)
def test_what_a_time_means_in_settings_and_options(text: str, found: float) -> None:
    assert seconds("piehole.readWait", text) == found
