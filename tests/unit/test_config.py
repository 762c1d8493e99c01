"""git's configuration as piehole reads it, from real git."""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.errors import UsageError
from piehole.git import shared_mode
from piehole.group import config
from piehole.repository import git_settings
from piehole.repository.git_settings import GitConfig
from tests.support.git import git, make_bare


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = make_bare(tmp_path / "a.git")
    for name, value in {"group": "g", "site": "oslo", "etcd": "http://h:1"}.items():
        git(path, "config", f"piehole.{name}", value)
    return path


def test_defaults(repository: Path) -> None:
    found = config.load(repository)
    assert (found.prefix, found.keep_for, found.hook_timeout, found.catch_up) == ("/piehole", "90.days", 10.0, 3.0)
    assert (found.read_gate, found.read_wait) == ("off", 3.0)
    assert found.allow_protocol == ("ssh", "https")
    assert found.object_format == "sha1"
    assert found.shared == ""
    git(repository, "config", "core.sharedRepository", "group")
    assert config.load(repository).shared == "group"


def test_a_repositorys_list_replaces_the_servers(repository: Path) -> None:
    git(repository, "config", "--global", "--add", "piehole.etcd", "http://global:1")
    assert config.load(repository).etcd == ("http://h:1",)
    git(repository, "config", "--unset-all", "piehole.etcd")
    git(repository, "config", "--global", "--add", "piehole.etcd", "http://two:1, http://three:1")
    assert config.load(repository).etcd == ("http://global:1", "http://two:1", "http://three:1")


def test_a_comma_in_an_excluded_name_is_part_of_it(repository: Path) -> None:
    git(repository, "config", "--add", "piehole.exclude", "refs/heads/a,b")
    git(repository, "config", "--add", "piehole.exclude", "refs/pull/*")
    assert config.load(repository).exclude == ("refs/heads/a,b", "refs/pull/*")


def test_options_override(repository: Path) -> None:
    found = config.load(repository, {"site": "rome", "etcd": ["http://other:1"]})
    assert (found.site, found.etcd) == ("rome", ("http://other:1",))


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf", "1e9", ""])
def test_a_time_that_is_none(repository: Path, value: str) -> None:
    git(repository, "config", "piehole.hookTimeout", value)
    with pytest.raises(UsageError, match="number of seconds"):
        config.load(repository)


@pytest.mark.parametrize("name", ["group", "site", "etcd"])
def test_what_is_needed_is_asked_for_by_name(repository: Path, name: str) -> None:
    git(repository, "config", "--unset-all", f"piehole.{name}")
    with pytest.raises(UsageError, match=f"piehole.{name} is not set"):
        config.load(repository)


def test_values_keep_their_line_breaks_and_bytes(repository: Path) -> None:
    with (repository / "config").open("ab") as file:
        file.write(b'[piehole]\n\texclude = "refs/heads/\xe9\\nx"\n')
    assert config.load(repository).exclude == ("refs/heads/\udce9\nx",)


def test_settings_are_missing_until_they_are_applied_once(repository: Path) -> None:
    git(repository, "config", "--global", "transfer.hideRefs", "refs/internal")
    assert git_settings.apply(repository) == list(git_settings.SETTINGS)
    assert git_settings.missing(repository) == []
    assert git_settings.apply(repository) == []
    assert "refs/internal" in GitConfig(repository).every("transfer.hiderefs")
    git(repository, "config", "core.fsync", "none")
    assert [one.name for one in git_settings.missing(repository)] == ["core.fsync"]


@pytest.mark.parametrize(
    ("shared", "mode"),
    [("", 0o700), ("false", 0o700), ("umask", 0o700), ("group", 0o2770), ("true", 0o2770), ("all", 0o2777),
     ("world", 0o2777), ("2", 0o2777), ("0660", 0o2770), ("0640", 0o2750), ("0600", 0o700), ("nonsense", 0o700)],
)  # fmt: skip
def test_the_folders_mode_is_what_shared_repository_asks_for(shared: str, mode: int) -> None:
    assert shared_mode(shared) == mode


def test_the_limit_of_deletions_is_a_whole_number(repository: Path) -> None:
    assert config.load(repository).max_deletes == 0
    git(repository, "config", "piehole.maxDeletes", "100")
    assert config.load(repository).max_deletes == 100
    for text in ("many", "-1", "1k", "9" * 12):
        git(repository, "config", "piehole.maxDeletes", text)
        with pytest.raises(UsageError, match=r"piehole\.maxDeletes is"):
            config.load(repository)


def test_the_read_gate_has_three_modes(repository: Path) -> None:
    for mode in ("off", "wait", "Strict"):
        git(repository, "config", "piehole.readGate", mode)
        assert config.load(repository).read_gate == mode.lower()
    git(repository, "config", "piehole.readGate", "yes")
    with pytest.raises(UsageError, match=r"piehole\.readGate is 'yes'; it must be off, wait or strict"):
        config.load(repository)
