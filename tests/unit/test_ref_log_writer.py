"""What a controller sees goes to the local log, also when that could not be written at first."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from controller.cache import KeyChange
from controller.ref_log_writer import RefLogWriter
from piehole.etcd.model import KeyValue
from piehole.group import keys, ref_log
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.refs import zero

REF = "refs/heads/main"


def at(revision: int, value: str) -> GroupState:
    push = PushRecord(f"push {revision}", "a", "somebody", "now")
    return GroupState(
        revision,
        {
            REF: KeyValue(b"k", value.encode(), revision, 1, revision),
            keys.PUSH: KeyValue(b"p", push.dump(), revision, 1, revision),
        },
        None,
    )


def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RefLogWriter(tmp_path, zero("sha1"), lambda _: None, lambda _: None)
    writer.note(at(1, "1" * 40))
    writer.note(at(2, "2" * 40))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr(ref_log, "append", full)
        writer.write()
    writer.note(at(3, "3" * 40))
    writer.write()
    assert [entry.revision for entry in ref_log.read(tmp_path)] == [2, 3]


def test_what_came_and_went_between_two_looks_is_noted_with_who_pushed_it(tmp_path: Path) -> None:
    seen = [at(revision, str(revision) * 40).entries for revision in (1, 2, 3)]
    past = [
        (name, KeyChange(now[name].mod_revision, now[name].key, before[name], now[name]))
        for before, now in pairwise(seen)
        for name in (REF, keys.PUSH)
    ]
    deleted = [(REF, KeyChange(4, b"k", seen[2][REF], None))]
    known: list[tuple[str, KeyChange]] = []
    writer = RefLogWriter(tmp_path, zero("sha1"), lambda _: None, lambda _: known)
    writer.note(at(1, "1" * 40))
    known += past + deleted
    writer.note(at(3, "3" * 40))
    writer.write()
    assert [(entry.revision, entry.old, entry.new, entry.site) for entry in ref_log.read(tmp_path)] == [
        (2, "1" * 40, "2" * 40, "a"),
        (3, "2" * 40, "3" * 40, "a"),
    ]
