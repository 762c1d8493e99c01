"""Loose commits are read as git reads them, and what is no loose commit is left to git."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from piehole.refs import Command
from piehole.repository.ancestry import loose_parents
from piehole.repository.repository import Repository
from tests.support.git import ZERO_SHA1, git, make_bare


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = make_bare(tmp_path / "r.git")
    git(path, "hash-object", "-t", "tree", "-w", "--stdin")
    return path


def made(repository: Path, *parents: str, message: str = "m") -> str:
    tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    arguments = [word for parent in parents for word in ("-p", parent)]
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return git(repository, *who, "commit-tree", tree, *arguments, "-m", message).stdout.strip()


def test_parents_are_what_git_says(repository: Path) -> None:
    root = made(repository)
    side = made(repository, root, message="parent of nobody\n\nparent " + "1" * 40)
    many = [made(repository, root, message=str(number)) for number in range(40)]
    merge = made(repository, side, *many)
    assert loose_parents(repository, root) == ()
    assert loose_parents(repository, side) == (root,)
    assert loose_parents(repository, merge) == (side, *many)


def test_what_is_no_loose_commit_is_not_told(repository: Path) -> None:
    root = made(repository)
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "m", "t", root)
    tag = git(repository, "rev-parse", "refs/tags/t").stdout.strip()
    assert loose_parents(repository, tag) is None
    assert loose_parents(repository, "4b825dc642cb6eb9a060e54bf8d69288fbee4904") is None
    assert loose_parents(repository, "1" * 40) is None
    git(repository, "update-ref", "refs/heads/main", root)
    git(repository, "repack", "-adq")
    assert loose_parents(repository, root) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zlib",
        zlib.compress(b"commit 10\0"),
        zlib.compress(b"commit 99\0tree 1\nparent 2\n"),
        zlib.compress(b"blob 99\0tree 1\nauthor a"),
        zlib.compress(b"commit 99\0tree 1\nelse 2\nauthor a"),
    ],
)
def test_what_is_damaged_is_not_told(repository: Path, content: bytes) -> None:
    path = repository / "objects" / "11" / ("1" * 38)
    path.parent.mkdir()
    path.write_bytes(content)
    assert loose_parents(repository, "1" * 40) is None


@pytest.mark.parametrize(
    "header", ["tree 1\nelse 2\n", "tree {tree}\nparent 2\n", "tree {tree}\nelse 2\n", "parent {tree}\n"]
)
def test_a_sound_commit_of_another_form_is_not_told(repository: Path, header: str) -> None:
    content = header.format(tree="4b825dc642cb6eb9a060e54bf8d69288fbee4904") + "author a <a> 1 +0000\n"
    oid = git(repository, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=content).stdout.strip()
    assert loose_parents(repository, oid) is None


def test_only_what_leaves_no_tip_behind_adds(repository: Path) -> None:
    first = made(repository)
    second = made(repository, first)
    third = made(repository, second)
    beside = made(repository, first, message="beside")
    merge = made(repository, beside, third)
    names = Repository(repository)

    def adds(old: str, new: str) -> bool:
        return names.adds([Command("refs/heads/main", old, new)])

    assert all(adds(*pair) for pair in [(ZERO_SHA1, first), (first, second), (first, third), (second, merge)])
    assert not any(adds(*pair) for pair in [(third, beside), (third, second), (third, ZERO_SHA1), (first, "1" * 40)])
    (repository / "shallow").write_text(f"{second}\n")
    assert not adds(first, third)
