"""When a reconcile knows what its refs were at one revision, and that the digest is the one that the contract names."""

from __future__ import annotations

import hashlib

from piehole.etcd.model import KeyValue
from piehole.refs import HEAD
from piehole.replicate.plan import desired_state, plan
from piehole.replicate.ref_digest import HeldRefs, digest, digest_of_group, held_refs
from piehole.repository.repository import ObservedState

ONE, TWO, NONE = "1" * 40, "2" * 40, "0" * 40
A, B = "refs/heads/a", "refs/tags/b"


def held(
    keys: dict[str, tuple[str, int]], refs: dict[str, str], claimed: int, exclude: tuple[str, ...] = ()
) -> HeldRefs | None:
    entries = {name: KeyValue(name.encode(), value.encode(), mod, mod, 1) for name, (value, mod) in keys.items()}
    desired = desired_state(entries, "sha1", exclude)
    observed = ObservedState(dict(refs), head=A)
    planned = plan(desired, observed, object_format="sha1", exclude=exclude)
    found = held_refs(planned, desired, observed, claimed, exclude)
    if found is not None:
        known = {ref for ref, value in desired.refs.items() if value.oid != NONE}
        known_here = {ref for ref in refs if not ref.startswith(("refs/x/", "refs/piehole/"))} - desired.locked.keys()
        assert (digest_of_group(desired) == found.digest()) == (known_here == known)
    return found


def test_the_digest_is_over_sorted_lines() -> None:
    lines = f"{ONE} {B}\n{TWO} {A}\n".encode()
    assert digest([(A, TWO), (B, ONE)]) == digest([(B, ONE), (A, TWO)]) == hashlib.sha256(lines).hexdigest()


def test_refs_are_held_where_nothing_is_newer_than_the_claim_and_nothing_has_to_move() -> None:
    keys = {A: (ONE, 5), B: (NONE, 7), HEAD: (f"ref: {A}", 3)}
    assert held(keys, {A: ONE}, 7) is not None
    assert held(keys, {A: ONE}, 6) is None, "a change after the claim: the refs are past it"
    assert held(keys, {A: TWO}, 7) is None, "it has to move"
    assert held(keys, {A: ONE, B: ONE}, 7) is None, "it has to be deleted"


def test_a_ref_that_is_here_alone_is_in_the_digest_and_one_that_is_locked_or_excluded_is_not() -> None:
    keys = {A: (ONE, 5), "refs/heads/locked": ("by hand", 6), "refs/x/y": (TWO, 6)}
    here = {A: ONE, "refs/heads/locked": TWO, "refs/x/y": ONE, "refs/piehole/kept/" + ONE: ONE}
    found = held(keys, here, 6, ("refs/x/*",))
    assert found is not None
    assert found.digest() == digest([(A, ONE)])
    alone = held(keys, {**here, "refs/heads/mine": TWO}, 6, ("refs/x/*",))
    assert alone is not None
    assert alone.digest() == digest([(A, ONE), ("refs/heads/mine", TWO)])
