"""The checker on histories made by hand: each rule sees what it is for, and sound histories have nothing against them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault.history.checker import check
from tests.fault.history.evidence import Ending, Evidence, Look
from tests.fault.history.operations import ZERO, Change, Operation, Outcome, outcome_of
from tests.fault.history.past import Event
from tests.fault.history.schedule import KINDS, schedule

MAIN = "refs/heads/main"
DEV = "refs/heads/dev"
A, B, C, D = (letter * 40 for letter in "abcd")
PARENTS = {A: "", B: A, C: B, D: A}


class Story:
    """Operations and revisions, one second each. ``push`` is taken by the consensus; ``told`` alone is not."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.events: list[Event] = []
        self.revision = 10
        self._versions: dict[str, int] = {}

    def told(self, outcome: Outcome, *changes: tuple[str, str, str], by_hand: bool = False) -> Operation:
        number = len(self.operations) + 1
        listed = tuple(Change(*change) for change in changes)
        one = Operation(f"op{number}", "own", "a", listed, number, number + 0.5, outcome, by_hand=by_hand)
        self.operations.append(one)
        return one

    def push(self, *changes: tuple[str, str, str], outcome: Outcome = "ok") -> Operation:
        one = self.told(outcome, *changes)
        self.takes(one.name, *((ref, new) for ref, _, new in changes))
        return one

    def takes(self, pusher: str, *values: tuple[str, str | None]) -> int:
        """A revision that a push of this name made."""
        return self._write([*values, ("@push", json.dumps({"pusher": pusher, "id": "1"}))])

    def by_hand(self, ref: str, value: str | None) -> int:
        return self._write([(ref, value)])

    def reaped(self, ref: str) -> int:
        return self._write([(ref, None), ("@fence", json.dumps({"kind": "reaped"}))])

    def _write(self, values: Sequence[tuple[str, str | None]]) -> int:
        self.revision += 1
        for name, value in values:
            version = 0 if value is None else self._versions.get(name, 0) + 1
            self._versions[name] = version
            self.events.append(Event(self.revision, name, value, version))
        return self.revision

    def rules(self, looks: Sequence[Look] = (), endings: Sequence[Ending] = ()) -> list[str]:
        return [one.rule for one in check(Evidence(self.operations, self.events, PARENTS, looks, endings))]


@pytest.fixture
def story() -> Story:
    """main is at A."""
    story = Story()
    story.push((MAIN, ZERO, A))
    return story


def test_a_sound_history_has_nothing_against_it(story: Story) -> None:
    story.push((MAIN, A, B), (DEV, ZERO, D))
    story.told("refused", (MAIN, A, C))
    story.told("unknown", (MAIN, A, C))
    story.push((DEV, D, ZERO), outcome="unknown")
    story.reaped(DEV)
    looks = [Look("a", {MAIN: A}, 11), Look("b", {MAIN: B, DEV: D}, 12), Look("b", {MAIN: B}, 14)]
    assert story.rules(looks, [Ending("a", {MAIN: B}, frozenset({A, B, D}))]) == []


def test_an_acknowledged_push_that_is_not_there_is_lost(story: Story) -> None:
    story.told("ok", (MAIN, A, B))
    assert story.rules() == ["lost"]


def test_an_acknowledged_push_of_a_ref_that_nobody_has_written_is_lost(story: Story) -> None:
    story.told("ok", (DEV, ZERO, D))
    assert story.rules() == ["lost"]


def test_a_deletion_of_what_an_unknown_one_has_deleted_is_not_lost(story: Story) -> None:
    story.push((DEV, ZERO, D))
    story.push((DEV, D, ZERO), outcome="unknown")
    story.told("ok", (DEV, D, ZERO))
    assert story.rules() == []


def test_a_deletion_after_the_ref_came_back_is_lost(story: Story) -> None:
    story.push((DEV, ZERO, D))
    story.push((DEV, D, ZERO), outcome="unknown")
    story.push((DEV, ZERO, D))
    story.told("ok", (DEV, D, ZERO))
    assert story.rules() == ["lost"]


