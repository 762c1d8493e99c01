"""What the version before has written on disk, in etcd and on the socket, as this version reads it; recorded from real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from piehole.fastpath import inflight
from piehole.group import ref_log, rollback_guard
from piehole.group.records import GroupRecord, Progress, PushRecord, RecordError, SiteRecord
from piehole.group.rollback_guard import Note
from piehole.push.hook_protocol import Malformed, parse
from piehole.push.swap import Basis

RECORDED = Path(__file__).parent / "recorded"
KEYS: dict[str, str] = json.loads((RECORDED / "keys.json").read_text())
TALKS: list[dict[str, list[str]]] = json.loads((RECORDED / "socket.json").read_text())


class _Record(Protocol):
    def dump(self) -> bytes: ...


_PARSERS: dict[str, Callable[[bytes], _Record]] = {
    "group/g": GroupRecord.parse,
    "progress/g/a": Progress.parse,
    "site/g/a": SiteRecord.parse,
    "site/g/left": SiteRecord.parse,
    "ref/g/@push": PushRecord.parse,
    "ref/g/@fence": PushRecord.parse,
}


@pytest.mark.parametrize("name", sorted(_PARSERS))
def test_a_record_in_etcd_is_read_and_written_with_the_same_fields(name: str) -> None:
    raw = KEYS[f"/piehole/{name}"]
    written = json.loads(_PARSERS[name](raw.encode()).dump())
    assert {field: written.get(field) for field in json.loads(raw)} == json.loads(raw)


@pytest.mark.parametrize("name", sorted(_PARSERS))
def test_fields_of_a_later_version_are_ignored_and_its_formats_refused_in_words(name: str) -> None:
    raw = json.loads(KEYS[f"/piehole/{name}"])
    _PARSERS[name](json.dumps({**raw, "of a later version": {"deep": [1]}}).encode())
    with pytest.raises(RecordError, match="Upgrade piehole on this server"):
        _PARSERS[name](json.dumps({**raw, "format": 3}).encode())


def test_a_site_that_left_is_known_to_have_left() -> None:
    assert SiteRecord.parse(KEYS["/piehole/site/g/left"].encode()).left
    assert not SiteRecord.parse(KEYS["/piehole/site/g/a"].encode()).left


def _in_flight(tmp_path: Path, text: str) -> inflight.Record:
    folder = tmp_path / inflight.FOLDER
    folder.mkdir(parents=True)
    (folder / "a-push").write_text(text)
    return inflight.Record(str(tmp_path), "a-push").load()


def test_a_push_that_was_under_way_is_understood(tmp_path: Path) -> None:
    record = _in_flight(tmp_path, (RECORDED / "inflight").read_text())
    assert record.push_id
    assert sorted(record.announced) == ["refs/heads/main", "refs/heads/side"]
    for one in record.announced.values():
        assert one.managed
        assert one.settled
        assert Basis.parse(one.ref, one.snapshot).dump() == one.snapshot


def test_an_in_flight_record_of_a_later_format_opens_nothing(tmp_path: Path) -> None:
    text = (RECORDED / "inflight").read_text().replace("piehole 1 ", "piehole 2 ", 1)
    with pytest.raises(OSError, match="piehole"):
        _in_flight(tmp_path, text)


def test_what_a_disk_remembers_is_read(tmp_path: Path) -> None:
    (tmp_path / "piehole").mkdir()
    for name, pushed in (("state.json", False), ("state-pushed.json", True)):
        (tmp_path / "piehole" / "state.json").write_text((RECORDED / name).read_text())
        state = rollback_guard.load(tmp_path)
        assert isinstance(state.published, Note)
        assert (state.pushed is not None) == pushed


def test_the_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "piehole").mkdir()
    (tmp_path / "piehole" / "log").write_text((RECORDED / "log").read_text())
    entries = list(ref_log.read(tmp_path))
    assert [entry.ref for entry in entries] == ["refs/heads/main"] * 2
    assert all(entry.site == "a" and entry.revision for entry in entries)


def test_the_questions_of_the_hooks_before_are_understood() -> None:
    asked = [talk["question"] for talk in TALKS if talk["question"][0] != "status"]
    assert {question[0] for question in asked} == {"admit", "propose"}
    for question in asked:
        parsed = parse(question)
        assert parsed.kind == question[0]
        assert parsed.commands[0][0] == "refs/heads/main"
        for (ref, _, _), text in zip(parsed.commands, parsed.snapshots, strict=False):
            assert Basis.parse(ref, text).dump() == text


def test_a_question_of_a_later_version_is_refused_in_words() -> None:
    question = next(talk["question"] for talk in TALKS if talk["question"][0] == "admit")
    assert parse([*question, "later something"]).kind == "admit", "an unknown line is ignored"
    with pytest.raises(Malformed, match="does not understand"):
        parse(["transfer", *question[1:]])
