"""The examination of a repository's objects, and the removal of damaged files, without a group."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from piehole.deadline import Deadline
from piehole.transfer import damaged_files
from piehole.transfer.keep_files import Hold
from piehole.transfer.soundness import examine
from tests.support.fetch_bed import FetchBed
from tests.support.git import git, rev_parse


@pytest.fixture(params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> FetchBed:
    bed = FetchBed(tmp_path, request.param)
    for number in range(3):
        bed.advance(f"commit {number}", content=f"{number} {'x' * 500} {number * 7919}")
    git(bed.peer, "repack", "-adq")
    git(bed.peer, "commit-graph", "write", "--reachable")
    bed.advance("loose")
    return bed


def damage(path: Path, start: int) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[start : start + 8] = bytes(byte ^ 0xFF for byte in data[start : start + 8])
    path.write_bytes(data)


def test_what_git_has_written_is_sound(repository: FetchBed) -> None:
    found = examine(repository.peer, [rev_parse(repository.peer, "main")], repository.object_format, 20)
    assert (found.fault, found.complete, found.damaged) == ("", True, ())


@pytest.mark.parametrize("which", ["pack/*.pack", "pack/*.idx", "info/commit-graph", "??/*"])
def test_eight_bytes_are_found_wherever_they_are(repository: FetchBed, which: str) -> None:
    objects = repository.peer / "objects"
    path = next(objects.glob(which))
    damage(path, path.stat().st_size // 2)
    found = examine(repository.peer, [rev_parse(repository.peer, "main")], repository.object_format, 20)
    assert path in found.damaged
    assert found.fault
    assert damaged_files.only_derived([path]) == (path.name == "commit-graph")


def test_what_git_makes_anew_is_taken_out_and_nothing_else_is_needed(repository: FetchBed) -> None:
    peer, tip = repository.peer, rev_parse(repository.peer, "main")
    graph = peer / "objects" / "info" / "commit-graph"
    damage(graph, graph.stat().st_size // 2)
    (peer / "piehole").mkdir()
    with Hold() as hold:
        assert damaged_files.set_aside(peer, [graph], [tip], repository.object_format, hold, Deadline(20)) == ""
    assert not graph.exists()
    assert (peer / "piehole" / "damaged" / "commit-graph").exists()
    git(peer, "fsck", "--full")


def test_files_without_which_the_history_is_broken_stay(repository: FetchBed) -> None:
    peer, tip = repository.peer, rev_parse(repository.peer, "main")
    (pack,) = (peer / "objects" / "pack").glob("*.pack")
    damage(pack, pack.stat().st_size // 2)
    (peer / "piehole").mkdir()
    with Hold() as hold:
        why = damaged_files.set_aside(peer, [pack], [tip], repository.object_format, hold, Deadline(20))
    assert "the history is not complete" in why
    assert pack.exists()


def test_an_examination_ends_in_time_and_says_that_it_is_not_complete(repository: FetchBed, tmp_path: Path) -> None:
    peer, tip = repository.peer, rev_parse(repository.peer, "main")
    large = peer / "objects" / "pack" / f"pack-{'1' * 40}.pack"
    with large.open("wb") as file:
        file.truncate(3 << 30)
    large.with_suffix(".idx").write_bytes(b"")
    began = time.monotonic()
    found = examine(peer, [tip], repository.object_format, 0.5)
    assert time.monotonic() - began < 5
    assert not found.complete
    assert tmp_path
