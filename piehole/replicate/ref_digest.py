"""The digest of a site's refs, which a progress record carries: SHA-256 over the sorted lines ``OID SP REF LF``.

The site makes it of what its repository holds, a reader of what etcd holds. Both leave out what only one of them can know: refs that
the site excludes (it publishes its globs beside the digest), and refs whose value in etcd is no oid. A ref that the site alone has
is in the site's digest, so that equal digests also say that there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from piehole.refs import encode, is_managed, is_zero
from piehole.replicate.plan import DesiredState, Plan
from piehole.repository.repository import ObservedState


def digest(refs: Iterable[tuple[str, str]]) -> str:
    """
    :param refs: each ref with its oid
    """
    # In parts: one sort of 100,000 lines would hold up the threads that answer hooks for a tenth of a second.
    parts: dict[str, list[bytes]] = {}
    for ref, oid in refs:
        parts.setdefault(oid[:2], []).append(encode(f"{oid} {ref}\n"))
    total = hashlib.sha256()
    for part in sorted(parts):
        total.update(b"".join(sorted(parts[part])))
    return total.hexdigest()


def digest_of_group(desired: DesiredState) -> str:
    """The digest of a site that holds exactly this state."""
    return digest((ref, value.oid) for ref, value in desired.refs.items() if not is_zero(value.oid))


class HeldRefs:
    """The refs of a repository that a reconcile found to be as the group has them. A group may have 100,000 of them, so the digest is
    made where it is published, not while a push may be waiting.
    """

    def __init__(self, refs: Mapping[str, str], exclude: Sequence[str], locked: Collection[str]) -> None:
        self._refs: Mapping[str, str] = refs
        self._exclude = exclude
        self._locked = locked
        self._digest = ""

    def digest(self) -> str:
        """Make the digest, once; then the refs are forgotten."""
        if not self._digest:
            held = ((r, o) for r, o in self._refs.items() if r not in self._locked and is_managed(r, self._exclude))
            self._digest = digest(held)
            self._refs = {}
        return self._digest


def held_refs(
    planned: Plan, desired: DesiredState, observed: ObservedState, claimed: int, exclude: Sequence[str]
) -> HeldRefs | None:
    """What a full reconcile has observed, where that is what the group had at exactly the revision ``claimed``.

    The desired state was read after the refs. If it asks for no move, they were there already; if nothing in it is newer than the
    claim, it is also the group's state at the claim.
    """
    idle = not (planned.moves or planned.head or planned.stuck or planned.deferred)
    return HeldRefs(observed.refs, exclude, planned.locked) if idle and desired.newest <= claimed else None
