"""The state of a group: what conflicts with a name, and which keys a query asks for."""

from __future__ import annotations

import pytest

from piehole.etcd.model import KeyValue, Snapshot
from piehole.group.group_state import GroupState, StateQuery
from piehole.group.keys import Keyspace
from piehole.refs import Command

ZERO, ONE = "0" * 40, "1" * 40
SPACE = Keyspace("/p")


def state(**refs: str) -> GroupState:
    entries = {
        name.replace("__", "/"): KeyValue(b"", value.encode(), mod, mod, 1)
        for mod, (name, value) in enumerate(refs.items(), 1)
    }
    return GroupState(9, entries, None)


@pytest.mark.parametrize(
    ("ref", "other", "conflict"),
    [
        ("refs/heads/a", "refs__heads__a__b", True),
        ("refs/heads/a/b/c", "refs__heads__a", True),
        ("refs/heads/a", "refs__heads__ab", False),
        ("refs/heads/a", "refs__heads__a-b", False),
        ("refs/heads/a", "refs__heads__a", False),
        ("refs/heads/a/b", "refs__heads__a__c", False),
    ],
)
def test_names_conflict_where_one_is_a_folder_of_the_other(ref: str, other: str, conflict: bool) -> None:
    assert (state(**{other: ONE}).conflict(ref) is not None) is conflict


@pytest.mark.parametrize("tombstone", [ZERO, ZERO + "\n", "0" * 64])
def test_a_tombstone_conflicts_with_nothing(tombstone: str) -> None:
    assert state(refs__heads__a__b=tombstone).conflict("refs/heads/a") is None


def test_a_locked_ref_conflicts_too() -> None:
    assert state(refs__heads__a__b="frozen").conflict("refs/heads/a") == "refs/heads/a/b"


def test_an_absent_key_has_mod_revision_0_as_etcd_compares_it() -> None:
    assert state().mod("refs/heads/a") == 0
    assert state(refs__heads__a=ONE).mod("refs/heads/a") == 1


def asked(*commands: Command) -> list[tuple[bytes, bytes]]:
    query = StateQuery(SPACE, "g", "a", commands)
    return [(one.key, one.range_end) for one in query.ranges]


def test_a_creation_asks_for_all_names_above_and_below() -> None:
    ranges = asked(Command("refs/heads/a/b", ZERO, ONE))
    for key in (b"/p/ref/g/refs/heads/a", b"/p/ref/g/refs/heads", b"/p/ref/g/@push", b"/p/ref/g/@fence"):
        assert (key, b"") in ranges
    assert (b"/p/ref/g/refs/heads/a/b", b"/p/ref/g/refs/heads/a/b0") in ranges


def test_a_question_about_more_refs_than_a_transaction_takes_does_not_fit() -> None:
    few = [Command(f"refs/heads/b{n}", ONE, ONE) for n in range(100)]
    assert StateQuery(SPACE, "g", "a", few).fits
    assert not StateQuery(
        SPACE, "g", "a", [*few, *few[:0], *(Command(f"refs/x/{n}", ONE, ONE) for n in range(100))]
    ).fits


def test_an_answer_holds_this_group_s_keys_alone() -> None:
    query = StateQuery(SPACE, "g", "a", ())
    found = [
        KeyValue(b"/p/ref/g/refs/heads/a", b"x", 3, 3, 1),
        KeyValue(b"/p/ref/g/nested/refs/heads/a", b"y", 4, 4, 1),
        KeyValue(b"/p/group/g", b"{}", 2, 2, 1),
        KeyValue(b"/p/site/g/a", b"{}", 5, 5, 1),
    ]
    made = query.answer(7, [Snapshot(7, found, False, len(found))])
    assert set(made.entries) == {"refs/heads/a"}
    assert made.revision == 7
    assert made.group == found[2]
    assert made.site == found[3]
    assert made.progress is None
