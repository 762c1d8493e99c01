"""Prove all objects of one repository, slowly and in the background, and write down what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.files import locked
from piehole.group.replica import Replica
from piehole.refs import KEPT_REFS
from piehole.replicate.examination import claimed_tips
from piehole.repository import verification
from piehole.transfer import connectivity, pack_objects, proof
from piehole.transfer.pace import Pace
from piehole.transfer.proof import Proof


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof found. ``fault``: what is corrupt, in a few words; ``kept``: kept tips that are incomplete, each with the reason."""

    proof: Proof
    fault: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)


def prove(replica: Replica, pace: Pace, *, deep: bool) -> Proven:
    """Prove what this site claims to have: what its refs hold, what it holds for pushes of other sites, and what it has kept.

    :raises Stopped: by the pace; the next one goes on from there
    :raises PieholeError: another process proves this repository, or git cannot work on it at all
    :raises OSError: the result cannot be written
    """
    git_dir = replica.git_dir
    replica.repository.check_owner()
    with locked(git_dir / "piehole" / "verifying.lock", 0o644, Deadline(0.0)) as alone:
        if not alone:
            raise PieholeError(
                f"the objects of {git_dir} are being proven by another process right now. Wait for its end."
            )
        pack_objects.clear(git_dir)
        tips = claimed_tips(replica)
        found = proof.prove(git_dir, tips, replica.config.object_format, pace, deep=deep)
        fault = found.fault(git_dir)
        kept = {} if fault else _incomplete_kept_tips(replica, tips)
        damaged = [*found.damaged, *found.derived, *(git_dir / name for name in found.objects.values())]
        verification.record_proof(git_dir, fault, list(dict.fromkeys(damaged)), kept)
    return Proven(found, fault, kept)


def _incomplete_kept_tips(replica: Replica, tips: list[str]) -> dict[str, str]:
    """Kept tips whose history is not complete here. They are no refs of the group, so the site is in step all the same."""
    refs = replica.repository.observe().refs
    kept = {ref: oid for ref, oid in refs.items() if ref.startswith(KEPT_REFS)}
    if not kept:
        return {}
    oids = list(dict.fromkeys(kept.values()))
    # Without bases that check would take for complete whatever refs hold, these too.
    check = connectivity.check_closures(replica.git_dir, oids, bases=tips).missing if tips else None
    lost = connectivity.incomplete(replica.git_dir, oids) if check is None else check
    return {ref: "objects that it needs are missing here" for ref, oid in kept.items() if oid in lost}
