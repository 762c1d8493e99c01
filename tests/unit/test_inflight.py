"""In-flight records on a real file system."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from piehole.fastpath import processes
from piehole.fastpath.inflight import FOLDER, Announcement, Record, records
from piehole.replicate.pushes_here import in_flight

ONE = Announcement("refs/heads/a", "0" * 40, "1" * 40, "[1]", managed=True)
NAME = "boot.1.2.3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / FOLDER
    made.mkdir(parents=True, mode=0o700)
    return made


def test_what_one_hook_announces_the_next_one_reads(tmp_path: Path, folder: Path) -> None:
    first = Record(str(tmp_path), NAME).open()
    first.announce(ONE)
    first.announce(Announcement("refs/ci/x", "2" * 40, "3" * 40, "-", managed=False))
    first.add_wait(1.25)
    first.add_wait(0.5)
    second = Record(str(tmp_path), NAME).load()
    assert second.push_id == first.push_id
    assert second.waited == 1.75
    assert second.announced["refs/heads/a"].snapshot == "[1]"
    assert second.announced["refs/heads/a"].managed
    assert not second.announced["refs/ci/x"].managed


def test_the_last_line_about_a_ref_counts(tmp_path: Path, folder: Path) -> None:
    record = Record(str(tmp_path), NAME).open()
    record.announce(ONE)
    record.announce(Announcement(ONE.ref, ONE.old, ONE.new, "[2]", managed=True))
    record.settle([ONE.ref])
    again = Record(str(tmp_path), NAME).load().announced[ONE.ref]
    assert (again.snapshot, again.settled) == ("[2]", True)


def test_every_push_has_an_id_of_its_own(tmp_path: Path, folder: Path) -> None:
    ids = {Record(str(tmp_path), f"boot.1.2.{n}").open().push_id for n in range(5)}
    assert len(ids) == 5


def test_a_line_that_was_cut_off_announces_nothing(tmp_path: Path, folder: Path) -> None:
    Record(str(tmp_path), NAME).open().announce(ONE)
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:-1])
    assert Record(str(tmp_path), NAME).load().announced == {}


@pytest.mark.parametrize("content", ["", "piehole 1 id", "want refs/heads/a 0 1 [1]\n", "piehole 2 id\n"])
def test_a_record_without_its_first_line_is_an_error(tmp_path: Path, folder: Path, content: str) -> None:
    (folder / NAME).write_text(content)
    with pytest.raises(OSError, match="no first line"):
        Record(str(tmp_path), NAME).load()


def test_names_of_any_bytes_are_kept(tmp_path: Path, folder: Path) -> None:
    ref = os.fsdecode(b"refs/heads/\xff\xe2\x80\xa8x")
    Record(str(tmp_path), NAME).open().announce(Announcement(ref, ONE.old, ONE.new, "[1]", managed=True))
    assert list(Record(str(tmp_path), NAME).load().announced) == [ref]


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o777])
def test_a_record_can_be_written_by_whoever_can_write_the_folder_whatever_the_umask(
    tmp_path: Path, folder: Path, mode: int
) -> None:
    folder.chmod(mode)
    before = os.umask(0o077)
    try:
        Record(str(tmp_path), NAME).open()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == mode & 0o666


def test_a_link_is_not_followed(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / "target"
    target.write_text("piehole 1 id\n")
    (folder / NAME).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        Record(str(tmp_path), NAME).open()
    assert target.read_text() == "piehole 1 id\n"


def test_a_record_that_cannot_be_written_whole_is_an_error(tmp_path: Path, folder: Path) -> None:
    record = Record(str(tmp_path), NAME).open()
    (folder / NAME).unlink()
    (folder / NAME).symlink_to("/dev/full")
    with pytest.raises(OSError):
        record.announce(ONE)
    assert record.announced == {}


def test_unreadable_records_are_passed_over(tmp_path: Path, folder: Path) -> None:
    Record(str(tmp_path), NAME).open().announce(ONE)
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    assert [record.name for record in records(str(tmp_path))] == [NAME]
    assert list(records(str(tmp_path / "nowhere"))) == []


def test_a_living_receive_pack_holds_its_refs_and_a_dead_one_none(tmp_path: Path, folder: Path) -> None:
    process = processes.identity(os.getpid()) or ""
    Record(str(tmp_path), process).open().announce(ONE)
    dead = Record(str(tmp_path), process.rpartition(".")[0] + ".1").open()
    dead.announce(Announcement("refs/heads/b", ONE.old, ONE.new, "[1]", managed=True))
    assert in_flight(str(tmp_path)).refs == {ONE.ref}


def test_a_process_that_cannot_be_judged_holds_its_refs_while_its_helper_lives(tmp_path: Path, folder: Path) -> None:
    boot, namespace, *process = (processes.identity(os.getpid()) or "").split(".")
    record = Record(str(tmp_path), ".".join((boot, f"{namespace}1", *process))).open()
    record.announce(ONE)
    assert in_flight(str(tmp_path)).refs == set()
    attends = f"from piehole.fastpath import inflight; inflight.attend({record.path!r}); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", attends], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdout is not None
        assert helper.stdout.readline()
        assert in_flight(str(tmp_path)).refs == {ONE.ref}
        helper.communicate("\n")
    assert in_flight(str(tmp_path)).refs == set()


def test_a_receive_pack_is_dead_for_everybody_once_its_own_machine_says_so(tmp_path: Path, folder: Path) -> None:
    record = Record(str(tmp_path), "another-boot.1.2.3.abc-elsewhere").open()
    assert Record(str(tmp_path), record.name).load().lives is None
    record.note_end()
    assert Record(str(tmp_path), record.name).load().lives is False
