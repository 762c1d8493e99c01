"""`piehole config`: what each setting is and where it comes from, and setting one with the judgement of the code that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from piehole.group import config
from piehole.repository.git_settings import GitConfig
from piehole.repository.settings import SETTINGS
from tests.support.command_line import Answer, piehole_in_process
from tests.support.git import git, make_bare
from tests.support.groups import Group

# For each setting that is changed in a repository: a value that is taken, one that is refused, and what the refusal says.
VALUES = {
    "etcd": ("h:1", "h", "'h' is not an etcd endpoint"),
    "exclude": ("refs/heads/a,b", "", "an argument is empty"),
    "keepFor": ("12h", "5m", "give hours, days or weeks"),
    "allowProtocol": ("http", "rsync", "it must be ssh, https, http, git or file"),
    "hookTimeout": ("2.5s", "soon", "it must be a number of seconds"),
    "catchUp": ("0", "-1", "it must be a number of seconds"),
    "copiesTimeout": ("1m", "1y", "it must be a number of seconds"),
    "readGate": ("strict", "on", "it must be off, wait or strict"),
    "readWait": ("3", "1e9", "it must be a number of seconds"),
    "maxDeletes": ("100", "1k", "it must be a whole number"),
    "pusherFrom": ("env:USER", "name", "it must be env:NAME, key-comment"),
    "announce": ("off", "11s", "at most 10s"),
    "verifyEvery": ("2w", "weekly", "it must be a number of seconds"),
    "etcdCA": ("/etc/ca.pem", "ca.pem", "it must be an absolute path"),
    "etcdCert": ("/etc/c.pem", "c.pem", "it must be an absolute path"),
    "etcdKey": ("/etc/k.pem", "k.pem", "it must be an absolute path"),
    "etcdUser": ("oslo", "", "an argument is empty"),
    "etcdPasswordFile": ("/etc/p", "p", "it must be an absolute path"),
}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A repository of no group; what a test sets for the account goes with the test."""
    path = make_bare(tmp_path / "a.git")
    yield path
    git(path, "config", "--global", "--remove-section", "piehole", check=False)


def asked(repository: Path, *words: str) -> Answer:
    return piehole_in_process("config", "-C", repository, *words)


def shown(repository: Path, name: str) -> dict[str, Any]:
    (found,) = asked(repository, "--json", name).json["settings"]
    assert isinstance(found, dict)
    return found


def test_every_setting_is_shown_with_its_value_its_place_its_default_and_its_meaning(repository: Path) -> None:
    git(repository, "config", "--global", "piehole.readGate", "wait")
    git(repository, "config", "piehole.hookTimeout", "7")
    answer = asked(repository)
    assert answer.status == 0
    heading, *lines = answer.out.splitlines()
    assert heading == f"settings of {repository}"
    names = [line.partition(" = ")[0] for line in lines if not line.startswith("  ")]
    assert names == list(SETTINGS)
    assert len(lines) >= 2 * len(names) and "…" not in answer.out.replace("`piehole: …`", "")
    assert "  The protocols that this site may use to fetch from peers: `ssh`, `https`," in lines
    assert f"hookTimeout = 7 (local: {repository / 'config'}; default: 10)" in lines
    assert f"readGate = wait (global: {Path('~/.gitconfig').expanduser()}; default: off)" in lines
    assert "catchUp = 3 (default)" in lines
    assert shown(repository, "piehole.READGATE") == {
        "name": "piehole.readGate",
        "values": ["wait"],
        "default": ["off"],
        "scope": "global",
        "file": str(Path("~/.gitconfig").expanduser()),
        "meaning": SETTINGS["readGate"].meaning,
        "fault": None,
    }


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_taken_or_refused_as_reading_it_would(repository: Path, name: str) -> None:
    good, bad, sentence = VALUES[name]
    refused = asked(repository, name, bad)
    assert (refused.status, sentence in refused.err) == (2, True), refused
    assert not GitConfig(repository).places(f"piehole.{name.lower()}")
    assert asked(repository, name.upper(), good).status == 0
    assert shown(repository, name)["values"] == [good]
    assert asked(repository, "--unset", name).status == 0
    assert shown(repository, name)["scope"] == "default"


def test_the_values_above_are_all_that_are_changed_in_a_repository() -> None:
    assert set(VALUES) == {row.name for row in SETTINGS.values() if row.repository and not row.changes}


def test_several_values_replace_those_before_and_a_second_value_of_one_is_refused(repository: Path) -> None:
    asked(repository, "etcd", "h:1", "h:2")
    assert asked(repository, "etcd", "h:3", "h:4,h:5").status == 0
    assert shown(repository, "etcd")["values"] == ["h:3", "h:4", "h:5"]
    answer = asked(repository, "readWait", "1", "2")
    assert (answer.status, "piehole.readWait has one value" in answer.err) == (2, True)


