"""Prove all objects of this site, and fetch from its peers what is damaged or missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.group import progress
from piehole.group.replica import Replica
from piehole.refs import is_managed
from piehole.replicate import examination, proving, repair
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.proving import Proven
from piehole.repository import verification
from piehole.repository.fitness import Fault
from piehole.transfer import connectivity, soundness
from piehole.transfer.pace import Pace

_PATIENCE: Final = 5.0  # seconds for etcd
_CONTROLLER: Final = 3600.0  # seconds for a controller that repairs what was just found


@dataclass(frozen=True, slots=True)
class ObjectsAudit:
    """What is known of this site's objects in the end. ``repaired``: what was damaged or missing, and is not any more."""

    proven: Proven
    deep: bool
    seconds: float
    repaired: str = ""
    why: str = ""
    refs: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""

    @property
    def sound(self) -> bool:
        return not (self.proven.fault or self.proven.kept)

    def findings(self) -> list[Fault]:
        """What is not as it should be, each with the command that fixes it."""
        found = []
        if self.proven.fault:
            why = f"; it could not be repaired: {self.why}" if self.why else ""
            found.append(
                Fault(
                    f"corrupt: {self.proven.fault}{why}",
                    f"`piehole audit --deep --repair {self.repository}` fetches it from another site, as a running controller does",
                )
            )
        found += [
            Fault(
                f"missing: {ref} is at {oid}, and not all that it needs is here",
                f"if no site has it (`piehole audit --deep` there), push it again, or delete the ref: `git push SITE :{ref}`",
            )
            for ref, oid in self.refs.items()
        ]
        found += [
            Fault(f"kept: {ref}: {why}", f"no other site that was asked has it; `git update-ref -d {ref}` gives it up")
            for ref, why in self.proven.kept.items()
        ]
        return found

    def as_json(self) -> dict[str, Any]:
        """The field ``objects`` of ``piehole audit --json`` (piehole.cli.audit)."""
        proof = self.proven.proof
        return {
            "sound": self.sound,
            "deep": self.deep,
            "bytes": proof.proven,
            "seconds": round(self.seconds, 1),
            "fault": self.proven.fault or None,
            "damaged": [str(path) for path in dict.fromkeys([*proof.damaged, *proof.derived])],
            "objects": dict(proof.objects),
            "missing": list(proof.missing),
            "refs": dict(self.refs),
            "kept": dict(self.proven.kept),
            "repaired": self.repaired or None,
            "not_repaired": self.why or None,
        }


def prove(
    replica: Replica,
    pace: Pace,
    *,
    deep: bool,
    mend: bool,
    local: bool,
) -> ObjectsAudit:
    """Prove this site's objects; with ``mend``, repair them and prove them again. Unless ``local``, the other sites are told.

    :raises Stopped: by the pace
    :raises EtcdError: the peers could not be looked up
    :raises PieholeError: git cannot work on this repository, or another process proves it right now
    """
    started = time.monotonic()
    found, repaired, why = proving.prove(replica, pace, deep=deep), "", ""
    if mend and (found.fault or found.kept):
        fetcher = ObjectFetcher(replica, PeerHealth())
        repairer = repair.Repairer(replica, fetcher, patience=_CONTROLLER)
        why = repairer.repair()
        if found.kept:
            repairer.fetch_kept()
        before, found = found, proving.prove(replica, pace, deep=deep)
        gained = sorted(before.kept.keys() - found.kept.keys())
        repaired = "; ".join([repairer.repaired] * bool(repairer.repaired) + gained)
    if not local and verification.untold(replica.git_dir):
        with suppress(PieholeError):  # the controller does it then, and the comparison of the sites says what is wrong
            progress.republish(replica, Deadline(_PATIENCE))
    refs = _incomplete(replica) if found.proof.walk else {}
    return ObjectsAudit(found, deep, time.monotonic() - started, repaired, why, refs, str(replica.git_dir))


def known_faults(replica: Replica) -> list[str]:
    """What is damaged or missing here, as far as earlier proofs and a short examination know. Writes nothing down."""
    found = soundness.examine(
        replica.git_dir, examination.claimed_tips(replica), replica.config.object_format, examination.THOROUGH
    )
    noted = [verification.corrupt(replica.git_dir), *map(str, verification.damaged(replica.git_dir))]
    kept = [f"{ref}: {why}" for ref, why in verification.incomplete_kept_tips(replica.git_dir).items()]
    return [fault for fault in dict.fromkeys([found.fault, *noted, *kept]) if fault]


def _incomplete(replica: Replica) -> dict[str, str]:
    """The refs whose history is not complete here."""
    held = replica.repository.observe().refs
    refs = {ref: oid for ref, oid in held.items() if is_managed(ref, replica.config.exclude)}
    lost = connectivity.incomplete(replica.git_dir, list(refs.values()))
    return {ref: oid for ref, oid in refs.items() if oid in lost}
