"""What a controller finds below its folders, and what of it has changed since the last look."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from controller.folders import Folders
from tests.support.git import git, make_bare


def grouped(path: Path) -> Path:
    make_bare(path)
    git(path, "config", "piehole.group", "g")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "team").mkdir(parents=True)
    return tmp_path / "root"


def test_each_repository_of_a_group_is_told_once(root: Path) -> None:
    first, second = grouped(root / "a.git"), grouped(root / "team" / "b.git")
    make_bare(root / "plain.git")
    folders = Folders([root])
    look = folders.scan()
    assert look.present == {str(first), str(second)}
    assert look.changed == (first, second)
    again = folders.scan()
    assert again.present == look.present
    assert again.changed == ()


def test_a_repository_that_is_configured_anew_is_told_again(root: Path) -> None:
    first = grouped(root / "a.git")
    folders = Folders([root])
    folders.scan()
    git(first, "config", "piehole.site", "another")
    assert folders.scan().changed == (first,)
    folders.forget(first)
    assert folders.scan().changed == (first,)
    git(first, "config", "--unset", "piehole.group")
    assert folders.scan().present == frozenset()


def test_a_repository_that_goes_is_gone_and_may_come_back(root: Path) -> None:
    first = grouped(root / "a.git")
    folders = Folders([root])
    folders.scan()
    shutil.move(first, root.parent / "away.git")
    assert folders.scan().present == frozenset()
    shutil.move(root.parent / "away.git", first)
    assert folders.scan().changed == (first,)


def test_what_takes_a_repositorys_place_is_looked_into(root: Path) -> None:
    place = grouped(root / "a.git")
    folders = Folders([root])
    folders.scan()
    shutil.rmtree(place)
    inner = grouped(place / "inner.git")
    folders.scan()  # notices that what was there is gone
    assert folders.scan().present == {str(inner)}


def test_nothing_waits_for_a_pipe(root: Path) -> None:
    first = grouped(root / "a.git")
    folders = Folders([root])
    folders.scan()
    (first / "config").unlink()
    os.mkfifo(first / "config")
    assert folders.scan().present == frozenset()


def test_a_folder_that_is_reached_by_a_symbolic_link_is_not_found_twice(root: Path) -> None:
    first = grouped(root / "team" / "a.git")
    (root / "link").symlink_to(root / "team")
    assert Folders([root]).scan().changed == (first,)
