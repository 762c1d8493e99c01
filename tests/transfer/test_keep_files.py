"""Protection lasts exactly as long as its holder, and what a dead process left is swept."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from piehole.transfer.keep_files import KEEP_MARK, Hold, sweep
from piehole.transfer.quarantine import Quarantine
from tests.support.fetch_bed import FetchBed, leftovers, packs
from tests.support.git import git, has_object
from tests.support.wait import until
from tests.transfer.liar import falls_silent_in_the_pack, lying_peer

_FETCHES = """
import sys
from pathlib import Path
from piehole.transfer.fetch import fetch
from piehole.transfer.keep_files import Hold
from piehole.transfer.watchdog import Limits
with Hold() as hold:
    fetch(Path(sys.argv[1]), sys.argv[2], [sys.argv[3]], [], allowed=["git", "file"], limits=Limits(),
          object_format="sha1", hold=hold)
    print("fetched", flush=True)
    sys.stdin.read()
"""


def fetching(world: FetchBed, url: str, want: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _FETCHES, str(world.local), url, want],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of this process alone: its children are on their own."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def test_a_fetch_killed_in_the_middle_leaves_nothing_after_a_sweep(world: FetchBed) -> None:
    want = "12" * 20
    with lying_peer(falls_silent_in_the_pack) as url:
        process = fetching(world, url, want)
        try:
            until(lambda: list(world.local.glob("objects/piehole-quarantine-*/pack/tmp_pack*")), what="bytes arrive")
            assert sweep(world.local) == [], "a living process keeps its quarantine"
        finally:
            kill(process)
        swept = until(lambda: sweep(world.local))
    assert [path.name.startswith("piehole-quarantine-") for path in swept] == [True]
    assert leftovers(world.local) == []
    assert packs(world.local) == set()
    assert not has_object(world.local, want)


def test_a_process_killed_before_its_ref_moved_leaves_no_keep_after_a_sweep(world: FetchBed) -> None:
    tip = world.advance("two")
    process = fetching(world, str(world.peer), tip)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"fetched\n"
        assert sweep(world.local) == []
        assert len(leftovers(world.local)) == 1
    finally:
        kill(process)
    assert len(sweep(world.local)) == 1
    assert leftovers(world.local) == []
    assert has_object(world.local, tip), "the pack stays: the next reconcile needs it not be fetched again"


def test_keep_files_of_others_are_not_swept(world: FetchBed) -> None:
    folder = world.local / "objects" / "pack"
    world.follow()
    git(world.local, "repack", "-a", "-d", "-q")
    theirs = next(folder.glob("*.pack")).with_suffix(".keep")
    theirs.write_text("an administrator's\n")
    empty = theirs.with_name("pack-of-gits-own.keep")
    empty.with_suffix(".pack").touch()
    empty.touch()
    assert sweep(world.local) == []
    assert theirs.exists()
    assert empty.exists()


def test_the_keep_file_names_its_process(world: FetchBed) -> None:
    with Hold() as hold:
        hold.keep(world.local / "objects" / "pack" / "pack-x.keep")
        text = (world.local / "objects" / "pack" / "pack-x.keep").read_text()
        assert text.startswith("piehole ")
        assert len(text.split(".")) == 4
    assert leftovers(world.local) == []


def test_keep_files_go_when_the_caller_fails(world: FetchBed) -> None:
    tip = world.advance("two")
    with pytest.raises(KeyError), Hold() as hold:
        world.bring(str(world.peer), [tip], hold=hold)
        assert leftovers(world.local)
        raise KeyError
    assert leftovers(world.local) == []


def test_a_quarantine_in_use_is_not_swept(world: FetchBed) -> None:
    with Quarantine(world.local) as quarantine:
        assert sweep(world.local) == []
        assert quarantine.pack_directory.is_dir()
    assert not list((world.local / "objects").glob("piehole-quarantine-*"))


def test_a_pack_that_never_got_its_index_goes_with_its_keep_file(world: FetchBed) -> None:
    store = world.local / "objects" / "pack"
    stem = store / f"pack-{'7' * 40}"
    whole = store / f"pack-{'8' * 40}"
    for path in (
        stem.with_suffix(".pack"),
        stem.with_suffix(".rev"),
        whole.with_suffix(".pack"),
        whole.with_suffix(".idx"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for path in (stem, whole):
        path.with_suffix(".keep").write_bytes(KEEP_MARK + b"1\n")
    with Hold() as hold:
        living = store / f"pack-{'9' * 40}.keep"
        hold.keep(living)
        living.with_suffix(".pack").touch()
        assert sweep(world.local) == [stem.with_suffix(".keep"), whole.with_suffix(".keep")]
        assert sorted(path.name for path in store.iterdir()) == [
            *(f"{whole.name}.{kind}" for kind in ("idx", "pack")),
            *(f"{living.stem}.{kind}" for kind in ("keep", "pack")),
        ]


def test_a_keep_file_that_cannot_be_removed_hinders_nobody_and_is_swept_later(
    world: FetchBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = world.local / "objects" / "pack" / f"pack-{'7' * 40}.keep"
    keep.parent.mkdir(exist_ok=True)
    with monkeypatch.context() as full, Hold() as hold:
        hold.keep(keep)
        full.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        hold.__exit__(None, None, None)
    assert keep.exists()
    assert sweep(world.local) == [keep]
