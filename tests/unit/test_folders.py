"""What a controller finds below its folders, and what of it has changed since the last look."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
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


class Unreadable:
    """Folders whose reading fails with an error, as where no descriptor is free or the disk fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scans: dict[str, int] = {}
        self.stats: dict[str, int] = {}
        scandir, stat = os.scandir, os.stat

        def _scandir(path: str) -> Iterator[os.DirEntry[str]]:
            if path in self.scans:
                raise OSError(self.scans[path], os.strerror(self.scans[path]), path)
            return scandir(path)

        def _stat(path: str, **options: bool) -> os.stat_result:
            if path in self.stats:
                raise OSError(self.stats[path], os.strerror(self.stats[path]), path)
            return stat(path, **options)

        monkeypatch.setattr("piehole.repository.discovery.os.scandir", _scandir)
        monkeypatch.setattr("controller.folders.os.stat", _stat)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_read_now_is_not_gone(root: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    first, second = grouped(root / "a.git"), grouped(root / "team" / "b.git")
    folders = Folders([root])
    both = folders.scan().present
    assert both == {str(first), str(second)}
    unreadable = Unreadable(monkeypatch)
    for folder in (root, root / "team"):
        unreadable.scans = {str(folder): error}
        assert folders.scan().present == both
    unreadable.scans.clear()
    unreadable.stats = {str(first / "config"): error}
    assert folders.scan().present == both
    unreadable.stats = {str(first / "config"): errno.ENOENT}
    assert folders.scan().present == {str(second)}


def test_a_link_that_leads_nowhere_hides_nothing_beside_it(root: Path) -> None:
    first = grouped(root / "a.git")
    folders = Folders([root])
    (root / "loop").symlink_to(root / "loop")
    assert folders.scan().present == {str(first)}
