"""What a controller sees goes to the local log, also when that could not be written at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.chronicle import Chronicle
from piehole import journal, keys
from piehole.etcd.model import KeyValue
from piehole.oids import zero
from piehole.readout import Readout
from piehole.records import PushRecord

REF = "refs/heads/main"


def at(revision: int, value: str) -> Readout:
    push = PushRecord(f"push {revision}", "a", "somebody", "now")
    return Readout(
        revision,
        {
            REF: KeyValue(b"k", value.encode(), revision, 1, revision),
            keys.PUSH: KeyValue(b"p", push.dump(), revision, 1, revision),
        },
        None,
    )


def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chronicle = Chronicle(tmp_path, zero("sha1"), lambda _: None)
    chronicle.see(at(1, "1" * 40))
    assert chronicle.see(at(2, "2" * 40))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr(journal, "append", full)
        chronicle.write()
    assert chronicle.see(at(3, "3" * 40))
    chronicle.write()
    assert [entry.revision for entry in journal.read(tmp_path)] == [2, 3]
