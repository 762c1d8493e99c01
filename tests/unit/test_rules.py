"""The five rules as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.errors import RESERVED
from piehole.push.rules import Accept, Refuse, Verdict, judge, out_of_bounds
from piehole.refs import Command, value_of

ZERO, A, B, C = "0" * 40, "a" * 40, "b" * 40, "c" * 40
OIDS = st.sampled_from([ZERO, A, B, C])
REFS = st.sampled_from(["refs/heads/main", "refs/tags/v1", "refs/notes/x"])


def verdict(
    old: str,
    new: str,
    consensus: str | None,
    *,
    ref: str = "refs/heads/main",
    conflict: str | None = None,
    forward: bool = False,
) -> Verdict:
    return judge(
        Command(ref, old, new),
        None if consensus is None else consensus.encode(),
        object_format="sha1",
        conflict=conflict,
        fast_forward=lambda _old, _new: forward,
    )


def token(found: Verdict) -> str:
    assert isinstance(found, Refuse)
    return found.token


def test_rule_1_what_the_group_has_already_is_accepted_without_writing() -> None:
    assert verdict(A, B, B) == Accept(writes=False)
    assert verdict(ZERO, B, B) == Accept(writes=False)
    assert verdict(A, ZERO, ZERO) == Accept(writes=False)


def test_rule_2_the_expected_value_is_swapped() -> None:
    for old, new, consensus in ((A, B, A), (A, ZERO, A), (ZERO, A, None), (ZERO, A, ZERO), (A, B, A + "\n")):
        assert verdict(old, new, consensus) == Accept(writes=True)


def test_rule_2_a_creation_needs_a_free_name() -> None:
    assert token(verdict(ZERO, A, None, conflict="refs/heads")) == "conflict"
    assert token(verdict(ZERO, A, ZERO, conflict="refs/heads/main/x")) == "conflict"
    assert verdict(A, B, A, conflict="refs/heads") == Accept(writes=True)


def test_rule_3_a_descendant_of_what_the_group_has_is_swapped() -> None:
    assert verdict(A, C, B, forward=True) == Accept(writes=True)
    assert verdict(ZERO, C, B, forward=True) == Accept(writes=True)


@pytest.mark.parametrize(
    ("ref", "new", "consensus"),
    [("refs/tags/v1", C, B), ("refs/heads/main", ZERO, B), ("refs/heads/main", C, ZERO)],
    ids=["a tag", "a deletion", "a tombstone"],
)
def test_rule_3_never_moves(ref: str, new: str, consensus: str) -> None:
    assert token(verdict(A, new, consensus, ref=ref, forward=True)) == "stale"


def test_rule_4_a_ref_that_the_group_does_not_have_is_unadopted() -> None:
    assert token(verdict(A, B, None, forward=True)) == "unadopted"
    assert token(verdict(A, ZERO, None)) == "unadopted"


def test_rule_5_anything_else_is_stale_and_says_what_to_catch_up_to() -> None:
    found = verdict(A, B, C)
    assert isinstance(found, Refuse)
    assert (found.token, found.wants) == ("stale", C)
    assert C in found.sentence


@pytest.mark.parametrize("value", ["", "x", "A" * 40, "a" * 39, "a" * 64, "a" * 40 + "\n\n", "a" * 40 + " ", "\udcff"])
def test_what_is_no_oid_locks_the_ref(value: str) -> None:
    found = judge(
        Command("refs/heads/main", A, B),
        value.encode("utf-8", "surrogateescape"),
        object_format="sha1",
        conflict=None,
        fast_forward=lambda _old, _new: True,
    )
    assert token(found) == "locked"


@given(REFS, OIDS, OIDS, st.none() | OIDS, st.booleans())
def test_nothing_is_written_over_a_value_that_the_push_does_not_know_unless_it_is_contained(
    ref: str, old: str, new: str, consensus: str | None, forward: bool
) -> None:
    found = verdict(old, new, consensus, ref=ref, forward=forward)
    if isinstance(found, Accept) and found.writes:
        current = consensus or ZERO
        assert current == old or (forward and not ref.startswith("refs/tags/") and ZERO not in (current, new))
    if isinstance(found, Accept) and not found.writes:
        assert (consensus or ZERO) == new


@given(OIDS, OIDS)
def test_an_emptied_etcd_lets_nothing_that_exists_move(old: str, new: str) -> None:
    if old != ZERO:
        assert token(verdict(old, new, None, forward=True)) == "unadopted"


def test_a_sha256_oid_is_none_of_a_sha1_repository() -> None:
    assert value_of(b"a" * 64, "sha256") == "a" * 64
    with pytest.raises(ValueError, match="aaa"):
        value_of(b"a" * 64, "sha1")


def test_what_no_push_may_touch_is_reserved_whatever_the_group_says() -> None:
    for found in (
        out_of_bounds("refs/piehole/kept/x", symbolic=False, namespace=""),
        out_of_bounds("refs/heads/main", symbolic=True, namespace=""),
        out_of_bounds("refs/heads/main", symbolic=False, namespace="tenant"),
    ):
        assert token(found or Accept(writes=True)) == RESERVED
    assert out_of_bounds("refs/pieholes/x", symbolic=False, namespace="") is None
