"""A file's lock has one holder at a time and ends with its process; a file is replaced as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.files import lock, locked, replace_file, try_lock_in_place


def test_a_lock_has_one_holder_and_waits_no_longer_than_its_deadline(tmp_path: Path) -> None:
    path = tmp_path / "piehole" / "lock"
    with locked(path, 0o600, Deadline(0)) as first, locked(path, 0o600, Deadline(0.05)) as second:
        assert first
        assert not second
    with locked(path, 0o600, Deadline(0)) as again:
        assert again


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from piehole.files import locked\n"
        "with locked(Path(sys.argv[1]), 0o600) as held: print(held, flush=True); sys.stdin.read()"
    )
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with locked(path, 0o600, Deadline(0)) as obtained:
            assert not obtained
        holder.kill()
    with locked(path, 0o600, Deadline(0)) as obtained:
        assert obtained


def test_a_lock_on_a_deleted_file_is_no_lock_in_place(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        assert try_lock_in_place(file.fileno())
        assert lock(file.fileno())  # one holder may ask again
        (tmp_path / "lock").unlink()
        assert not try_lock_in_place(file.fileno())


def test_a_file_is_replaced_by_one_rename_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "file.tmp").write_text("left by a killed writer")
    seen: list[str] = []
    replace_file(path, "new", 0o640, written=lambda: seen.append(path.read_text()))
    assert seen == ["old"]
    assert path.read_text() == "new"
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_file(path, "new", 0o600, written=fail)
    assert path.read_text() == "old"