def test_what_install_writes_is_refused_with_the_command_that_changes_it(pair: Group) -> None:
    a = pair["a"].repository
    before = (a / "config").read_bytes()
    for name in ("group", "groupId", "site", "siteId", "url", "prefix"):
        for words in ((name, "other"), ("--unset", name)):
            answer = asked(a, *words)
            assert (answer.status, f"piehole.{name} is not changed here: " in answer.err) == (2, True), answer
    assert asked(a, "--unset", "etcd").status == 2  # nothing else sets it
    assert (a / "config").read_bytes() == before


def test_the_servers_settings_are_set_for_the_server_and_read_without_a_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "use --system" in asked(repository, "root", str(tmp_path)).err
    assert "not set with --global" in asked(repository, "--global", "group", "g").err
    assert "there is no such folder" in asked(repository, "--global", "root", str(tmp_path / "none")).err
    answer = asked(repository, "--global", "root", str(tmp_path))
    assert (answer.status, "systemctl restart piehole-controller" in answer.out) == (0, True)
    git(repository, "config", "piehole.root", str(tmp_path))
    assert "piehole.root is a setting of the whole server" in asked(repository).err
    monkeypatch.chdir(tmp_path)
    said = piehole_in_process("config").out.splitlines()
    assert (
        said[0]
        == f"these settings hold for this server, not for a repository: {tmp_path} is no git repository. Name the repository with -C DIR."
    )
    assert f"root = {tmp_path} (global: {Path('~/.gitconfig').expanduser()})" in said
    found = piehole_in_process("config", "--json", "--global").json
    assert [one["name"] for one in found["settings"]] == ["piehole.root"]
    assert found["repository"] is None


def test_a_file_that_cannot_be_written_is_named(repository: Path) -> None:
    (repository / "config.lock").touch()
    answer = asked(repository, "readGate", "wait")
    assert (answer.status, "piehole.readGate was not set: could not lock config file" in answer.err) == (1, True), (
        answer
    )


def test_it_says_what_has_to_follow_and_who_decides_here(repository: Path) -> None:
    assert "a running controller reads it within five seconds" in asked(repository, "readGate", "wait").out
    assert "run `piehole install` in each repository" in asked(repository, "announce", "1s").out
    said = asked(repository, "--global", "readGate", "strict").out
    assert "systemctl reload piehole-controller" in said
    assert f"{repository / 'config'} decides" in said


def test_a_setting_that_does_not_exist_is_named_with_the_one_that_is_meant(repository: Path) -> None:
    answer = asked(repository, "readGates", "wait")
    assert (answer.status, "did you mean 'readGate'?" in answer.err) == (2, True)
    git(repository, "config", "piehole.readGates", "a secret")
    answer = asked(repository)
    assert (answer.status, "a secret" in answer.out + answer.err) == (0, False)
    assert f"warning: piehole.readgates in {repository / 'config'} is no setting" in answer.err
    assert "did you mean piehole.readGate?" in answer.err
    (found,) = asked(repository, "--json").json["unknown"]
    assert (found["name"], found["nearest"]) == ("piehole.readgates", "piehole.readGate")


def test_no_password_of_a_url_is_shown_and_a_value_that_cannot_be_used_is_a_fault(repository: Path) -> None:
    git(repository, "config", "piehole.url", "https://git:s3cr/et@oslo.example.org/a.git")
    git(repository, "config", "piehole.etcd", "http://root:s3cr/et@h:1")
    git(repository, "config", "piehole.readGate", "http://root:s3cr/et@h:1")
    for words in ((), ("--json",), ("url",), ("etcd",), ("readGate",)):
        answer = asked(repository, *words)
        assert "s3cr" not in answer.out + answer.err
        assert answer.status == 1
    assert "oslo.example.org" in asked(repository, "url").out


def test_check_names_what_is_no_setting_and_what_cannot_be_used(pair: Group) -> None:
    a = pair["a"].repository
    git(a, "config", "piehole.exclud", "refs/pull/*")
    git(a, "config", "piehole.keepFor", "5m")
    answer = piehole_in_process("check", a)
    assert "warning: piehole.exclud in " in answer.out
    assert "did you mean piehole.exclude?" in answer.out
    assert "fault: piehole.keepFor is '5m'" in answer.out
    for name in ("exclud", "keepFor"):
        git(a, "config", "--unset", f"piehole.{name}")
    assert "piehole.exclud" not in piehole_in_process("check", a).out


def test_a_change_that_leaves_the_repository_unusable_says_so(pair: Group) -> None:
    a = pair["a"].repository
    answer = asked(a, "etcdCert", "/etc/c.pem")
    assert "warning: nothing can be pushed here until this is right, too: piehole.etcdCert and" in answer.out
    assert "warning" not in asked(a, "etcdKey", "/etc/k.pem").out
    assert config.load(a).credentials.key == "/etc/k.pem"
