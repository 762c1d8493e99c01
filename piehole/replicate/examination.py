"""Examine the objects that this site claims to have. (A module of its own: a command that only looks loads nothing that repairs.)"""

from __future__ import annotations

from typing import Final

from piehole.errors import PieholeError
from piehole.group.replica import Replica
from piehole.refs import HELD_REFS, is_managed
from piehole.repository import verification
from piehole.repository.verification import CORRUPT, PARTLY, SOUND
from piehole.transfer import soundness
from piehole.transfer.soundness import Soundness

QUICK: Final = 4.0  # seconds: for a command that somebody waits for
THOROUGH: Final = 30.0


def examine(replica: Replica, seconds: float) -> Soundness:
    """Examine what this site claims to have, the managed refs, and write down the result where this account may.

    :raises GitError: git cannot work on this repository at all
    """
    found = soundness.examine(replica.git_dir, claimed_tips(replica), replica.config.object_format, seconds)
    try:
        replica.repository.check_owner()
        known = verification.corrupt(replica.git_dir)
        if known and not found.fault and verification.damaged(replica.git_dir):
            return found  # what a proof has found, an examination of the files cannot see
        # What the mark is about may lie beyond the time of this examination: only a complete one removes it.
        if found.fault:
            verification.record(replica.git_dir, CORRUPT, known or found.fault)
        elif found.complete or not known:
            verification.record(replica.git_dir, SOUND if found.complete else PARTLY)
    except (PieholeError, OSError):
        pass  # another account's, or a full disk: the caller tells what was found
    return found


def corrupt(replica: Replica, seconds: float) -> str:
    """What is corrupt here, by an examination of so many seconds or an earlier one; ``""`` where nothing is known to be."""
    return examine(replica, seconds).fault or verification.corrupt(replica.git_dir)


def claimed_tips(replica: Replica) -> list[str]:
    """What this site claims to have: what its refs hold, and what it holds for pushes of other sites."""
    refs = replica.repository.observe().refs
    exclude = replica.config.exclude
    return list(
        dict.fromkeys(oid for ref, oid in refs.items() if is_managed(ref, exclude) or ref.startswith(HELD_REFS))
    )
