"""Examine the objects of this repository, and repair a corrupt one from its peers.

A corrupt repository is marked on its disk (:mod:`piehole.repository.verification`), and the mark is published: it is no source for
peers, no copy, and not in step. It is repaired by fetching all that a peer's refs hold, without relying on any object here.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import GitError, PieholeError
from piehole.group.replica import Replica
from piehole.refs import KEPT_REFS, is_managed
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.repository import verification
from piehole.repository.verification import CORRUPT, PARTLY, SOUND
from piehole.transfer import connectivity, damaged_files, soundness
from piehole.transfer.keep_files import Hold
from piehole.transfer.soundness import Soundness

QUICK: Final = 4.0  # seconds: for a command that somebody waits for
THOROUGH: Final = 30.0
_AFTER_REPAIR: Final = 600.0
_SUSPECT_EVERY: Final = 600.0  # seconds between two examinations because a reconcile met something odd
# Seconds after a repair that failed; doubled each time that all of a peer came and did not help.
_FIRST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 1800.0


def examine(replica: Replica, seconds: float) -> Soundness:
    """Examine what this site claims to have, the managed refs, and write down the result where this account may.

    :raises GitError: git cannot work on this repository at all
    """
    found = soundness.examine(replica.git_dir, _tips(replica), replica.config.object_format, seconds)
    try:
        replica.repository.check_owner()
        known = verification.corrupt(replica.git_dir)
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


def _tips(replica: Replica) -> list[str]:
    refs = replica.repository.observe().refs
    return list(dict.fromkeys(oid for ref, oid in refs.items() if is_managed(ref, replica.config.exclude)))


class Repairer:
    """Repairs one repository, in the turns of its reconciles."""

    def __init__(self, replica: Replica, fetcher: ObjectFetcher) -> None:
        self._replica = replica
        self._fetcher = fetcher
        self._next = 0.0
        self._wait = _FIRST_WAIT
        self._suspected_at = float("-inf")
        self._why = ""
        self._fetched = False
        self.repaired = ""  # what the last turn has repaired

    def suspect(self) -> None:
        """A reconcile could not get what it needs, or git failed: find out whether this repository is to blame."""
        if time.monotonic() - self._suspected_at < _SUSPECT_EVERY:
            return
        self._suspected_at = time.monotonic()
        try:
            examine(self._replica, THOROUGH)
        except GitError:
            pass  # git cannot even begin; the reconcile has said so

    def repair(self, stop: threading.Event | None = None) -> str:
        """Repair this repository where it is marked as corrupt; returns ``""``, or what is still corrupt and why.

        :raises EtcdError: the peers could not be looked up
        """
        self.repaired = ""
        marked = verification.corrupt(self._replica.git_dir)
        if not marked:
            self._wait = _FIRST_WAIT
            return ""
        if time.monotonic() < self._next and self._why:
            return self._why
        try:
            failed = self._from_peers(stop)
        except (GitError, OSError) as error:
            failed = str(error)
        if not failed and not verification.corrupt(self._replica.git_dir):
            self.repaired = marked
            self._why, self._wait, self._suspected_at = "", _FIRST_WAIT, float("-inf")
            return ""
        self._why = f"{marked}; it is not repaired yet: {failed}"
        self._next = time.monotonic() + self._wait
        if self._fetched:
            self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return self._why

    def _from_peers(self, stop: threading.Event | None) -> str:
        """Fetch everything from one peer after the other until nothing is missing; returns why that did not help."""
        replica, git_dir = self._replica, self._replica.git_dir
        damaged_files.remove_views(git_dir)
        self._fetched = False
        with Hold() as hold:
            found = examine(replica, _AFTER_REPAIR)
            reasons = []
            why = self._without(found, hold) if damaged_files.only_derived(found.damaged) else "nothing has come"
            if found.walk or why:
                for site, failed in self._fetcher.fetch_all(hold, stop):
                    self._fetched = self._fetched or not failed
                    why = failed or self._without(found, hold)
                    if not why:
                        break
                    reasons.append(f"{site}: {why}")
            left = examine(replica, _AFTER_REPAIR)
            if not left.fault:
                self._kept_tips(hold, stop)
        if left.fault:
            return "; ".join([*reasons, left.fault] if reasons else ["no other site can be asked", left.fault])
        verification.record(git_dir, SOUND if left.complete else PARTLY)
        return ""

    def _kept_tips(self, hold: Hold, stop: threading.Event | None) -> None:
        """Fetch what the tips that are kept here have lost, as far as a peer has kept them, too; what the refs hold is whole by now."""
        replica, tips = self._replica, _tips(self._replica)
        kept = [oid for ref, oid in replica.repository.observe().refs.items() if ref.startswith(KEPT_REFS)]
        lost = connectivity.check_closures(replica.git_dir, kept, bases=tips).missing if kept else ()
        self._fetcher.fetch_each(sorted(lost), tips, hold, stop)

    def _without(self, found: Soundness, hold: Hold) -> str:
        """Take the damaged files out, where everything is complete without them; ``""``, or what is missing."""
        replica, tips, deadline = self._replica, _tips(self._replica), Deadline(_AFTER_REPAIR)
        why = damaged_files.set_aside(
            replica.git_dir, found.damaged, tips, replica.config.object_format, hold, deadline
        )
        return why or soundness.broken_history(replica.git_dir, tips, deadline)[0]
