"""What install refuses, with which exit status, and that it has changed nothing then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.install.bed import InstallBed
from tests.support.command_line import piehole_in_process
from tests.support.git import clone, git

FOREIGN = '#!/bin/sh\nexec /usr/bin/somebody-elses-hook "$@"\n'


def refuses(bed: InstallBed, *words: str, status: int = 1, **changes: str | None) -> str:
    """Install ``a``, which must be refused in these words and change nothing; returns the sentence."""
    before, keys = bed.contents("a"), bed.stored()
    answer = bed.run("a", **changes)
    assert answer.status == status, answer
    for word in words:
        assert word in answer.err
    assert bed.contents("a") == before
    assert bed.stored() == keys
    return answer.err


def test_what_is_no_bare_repository(bed: InstallBed, tmp_path: Path) -> None:
    assert piehole_in_process("install", tmp_path / "nothing").status == 1
    (tmp_path / "plain").mkdir()
    answer = piehole_in_process("install", tmp_path / "plain")
    assert answer.status == 1
    assert "no git repository" in answer.err
    git(tmp_path, "init", "-q", "tree")
    answer = piehole_in_process("install", tmp_path / "tree")
    assert answer.status == 1
    assert "not a bare repository" in answer.err


@pytest.mark.parametrize("setting", ["group", "site", "url", "etcd"])
def test_a_setting_that_is_missing(bed: InstallBed, setting: str) -> None:
    bed["a"].make()
    refuses(bed, f"piehole.{setting} is not set", status=2, **{setting: None})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("group", "a/refs/b"), ("group", "@x"), ("group", ".x"), ("group", ""), ("site", "a/b"), ("site", "ö"),
        ("url", "ext::sh -c x"), ("url", "-x"), ("url", "relative/path"), ("etcd", "ftp://x:1"), ("prefix", "x"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense(bed: InstallBed, setting: str, value: str) -> None:
    bed["a"].make()
    refuses(bed, status=2, **{setting: value})


@pytest.mark.parametrize("executable", [True, False])
@pytest.mark.parametrize("hook", ["update", "reference-transaction"])
def test_a_foreign_hook_is_left_alone_and_the_way_to_chain_is_named(
    bed: InstallBed, hook: str, executable: bool
) -> None:
    bed["a"].make()
    path = bed["a"].repository / "hooks" / hook
    path.parent.mkdir(exist_ok=True)
    path.write_text(FOREIGN)
    path.chmod(0o755 if executable else 0o644)
    refuses(bed, str(path), f"{hook}.piehole")
    assert path.read_text() == FOREIGN


def test_a_foreign_hook_that_chains_is_welcome(bed: InstallBed) -> None:
    bed["a"].make()
    path = bed["a"].repository / "hooks" / "update"
    path.parent.mkdir(exist_ok=True)
    text = '#!/bin/sh\nexec "$(dirname "$0")/update.piehole" "$@"\n'
    path.write_text(text)
    path.chmod(0o755)
    assert bed.run("a").status == 0
    assert path.read_text() == text
    bed.commit()
    bed.push("a")
    assert bed.value() == bed["a"].at()


def test_hooks_that_git_looks_for_elsewhere(bed: InstallBed) -> None:
    bed["a"].make()
    git(bed["a"].repository, "config", "--global", "core.hooksPath", "/etc/hooks")
    refuses(bed, "core.hooksPath")
    git(bed["a"].repository, "config", "core.hooksPath", "hooks")
    assert bed.run("a").status == 0


def test_a_git_that_is_too_old(bed: InstallBed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed["a"].make()
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "git"
    fake.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo git version 2.34.1 && exit\nexec {real} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    refuses(bed, "git 2.34.1 is too old")


def test_another_object_format_than_the_groups(bed: InstallBed) -> None:
    bed["b"].make()
    assert bed.run("b").status == 0
    bed.object_format = "sha256"
    bed["a"].make()
    refuses(bed, "--object-format=sha1")


def test_history_that_is_cut(bed: InstallBed, tmp_path: Path) -> None:
    bed.commit("one")
    bed.commit("two")
    clone(f"file://{bed.work}", bed["a"].repository, "--bare", "--depth=1")
    refuses(bed, "shallow")


def test_a_partial_clone(bed: InstallBed) -> None:
    bed.commit("one")
    git(bed.work, "config", "uploadpack.allowFilter", "true")
    clone(f"file://{bed.work}", bed["a"].repository, "--bare", "--filter=blob:none")
    refuses(bed, "partial clone")


def test_grafts(bed: InstallBed) -> None:
    bed["a"].make()
    (bed["a"].repository / "info").mkdir(exist_ok=True)
    (bed["a"].repository / "info" / "grafts").write_text("")
    refuses(bed, "grafts")


def test_large_files_and_borrowed_objects_are_warned_of(bed: InstallBed) -> None:
    bed.commit("one")
    clone(bed.work, bed["a"].repository, "--bare", "--shared")
    (bed["a"].repository / "lfs").mkdir()
    answer = bed.run("a")
    assert answer.status == 0, answer
    assert "warning: objects are borrowed" in answer.out
    assert "warning: the repository uses Git LFS" in answer.out


def test_a_ref_without_its_object(bed: InstallBed) -> None:
    bed["a"].make()
    (bed["a"].repository / "refs" / "heads" / "broken").write_text("12" * 20 + "\n")
    refuses(bed, "refs/heads/broken", "git fsck")


@pytest.mark.slow
def test_etcd_that_cannot_be_reached(bed: InstallBed) -> None:
    bed["a"].make()
    refuses(bed, "127.0.0.1:1", status=3, etcd="127.0.0.1:1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_root_in_another_accounts_repository(bed: InstallBed) -> None:
    bed["a"].make()
    for path in (bed["a"].repository, *bed["a"].repository.rglob("*")):
        shutil.chown(path, 12345, 12345)
    refuses(bed, "uid 12345")
