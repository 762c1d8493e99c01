"""Requests to drop an object, and which answers count."""

from __future__ import annotations

import json

from piehole.etcd.model import KeyValue
from piehole.group import drops
from piehole.group.drops import Outcome

OID = "a" * 40


def parse(**values: tuple[object, int]) -> dict[str, drops.DropRequest]:
    """:param values: by what comes after the oid: the value, and its mod_revision"""
    names = {name: f"@drop/{OID}{f'/{name}' if name != 'request' else ''}" for name in values}
    entries = {
        names[name]: KeyValue(b"", json.dumps(value).encode(), revision, revision, 1)
        for name, (value, revision) in values.items()
    }
    return drops.parse(entries, "sha1")


def test_an_answer_counts_for_the_request_before_it_and_from_the_site_s_present_repository() -> None:
    said = {"id": "one", "result": "dropped", "why": "", "more": 1}
    request = parse(request=({"pusher": "anna"}, 5), a=(said, 6), b=(said, 4), c=({"id": "one"}, 7))[OID]
    assert request.pusher == "anna"
    assert request.answer_of("a", "one") == Outcome("dropped")
    assert request.answer_of("a", "another") is None
    assert request.answer_of("b", "one") is None
    assert request.answer_of("c", "one") == Outcome("")
    assert request.answer_of("d", "one") is None


def test_an_answer_without_a_request_and_what_is_no_record_is_nothing() -> None:
    assert parse(a=({"id": "one"}, 6)) == {}
    assert parse(request=([], 6)) == {}
    assert parse(request=({"format": 99}, 6)) == {}
