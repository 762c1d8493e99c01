"""The keys of one push below @copies: which answers count, and what a swap compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, KeyValue
from piehole.group.config import Config
from piehole.group.replica import Replica
from piehole.push import request_keys
from piehole.push.request_keys import Request, RequestKeys

ONE, TWO = "1" * 40, "2" * 40
PUSH = "0123456789abcdef"
MEMBERS = {"a": "id-a", "b": "id-b", "c": "id-c", "unreadable": ""}


@pytest.fixture
def keys(tmp_path: Path) -> RequestKeys:
    config = Config(tmp_path, "g", "", "a", "id-a", "", ("http://127.0.0.1:1",))
    return RequestKeys(Replica.of(config, Etcd(config.etcd)))


def _key(name: str, value: object, revision: int = 10) -> KeyValue:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return KeyValue(f"/piehole/ref/g/@copies/{name}".encode(), raw, revision, revision, 1)


ASKED = _key(PUSH, {"site": "a", "oids": [ONE], "lease": "1f"}, 5)


def test_the_answer_of_a_member_counts(keys: RequestKeys) -> None:
    (found,) = keys.parse([ASKED, answer := _key(f"{PUSH}/b", {"id": "id-b"})], MEMBERS)
    assert (found.name, found.oids, found.lease, found.copies) == (PUSH, frozenset({ONE}), 0x1F, {"b": answer})


@pytest.mark.parametrize(
    "answer",
    [
        _key(f"{PUSH}/a", {"id": "id-a"}),  # this site
        _key(f"{PUSH}/b", {"id": "id-c"}),
        _key(f"{PUSH}/d", {"id": "id-d"}),  # no member
        _key(f"{PUSH}/unreadable", {"id": ""}),
        _key(f"{PUSH}/b", {"id": "id-b"}, 4),  # older than the request
        _key(f"{PUSH}/b", b"garbage"),
        _key(f"{PUSH}/b", {"id": "id-b", "format": 9}),
        _key(f"{PUSH}/b", {"id": ["id-b"]}),
        _key(f"{PUSH}/b/c", {"id": "id-b"}),
        _key(f"{PUSH}/", {"id": ""}),
        _key(f"{PUSH}-1/b", {"id": "id-b"}),  # to another request
    ],
)
def test_nothing_else_does(keys: RequestKeys, answer: KeyValue) -> None:
    (found,) = keys.parse([ASKED, answer], MEMBERS)
    assert found.copies == {}


@pytest.mark.parametrize(
    "request_",
    [
        {"site": "b", "oids": [ONE]},
        {"site": "a", "oids": []},
        {"site": "a", "oids": ["main"]},
        {"site": "a", "oids": [ONE], "lease": "none"},
        {"site": "a", "oids": [ONE], "format": 9},
        [],
        b"\xff",
    ],
)
def test_a_request_that_this_site_has_not_made_is_none(keys: RequestKeys, request_: object) -> None:
    assert keys.parse([_key(PUSH, request_, 5), _key(f"{PUSH}/b", {"id": "id-b"})], MEMBERS) == []


def test_all_keys_of_a_push_are_one_range(keys: RequestKeys) -> None:
    everything = keys.all_of(PUSH)
    own = request_keys.names(PUSH, 3, first=True) + request_keys.names(PUSH, 2, first=False)
    assert len(set(own)) == 5 and own[0] == PUSH
    others = [PUSH[:-1] + "e", PUSH[:-1] + "g", "a"]
    for name in own + others:
        for key in (keys.key(name), keys.key(name) + b"/b"):
            assert (everything.key <= key < everything.range_end) == (name in own)


def test_a_swap_compares_the_first_answers_and_no_more() -> None:
    answers = {site: _key(f"{PUSH}/{site}", {}, revision) for site, revision in (("b", 9), ("c", 7), ("d", 8))}
    request = Request(PUSH, frozenset({ONE}), 1, answers)
    expected = tuple(Compare(answers[site].key, mod_revision=answers[site].mod_revision) for site in ("c", "d"))
    assert request_keys.compares([request], (), 2) == expected
    assert request_keys.compares([request], (), 4) is None
    assert request_keys.compares([], (), 0) == ()
    # A site that is known to hold it says nothing that could be compared, and counts once.
    assert request_keys.compares([request], {"c", "e"}, 3) == expected[1:]
    assert request_keys.compares([], {"c", "e"}, 3) is None
    assert request_keys.some([request], TWO) == ()
