from __future__ import annotations

import datetime

import pytest

from piehole.commands import losses
from piehole.commands.log import HAND, PUSH, LoggedMove
from piehole.commands.losses import Selection
from piehole.errors import UsageError
from piehole.group.ref_log import LogEntry
from piehole.refs import is_zero

NOW = datetime.datetime(2026, 1, 2, 12, 0, tzinfo=datetime.UTC)
A, B, C, NONE = "a" * 40, "b" * 40, "c" * 40, "0" * 40


def change(revision: int, ref: str, old: str, new: str, who: str = "anna", *, ago: int | None = 0) -> LoggedMove:
    """:param ago: seconds; None: no time is known, as for a change by hand"""
    time = "" if ago is None else (NOW - datetime.timedelta(seconds=ago)).isoformat()
    return LoggedMove(LogEntry(revision, ref, old, new, "a", who, time, "", f"push{revision}"), PUSH if who else HAND)


def lost(*changes: LoggedMove, who: str = "anna") -> dict[str, tuple[str, str, bool]]:
    """By ref: what it had, what it has instead, and whether somebody has moved it since. Newest change first."""
    found = losses.find(
        changes, lambda one: losses.account(one) == who, lambda one: is_zero(one.entry.new) or one.entry.new == C
    )
    return {one.ref: (one.old, one.new, one.later is not None) for one in found}


def test_a_ref_gets_what_it_had_before_the_first_bad_change() -> None:
    assert lost(change(3, "r", C, NONE), change(2, "r", B, C), change(1, "r", A, B)) == {"r": (B, NONE, False)}


def test_what_somebody_else_did_in_between_ends_the_run() -> None:
    assert lost(change(3, "r", B, NONE), change(2, "r", NONE, B, "bob"), change(1, "r", A, NONE)) == {
        "r": (B, NONE, False)
    }


def test_what_somebody_else_did_since_is_told() -> None:
    assert lost(change(2, "r", NONE, B, "bob"), change(1, "r", A, NONE)) == {"r": (A, NONE, True)}


def test_a_forward_move_a_creation_and_its_deletion_take_nothing_away() -> None:
    assert lost(change(3, "new", B, NONE), change(2, "new", NONE, B), change(1, "r", A, B)) == {"new": (B, NONE, False)}
    assert lost(change(1, "r", NONE, C)) == {}
    assert lost(change(1, "r", A, B)) == {}


def test_what_a_ref_had_may_be_unknown() -> None:
    assert lost(change(1, "r", "", NONE)) == {"r": ("", NONE, False)}


def test_only_changes_since_a_time_count_and_those_by_hand_by_their_place() -> None:
    changes = [
        change(5, "refs/h", A, NONE, "", ago=None),
        change(4, "refs/r", A, B, ago=10),
        change(3, "refs/r", A, B, ago=700),
        change(2, "refs/old", A, NONE, "", ago=None),
        change(1, "HEAD", A, B, ago=1),
    ]
    assert [one.entry.revision for one in losses.since(changes, losses.cutoff("10m", NOW))] == [5, 4]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", NOW - datetime.timedelta(seconds=90)),
        ("3d", NOW - datetime.timedelta(days=3)),
        ("2026-01-02T11:00:00+00:00", NOW - datetime.timedelta(hours=1)),
    ],
)
def test_a_time_may_be_relative_or_absolute(text: str, time: datetime.datetime) -> None:
    assert losses.cutoff(text, NOW) == time


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "yesterday", "999999999w", "2026-13-01"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        losses.cutoff(text, NOW)


def test_a_selection_names_pushes_by_id_or_revision_accounts_without_their_signature_and_sites() -> None:
    one = change(7, "r", A, NONE, "anna, signed by Anna <a@example.org>")
    for takes, selection in (
        (True, Selection(NOW)),
        (True, Selection(NOW, pushers=("anna",))),
        (False, Selection(NOW, pushers=("bob",))),
        (True, Selection(NOW, pushes=("push7",))),
        (True, Selection(NOW, pushes=("7",))),
        (False, Selection(NOW, pushes=("push",))),
        (False, Selection(NOW, pushes=("8",))),
        (True, Selection(NOW, sites=("a", "b"))),
        (False, Selection(NOW, pushers=("anna",), sites=("b",))),
    ):
        assert selection.takes(one, frozenset()) is takes
    assert Selection(NOW, pushes=("8",)).takes(one, frozenset({"push7"}))


def test_a_push_is_named_by_the_beginning_of_its_id_that_its_user_was_shown() -> None:
    whole = "0123456789abcdef" * 2
    one = LoggedMove(LogEntry(7, "r", A, NONE, "a", "anna", NOW.isoformat(), "", whole), PUSH)
    for named, takes in ((whole, True), (whole[:12], True), (whole[:11], False), (whole[1:13], False)):
        assert Selection(NOW, pushes=(named,)).takes(one, frozenset()) is takes