def test_a_deletion_before_the_ref_was_gone_is_lost(story: Story) -> None:
    story.push((DEV, ZERO, D))
    story.told("ok", (DEV, D, ZERO))
    story.push((DEV, D, ZERO), outcome="unknown")
    assert story.rules() == ["lost"]


def test_a_refused_push_that_is_there_is_seen(story: Story) -> None:
    story.push((MAIN, A, B), outcome="refused")
    assert story.rules() == ["refused"]


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_a_push_that_is_there_twice_is_seen(story: Story, outcome: Outcome) -> None:
    one = story.push((MAIN, A, B), outcome=outcome)
    story.by_hand(MAIN, A)
    story.operations.append(Operation("hand", "put", "", (Change(MAIN, "", A),), 3, 4, "ok", by_hand=True, revision=13))
    story.takes(one.name, (MAIN, B))
    assert "twice" in story.rules()


def test_a_swap_that_compared_nothing_is_a_fork(story: Story) -> None:
    story.push((MAIN, A, B))
    story.push((MAIN, A, D))
    assert story.rules() == ["fork"]


def test_a_deletion_that_compared_nothing_is_a_fork(story: Story) -> None:
    story.push((MAIN, A, B))
    story.push((MAIN, A, ZERO))
    assert story.rules() == ["fork"]


def test_a_push_of_a_descendant_of_what_the_group_had_is_no_fork(story: Story) -> None:
    story.push((MAIN, A, B))
    story.push((MAIN, A, C))
    assert story.rules() == []


def test_half_an_atomic_pair_is_seen(story: Story) -> None:
    one = story.told("ok", (MAIN, A, B), (DEV, ZERO, D))
    story.takes(one.name, (MAIN, B))
    assert story.rules() == ["half"]


def test_a_pair_in_two_revisions_is_seen(story: Story) -> None:
    one = story.told("ok", (MAIN, A, B), (DEV, ZERO, D))
    story.takes(one.name, (MAIN, B))
    story.takes(one.name, (DEV, D))
    assert story.rules() == ["half", "half", "twice"]


@pytest.mark.parametrize("value", [B, ZERO, None])
def test_a_change_that_nobody_asked_for_is_seen(story: Story, value: str | None) -> None:
    story.by_hand(MAIN, value)
    assert story.rules() == ["unasked"]


def test_the_push_of_a_stranger_is_seen(story: Story) -> None:
    story.takes("root", (MAIN, ZERO))
    assert story.rules() == ["unasked"]


def test_a_reaping_of_what_lives_is_seen(story: Story) -> None:
    story.reaped(MAIN)
    assert story.rules() == ["unasked"]


def test_an_administrator_may_do_anything(story: Story) -> None:
    for value in (B, "locked", None, A):
        revision = story.by_hand(MAIN, value)
        one = story.told("ok", by_hand=True)
        story.operations[-1] = replace(one, changes=(Change(MAIN, "", value),), revision=revision)
    assert story.rules() == []


def test_what_an_administrator_was_not_told_may_have_happened_or_not(story: Story) -> None:
    for _ in range(2):
        one = story.told("unknown", by_hand=True)
        story.operations[-1] = replace(one, changes=(Change(MAIN, "", None),))
    story.by_hand(MAIN, None)
    assert story.rules() == []


def test_a_push_that_ended_before_another_began_comes_before_it(story: Story) -> None:
    late = story.told("ok", (DEV, ZERO, D))
    story.push((MAIN, A, B))
    story.takes(late.name, (DEV, D))
    assert story.rules() == ["order"]


def test_pushes_at_the_same_time_come_in_any_order(story: Story) -> None:
    late = story.told("ok", (DEV, ZERO, D))
    story.push((MAIN, A, B))
    story.operations[-2] = replace(late, ended=9.0)
    story.takes(late.name, (DEV, D))
    assert story.rules() == []


def test_an_unknown_push_may_come_late(story: Story) -> None:
    late = story.told("unknown", (DEV, ZERO, D))
    story.push((MAIN, A, B))
    story.takes(late.name, (DEV, D))
    assert story.rules() == []


