"""`piehole files` knows every file of deploy/, and copies them without overwriting anything."""

from __future__ import annotations

import os
from pathlib import Path

from piehole.installed_files import deploy_folder, described
from tests.support.command_line import piehole_in_process as piehole

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = {
    path.relative_to(DEPLOY): path
    for path in DEPLOY.rglob("*")
    if path.is_file() and path.parent != DEPLOY / "debian"  # what the Debian package is made from
}


def test_the_folder_of_a_checkout_is_found() -> None:
    assert deploy_folder() == DEPLOY


def test_every_file_has_a_row_that_says_where_it_goes_and_what_it_is() -> None:
    rows = list(described())
    assert [row for row in rows if not all(row) or "](" in "".join(row) or "`" in "".join(row)] == []
    named = [DEPLOY / name for row in rows for name in row.names.split(", ")]
    assert [path for path in named if not path.exists()] == []
    assert [path for path in FILES.values() if not {path, *path.parents} & {*named, DEPLOY / "README.md"}] == []
    listed = piehole("files").out
    assert str(DEPLOY) in listed
    assert "\n  sysusers.conf, tmpfiles.conf\n" in listed


def test_all_are_copied_as_they_are_and_again(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    for _ in range(2):
        done = piehole("files", target)
        assert (done.status, done.err) == (0, "")
        assert f"{len(FILES)} files copied to {target}" in done.out
    copies = {path.relative_to(target): path for path in target.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in copies.items()} == {n: p.read_bytes() for n, p in FILES.items()}
    assert [name for name in FILES if os.access(FILES[name], os.X_OK) != os.access(copies[name], os.X_OK)] == []


def test_a_changed_copy_is_not_overwritten_and_nothing_else_is_copied(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("mine")
    done = piehole("files", tmp_path)
    assert done.status == 1
    assert f"piehole: {tmp_path / 'nginx.conf'} is there and has another content" in done.err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"nginx.conf": "mine"}


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = piehole("files", tmp_path / "file")
    assert (done.status, f"{tmp_path / 'file'} is a file" in done.err) == (1, True)
