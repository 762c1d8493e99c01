"""Did etcd go back, did this disk? Whatever is killed when, a sound site never halts; whatever is restored, it does."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.errors import PieholeError
from piehole.group import rollback_guard
from piehole.group.config import Config
from piehole.group.records import GroupRecord, Progress, SiteRecord
from piehole.group.rollback_guard import DiskState, Note

CONFIG = Config(Path("/x"), "g", "group-id", "oslo", "site-id", "/x", ("e:1",))


def verdict(disk: DiskState, etcd: Progress | None, revision: int = 10**6) -> bool:
    """Whether the site halts."""
    return rollback_guard.check_progress(CONFIG, disk, etcd.dump() if etcd else None, revision) is not None


# Each publishing is: write the announcement to disk; send; perhaps it arrives; perhaps the answer does.
_STEPS = st.lists(st.sampled_from(["killed before sending", "refused", "answer lost", "done"]), max_size=30)


@given(_STEPS)
def test_a_sound_site_never_halts_whenever_it_is_killed(steps: list[str]) -> None:
    disk, etcd = DiskState(), None
    for revision, step in enumerate(steps):
        assert not verdict(disk, etcd)
        if etcd is not None:
            disk = disk.with_found(etcd.id)
        disk = disk.with_pending(revision)
        if step in ("answer lost", "done"):
            etcd = Progress(revision, disk.pending[-1].id, "")
        if step == "done":
            disk = disk.with_confirmed()
    assert not verdict(disk, etcd)


def published(revision: int, disk: DiskState | None = None) -> tuple[DiskState, Progress]:
    announced = (disk or DiskState()).with_pending(revision)
    return announced.with_confirmed(), Progress(revision, announced.pending[-1].id, "")


def test_an_etcd_that_went_back_halts_also_after_its_revision_was_overtaken() -> None:
    disk, old = published(5)
    disk, new = published(9, disk)
    assert not verdict(disk, new)
    assert verdict(disk, old)
    assert verdict(disk, None)
    assert verdict(disk, new, revision=8)


def test_a_push_that_was_taken_here_is_remembered_until_a_record_vouches_for_it() -> None:
    disk, etcd = published(5)
    disk = disk.with_push(Note(8, "push")).with_push(Note(7, "earlier"))
    assert disk.pushed == Note(8, "push")
    assert verdict(disk, etcd, revision=7), "etcd has not come as far as the push"
    assert not verdict(disk, etcd, revision=8)
    announced = disk.with_pending(5)
    assert announced.pushed == announced.with_found(announced.pending[-1].id).pushed == Note(8, "push")
    assert announced.with_confirmed().pushed is None
    assert verdict(announced.with_confirmed(), etcd), (
        "what etcd held before is told by the id, though the revision is the same"
    )


def test_a_disk_that_went_back_halts() -> None:
    old, _ = published(5)
    _, etcd = published(9, old)
    found = rollback_guard.check_progress(CONFIG, old, etcd.dump(), 20)
    assert found is not None
    assert "restored from a backup" in str(found)


def test_a_site_that_knows_nothing_and_finds_nothing_may_begin() -> None:
    assert not verdict(DiskState(), None)
    assert verdict(DiskState(), Progress(1, "foreign", ""))


def test_the_groups_and_the_sites_records_must_be_this_ones() -> None:
    group = GroupRecord("group-id", "sha1").dump()
    assert rollback_guard.check_group(CONFIG, group) is None
    for raw in (None, b"x", GroupRecord("another", "sha1").dump()):
        assert rollback_guard.check_group(CONFIG, raw) is not None
    assert rollback_guard.check_site(CONFIG, SiteRecord("site-id", "/x").dump()) is None
    assert rollback_guard.check_site(CONFIG, None) is None
    for raw in (b"x", SiteRecord("another", "/y").dump(), SiteRecord("site-id", "/x", left=True).dump()):
        assert rollback_guard.check_site(CONFIG, raw) is not None


def test_the_state_comes_back_from_the_disk(tmp_path: Path) -> None:
    assert rollback_guard.load(tmp_path) == DiskState()
    state = published(3)[0].with_pending(4).with_push(Note(9, "push"))
    rollback_guard.save(tmp_path, state)
    assert rollback_guard.load(tmp_path) == state
    assert [path.name for path in (tmp_path / "piehole").iterdir()] == ["state.json"]


def test_what_a_writer_that_was_killed_has_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying, pytest.raises(Killed):
        dying.setattr(Path, "replace", killed)
        rollback_guard.save(tmp_path, DiskState())
    assert rollback_guard.load(tmp_path) == DiskState()
    state = published(3)[0]
    rollback_guard.save(tmp_path, state)
    assert rollback_guard.load(tmp_path) == state
    assert [path.name for path in (tmp_path / "piehole").iterdir()] == ["state.json"]


@pytest.mark.parametrize(("folder", "file"), [(0o700, 0o600), (0o2750, 0o640), (0o2755, 0o644)])
def test_whoever_may_enter_the_folder_may_read_the_state(tmp_path: Path, folder: int, file: int) -> None:
    (tmp_path / "piehole").mkdir()
    (tmp_path / "piehole").chmod(folder)
    rollback_guard.save(tmp_path, DiskState())
    assert stat.S_IMODE((tmp_path / "piehole" / "state.json").stat().st_mode) == file


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"published":1,"pending":[]}', '{"published":null,"pending":[{}]}'])
def test_a_damaged_state_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "piehole").mkdir()
    (tmp_path / "piehole" / "state.json").write_text(text)
    with pytest.raises(PieholeError, match="piehole accept"):
        rollback_guard.load(tmp_path)


def test_what_etcd_holds_is_never_forgotten_however_many_writes_fail() -> None:
    disk, _ = published(1)
    disk = disk.with_pending(2)
    etcd = Progress(2, disk.pending[-1].id, "")  # it arrived, and the answer was lost
    for revision in range(3, 60):
        disk = disk.with_found(etcd.id).with_pending(revision)
        assert not verdict(disk, etcd)
