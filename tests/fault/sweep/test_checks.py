"""The checks of the sweep see each kind of broken promise in histories made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.sweep.checks import Value, chain, left, promises, together
from tests.fault.sweep.pushes import ZERO, Attempt, Outcome, outcome

REF, SIDE = "refs/heads/one", "refs/heads/two"


def push(name: str, made: Outcome, **moves: str) -> Attempt:
    refs = {"one": REF, "two": SIDE}
    return Attempt(name, "a", {refs[ref]: value for ref, value in moves.items()}, made, "")


def test_a_history_of_pushes_that_were_made_is_sound() -> None:
    attempts = [push("u1", "ok", one="A"), push("u2", "unknown", one="B"), push("u3", "ok", one=ZERO)]
    values = [Value(1, "A", "u1"), Value(2, "B", "u2"), Value(3, ZERO, "u3"), Value(4, None, "")]
    assert chain(REF, values, attempts) == []
    assert promises(attempts, {REF: values}) == []
    assert together(attempts, {REF: values}) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([Value(1, "A", "u1"), Value(2, "X", "")], "nobody pushed X"),
        ([Value(1, "A", "u1"), Value(2, "C", "u1")], "did not push C"),
        ([Value(1, "A", "u1"), Value(2, None, "")], "the key went"),
        ([Value(1, "A", "u1"), Value(2, "A", "u1")], "twice in a row"),
    ],
)
def test_a_value_that_nobody_brought_is_seen(values: list[Value], words: str) -> None:
    assert [fault for fault in chain(REF, values, [push("u1", "ok", one="A")]) if words in fault]


@pytest.mark.parametrize(
    ("made", "times", "kept"),
    [
        *(("ok", 0, False), ("ok", 1, True), ("ok", 2, False)),
        *(("unknown", 0, True), ("unknown", 1, True), ("unknown", 2, False)),
        *(("refused", 0, True), ("refused", 1, False)),
    ],
)
def test_each_outcome_promises_how_often_its_value_is_there(made: Outcome, times: int, kept: bool) -> None:
    values = [Value(revision, "A", "u1") for revision in range(1, times + 1)]
    assert (promises([push("u1", made, one="A")], {REF: values}) == []) == kept


def test_a_refused_push_that_took_effect_is_seen_though_the_next_one_of_the_same_value_was_acknowledged() -> None:
    attempts = [push("u1", "refused", one="A"), push("u2", "ok", one="A")]
    assert promises(attempts, {REF: [Value(1, "A", "u1")]})
    assert promises(attempts, {REF: [Value(1, "A", "u2")]}) == []


def test_half_of_an_atomic_pair_is_seen() -> None:
    pair = [push("u1", "ok", one="A", two="B")]
    assert together(pair, {REF: [Value(1, "A", "u1")], SIDE: [Value(1, "B", "u1")]}) == []
    assert together(pair, {REF: [Value(1, "A", "u1")], SIDE: []})
    assert together(pair, {REF: [Value(1, "A", "u1")], SIDE: [Value(2, "B", "u1")]})


@pytest.mark.parametrize(
    ("status", "said", "made"),
    [
        (0, "", "ok"),
        (1, "remote: piehole: stale: pull and push again\n", "refused"),
        (1, "remote: piehole: unknown: look (`git fetch`) before pushing again\n", "unknown"),
        (1, "piehole: accepted: refs/heads/one\nfatal: the remote end hung up", "unknown"),
        (1, "fatal: the remote end hung up unexpectedly\n", "unknown"),
        (1, "remote: error: cannot lock ref 'refs/heads/one'\n", "refused"),
    ],
)
def test_what_a_pusher_may_believe(status: int, said: str, made: Outcome) -> None:
    assert outcome(status, said) == made


def test_locks_and_scratch_files_are_seen_and_what_stays_on_purpose_is_not(tmp_path: Path) -> None:
    packs = tmp_path / "objects" / "pack"
    packs.mkdir(parents=True)
    (tmp_path / "piehole" / "inflight").mkdir(parents=True)
    for name in ("piehole/lock", "piehole/state.lock", "objects/pack/pack-1.pack", "objects/pack/pack-1.idx"):
        (tmp_path / name).touch()
    assert left(tmp_path) == []
    traces = [
        *("HEAD.lock", "objects/pack/pack-1.keep", "objects/pack/pack-2.pack", "objects/pack/tmp_pack_x"),
        *("objects/piehole-quarantine-x", "piehole/inflight/1.2.3", "piehole/state.json.tmp"),
    ]
    for name in traces:
        (tmp_path / name).touch()
    assert left(tmp_path) == sorted(traces)
