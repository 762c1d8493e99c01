"""The basis of a swap as it lies in the in-flight record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.etcd.model import KeyValue
from piehole.group.group_state import GroupState
from piehole.push.swap import Basis
from piehole.refs import Command, parents

ZERO, ONE = "0" * 40, "1" * 40
NUMBERS = st.integers(0, 2**62)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.lists(NUMBERS, min_size=2, max_size=2), st.booleans())
def test_what_was_written_is_read_back(
    revision: int, ref: int, group: int, site: int, fence: int, mods: list[int], writes: bool
) -> None:
    name = "refs/heads/a/b"
    basis = Basis(revision, ref, group, site, fence, tuple(zip(parents(name), mods, strict=True)), writes)
    assert " " not in basis.dump()
    assert Basis.parse(name, basis.dump()) == basis


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "null",
        "[1,2,3,4,5,[],1",
        "[1,2,3,4,5,[1,2,3,4,5],1]",
        '["1",2,3,4,5,[],1]',
        "[1,2,3,4]",
        "7",
        "[1,2,3,4,5,6,1]",
        "[1,2,3,4,[],1]",
    ],
)
def test_a_damaged_basis_is_a_value_error(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"\S|^$"):
        Basis.parse("refs/heads/a", damaged)


def test_a_creation_compares_the_names_above_and_others_do_not() -> None:
    state = GroupState(
        9,
        {"refs/heads": KeyValue(b"", b"x", 4, 4, 1)},
        KeyValue(b"", b"{}", 2, 2, 1),
        site=KeyValue(b"", b"{}", 3, 3, 1),
    )
    creation = Basis.of(Command("refs/heads/a", ZERO, ONE), state, writes=True)
    assert creation == Basis(9, 0, 2, 3, 0, (("refs/heads", 4),), True)
    assert Basis.of(Command("refs/heads/a", ONE, ZERO), state, writes=True).parents == ()
