"""The JSON records: what is written can be read, and what others added stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.group.records import GroupRecord, Progress, PushRecord, RecordError, SiteRecord

_PARSERS = (GroupRecord.parse, SiteRecord.parse, Progress.parse, PushRecord.parse)
_TEXT = st.text(st.characters(codec="utf-8"))


@given(_TEXT, _TEXT, st.booleans())
def test_a_site_record_comes_back(name: str, url: str, left: bool) -> None:
    found = SiteRecord.parse(SiteRecord(name, url, left).dump())
    assert (found.id, found.url, found.left) == (name, url, left)


@given(st.integers(min_value=0, max_value=2**63 - 1), _TEXT)
def test_progress_comes_back(revision: int, name: str) -> None:
    record = Progress(revision, name, "2024-01-01T00:00:00+00:00")
    assert Progress.parse(record.dump()) == record


def test_fields_that_others_added_stay() -> None:
    raw = json.dumps({"id": "x", "url": "/x", "note": "keep me", "left": True}).encode()
    came_back = replace(SiteRecord.parse(raw), left=False).dump()
    assert json.loads(came_back) == {"format": 1, "id": "x", "url": "/x", "note": "keep me"}
    group = GroupRecord.parse(b'{"id":"x","object_format":"sha1","motto":"open"}')
    assert json.loads(group.dump())["motto"] == "open"


def test_leaving_is_only_said_where_it_is_true() -> None:
    assert b"left" not in SiteRecord("x", "/x").dump()
    assert SiteRecord.parse(SiteRecord("x", "/x").leaving().dump()).left


@pytest.mark.parametrize("parse", _PARSERS)
@pytest.mark.parametrize(
    "raw", [b"", b"x", b"[]", b"1", b'"x"', b"{}", b"[" * 100_000, b'{"id":1}', b" " * 70_000, b"\xff"]
)
def test_what_is_no_record_is_refused_in_words(parse: object, raw: bytes) -> None:
    assert callable(parse)
    with pytest.raises(RecordError) as refused:
        parse(raw)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("parse", _PARSERS)
def test_a_newer_format_is_refused_in_words(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(RecordError, match="Upgrade piehole"):
        parse(b'{"format":3,"id":"x","url":"/x","object_format":"sha1","revision":1}')


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    for parse in _PARSERS:
        try:
            parse(raw)
        except RecordError:
            pass
