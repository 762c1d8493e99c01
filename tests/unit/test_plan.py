"""The plan: pure, so its promises are tried on many groups and disks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from piehole.etcd.model import KeyValue
from piehole.refs import KEPT_REFS, Command
from piehole.replicate.plan import DesiredState, Plan, Value, desired_state, only, plan, without
from piehole.repository.repository import ObservedState

ZERO = "0" * 40
A, B, C = ("a" * 40, "b" * 40, "c" * 40)
_NAMES = st.lists(st.sampled_from("xyz"), min_size=1, max_size=3).map(lambda parts: "refs/heads/" + "/".join(parts))


def conflicting(one: str, other: str) -> bool:
    return one.startswith(f"{other}/") or other.startswith(f"{one}/")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[DesiredState, ObservedState, set[str]]:
    """Any keys at all; local refs that can stand beside each other, as on every disk."""
    names = draw(st.lists(_NAMES, unique=True, max_size=8))
    revisions = draw(st.permutations(range(1, len(names) + 1)))
    oids = st.sampled_from([A, B, C, ZERO])
    wanted = {
        name: Value(draw(oids), revision + 100, revision) for name, revision in zip(names, revisions, strict=True)
    }
    here: dict[str, str] = {}
    for name in draw(st.lists(_NAMES, unique=True, max_size=8)):
        if not any(conflicting(name, other) for other in here):
            here[name] = draw(st.sampled_from([A, B, C]))
    symbolic = {name: "refs/heads/q" for name in list(here) if draw(st.integers(0, 5)) == 0}
    for name in symbolic:
        del here[name]
    flying = set(draw(st.lists(_NAMES, max_size=2)))
    return DesiredState(wanted), ObservedState(here, symbolic), flying


def after(found: Plan, observed: ObservedState) -> dict[str, str]:
    """What the moves make of the local refs, deletions first; what is moved is from its present value."""
    refs = dict(observed.refs)
    for move in sorted(found.moves, key=lambda move: not move.deletes):
        assert refs.get(move.ref, ZERO) == move.old
        if move.deletes:
            del refs[move.ref]
        else:
            refs[move.ref] = move.new
    return refs


@settings(max_examples=600)
@given(worlds())
def test_every_key_is_in_step_afterwards_or_named(world: tuple[DesiredState, ObservedState, set[str]]) -> None:
    desired, observed, flying = world
    found = plan(desired, observed, object_format="sha1", in_flight=flying)
    refs = after(found, observed)
    for ref, value in desired.refs.items():
        if ref in found.stuck or ref in found.deferred:
            continue
        assert refs.get(ref, ZERO) == value.oid


@settings(max_examples=600)
@given(worlds())
def test_the_outcome_can_stand_on_a_disk(world: tuple[DesiredState, ObservedState, set[str]]) -> None:
    desired, observed, flying = world
    found = plan(desired, observed, object_format="sha1", in_flight=flying)
    names = [*after(found, observed), *observed.symbolic]
    assert not [(one, other) for one in names for other in names if conflicting(one, other)]


@settings(max_examples=600)
@given(worlds())
def test_a_ref_without_opinion_goes_only_to_make_room(world: tuple[DesiredState, ObservedState, set[str]]) -> None:
    desired, observed, flying = world
    found = plan(desired, observed, object_format="sha1", in_flight=flying)
    created = {move.ref for move in found.moves if not move.deletes}
    for ref in observed.refs:
        if ref not in desired.refs and ref not in after(found, observed):
            assert any(conflicting(ref, other) for other in created)
    assert not set(found.unadopted) & set(desired.refs)


@settings(max_examples=300)
@given(worlds())
def test_the_second_plan_is_quiet(world: tuple[DesiredState, ObservedState, set[str]]) -> None:
    desired, observed, _ = world
    found = plan(desired, observed, object_format="sha1")
    again = plan(desired, ObservedState(after(found, observed), observed.symbolic), object_format="sha1")
    assert again.moves == ()
    assert again.stuck.keys() == found.stuck.keys()


@settings(max_examples=300)
@given(worlds(), st.data())
def test_without_some_moves_nothing_goes_for_their_sake(
    world: tuple[DesiredState, ObservedState, set[str]], data: st.DataObject
) -> None:
    desired, observed, _ = world
    found = plan(desired, observed, object_format="sha1")
    dropped = set(data.draw(st.lists(st.sampled_from([move.ref for move in found.moves] or [""]))))
    left = without(found, {ref for ref in dropped if ref})
    created = {move.ref for move in left if not move.deletes}
    for move in left:
        assert move.ref not in dropped
        if move.deletes and move.ref not in desired.refs:
            assert any(conflicting(move.ref, other) for other in created)


def is_quiet(found: Plan) -> bool:
    return not (found.moves or found.head or found.deferred)


@given(worlds())
def test_an_empty_or_wrong_etcd_plans_nothing(world: tuple[DesiredState, ObservedState, set[str]]) -> None:
    _, observed, _ = world
    assert is_quiet(plan(DesiredState({}), observed, object_format="sha1"))


def test_of_conflicting_keys_the_one_created_first_wins() -> None:
    desired = DesiredState({"refs/heads/x": Value(A, 9, 2), "refs/heads/x/y": Value(B, 5, 1)})
    found = plan(desired, ObservedState({"refs/heads/x": A}), object_format="sha1")
    assert set(found.moves) == {Command("refs/heads/x", A, ZERO), Command("refs/heads/x/y", ZERO, B)}
    assert set(found.stuck) == {"refs/heads/x"}


def test_what_was_not_asked_for_waits() -> None:
    found = plan(
        DesiredState({"refs/heads/x": Value(A, 1, 1), "refs/heads/y": Value(B, 2, 2)}),
        ObservedState({}),
        object_format="sha1",
    )
    some = only(found, {"refs/heads/x"})
    assert [move.ref for move in some.moves] == ["refs/heads/x"]
    assert some.deferred == ("refs/heads/y",)


def entry(value: bytes, revision: int = 7) -> KeyValue:
    return KeyValue(b"", value, revision, 3, 1)


def test_keys_are_read_as_refs_locks_and_head() -> None:
    found = desired_state(
        {
            "refs/heads/main": entry(f"{A}\n".encode()),
            "refs/heads/gone": entry(ZERO.encode(), 9),
            "refs/heads/locked": entry(b"no oid"),
            "refs/heads/upper": entry(A.upper().encode()),
            "refs/heads/bad..name": entry(A.encode()),
            f"{KEPT_REFS}{A}": entry(A.encode()),
            "refs/heads/ci/1": entry(A.encode()),
            "HEAD": entry(b"ref: refs/heads/main"),
            "@push": entry(b"{}", 99),
            "@fence": entry(b"{}", 99),
        },
        "sha1",
        ["refs/heads/ci/*"],
    )
    assert {ref: value.oid for ref, value in found.refs.items()} == {"refs/heads/main": A, "refs/heads/gone": ZERO}
    assert set(found.locked) == {"refs/heads/locked", "refs/heads/upper", "refs/heads/bad..name", f"{KEPT_REFS}{A}"}
    assert found.head == "refs/heads/main"
    assert found.newest == 9


def test_a_head_that_is_none_is_locked() -> None:
    for value in (b"main", b"ref: ", b"ref: heads/main", A.encode(), b"ref: refs/heads/a b"):
        assert set(desired_state({"HEAD": entry(value)}, "sha1", ()).locked) == {"HEAD"}


def test_a_tombstone_under_a_push_in_flight_is_waited_for() -> None:
    desired = DesiredState({"refs/heads/x": Value(ZERO, 7, 3)})
    found = plan(desired, ObservedState({}, {}), object_format="sha1", in_flight={"refs/heads/x"})
    assert (found.moves, found.deferred) == ((), ("refs/heads/x",))
    assert is_quiet(plan(desired, ObservedState({}, {}), object_format="sha1"))
    # One that moves what is there already delays nothing: a repository that is always pushed to makes progress, too.
    busy = DesiredState({"refs/heads/x": Value(A, 7, 3)})
    assert is_quiet(
        plan(busy, ObservedState({"refs/heads/x": A}, {}), object_format="sha1", in_flight={"refs/heads/x"})
    )