def test_an_event_that_the_recorder_missed_is_seen(story: Story) -> None:
    story.push((MAIN, A, B))
    story.push((MAIN, B, C))
    story.events = [event for event in story.events if event.value != B]
    assert "gap" in story.rules()


def test_a_value_that_the_group_never_had_is_seen(story: Story) -> None:
    assert story.rules([Look("b", {MAIN: B})]) == ["invented"]


def test_a_ref_that_goes_away_without_a_tombstone_is_seen(story: Story) -> None:
    looks = [Look("b", {MAIN: A}), Look("a", {}), Look("b", {})]
    assert story.rules(looks) == ["vanished"]
    story.push((MAIN, A, ZERO))
    assert story.rules(looks) == []


def test_progress_that_runs_ahead_of_the_refs_is_seen(story: Story) -> None:
    story.push((MAIN, A, B))
    assert story.rules([Look("b", {MAIN: A}, 11)]) == []
    assert story.rules([Look("b", {MAIN: A}, 12)]) == ["early"]
    assert story.rules([Look("b", {}, 11)]) == ["early"]
    assert story.rules([Look("b", {MAIN: B}, 11)]) == []


def test_progress_may_pass_a_ref_that_was_locked_before_it_was_claimed(story: Story) -> None:
    story.push((MAIN, A, B))
    revision = story.by_hand(MAIN, "locked")
    one = story.told("ok", by_hand=True)
    story.operations[-1] = replace(one, changes=(Change(MAIN, "", "locked"),), revision=revision)
    assert story.rules([Look("b", {MAIN: A}, 12, claimed=14)]) == []
    assert story.rules([Look("b", {MAIN: A}, 12, claimed=13)]) == ["early"]


def test_sites_that_differ_in_the_end_are_seen(story: Story) -> None:
    fine = frozenset({A})
    assert story.rules(endings=[Ending("a", {MAIN: A}, fine), Ending("b", {}, fine)]) == ["diverged"]
    assert story.rules(endings=[Ending("a", {MAIN: A, DEV: A}, fine)]) == ["diverged"]


def test_a_damaged_repository_is_seen(story: Story) -> None:
    assert story.rules(endings=[Ending("a", {MAIN: A}, frozenset({A}), "missing blob")]) == ["unsound"]


def test_a_controller_that_crashed_is_seen(story: Story) -> None:
    assert story.rules(endings=[Ending("a", {MAIN: A}, frozenset({A}), crash="Traceback")]) == ["crashed"]


def test_a_commit_that_is_reachable_no_more_where_it_was_acknowledged_is_seen(story: Story) -> None:
    story.push((MAIN, A, B))
    story.push((MAIN, B, D))
    assert story.rules(endings=[Ending("a", {MAIN: D}, frozenset({A, D}))]) == ["dropped"]
    assert story.rules(endings=[Ending("b", {MAIN: D}, frozenset({A, D}))]) == []
    seen = [Look("b", {MAIN: B})]
    assert story.rules(seen, [Ending("b", {MAIN: D}, frozenset({A, D}))]) == ["dropped"]


@pytest.mark.parametrize(
    ("status", "words", "outcome"),
    [
        (0, "piehole: accepted: refs/heads/main", "ok"),
        (1, "remote: piehole: stale: pull", "refused"),
        (1, "! [rejected] (stale info)", "refused"),
        (1, "piehole: unknown: look", "unknown"),
        (1, "piehole: accepted: refs/heads/main\nKilled", "unknown"),
        (128, "the remote end hung up unexpectedly", "unknown"),
        (1, "piehole: stale: a\npiehole: unknown: b", "unknown"),
    ],
)
def test_only_who_was_told_no_was_refused(status: int, words: str, outcome: str) -> None:
    assert outcome_of(status, words) == outcome


@given(st.integers(), st.floats(min_value=60, max_value=600))
def test_a_seed_gives_one_schedule(seed: int, seconds: float) -> None:
    faults = schedule(seed, seconds)
    assert faults == schedule(seed, seconds)
    assert all(0 < fault.at < seconds and fault.at + fault.lasts <= seconds + 0.02 for fault in faults)
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS[: len(KINDS)]) or len(faults) < len(KINDS)
