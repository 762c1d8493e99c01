"""Repair a corrupt repository from its peers.

A corrupt repository is marked on its disk (:mod:`piehole.repository.verification`), and the mark is published: it is no source for
peers, no copy, and not in step. It is repaired by fetching all that a peer's refs hold, without relying on any object here.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.files import locked
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.refs import HELD_REFS, KEPT_REFS, is_managed
from piehole.replicate.examination import THOROUGH, examine
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.repository import verification
from piehole.repository.verification import PARTLY, SOUND
from piehole.transfer import connectivity, damaged_files, rebuild, soundness
from piehole.transfer.keep_files import Hold
from piehole.transfer.soundness import Soundness

_AFTER_REPAIR: Final = 600.0
_SUSPECT_EVERY: Final = 600.0  # seconds between two examinations because a reconcile met something odd,
_NEW_SYMPTOM: Final = 10.0  # and where it is odd in another way; but at least
_SHARE: Final = 10.0  # so many times as long as the last examination took
# Seconds after a repair that failed; doubled each time that all of a peer came and did not help.
_FIRST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 1800.0


def _tips(replica: Replica) -> list[str]:
    refs = replica.repository.observe().refs
    return list(dict.fromkeys(oid for ref, oid in refs.items() if is_managed(ref, replica.config.exclude)))


class Repairer:
    """Repairs one repository, in the turns of its reconciles."""

    def __init__(self, replica: Replica, fetcher: ObjectFetcher, patience: float = 0.0) -> None:
        """
        :param patience: seconds to wait for another process that repairs this repository
        """
        self._patience = patience
        self._replica = replica
        self._fetcher = fetcher
        self._next = 0.0
        self._wait = _FIRST_WAIT
        self._suspected_at = float("-inf")
        self._symptom = ""
        self._took = 0.0
        self._why = ""
        self._fetched = False
        self.repaired = ""  # what the last turn has repaired

    def suspect(self, symptom: str) -> None:
        """A reconcile could not get what it needs, or git failed: find out whether this repository is to blame.

        What goes on for long is looked at seldom, and what is new soon: something may have been lost since the last time.
        """
        pause = _SUSPECT_EVERY if symptom == self._symptom else max(_NEW_SYMPTOM, _SHARE * self._took)
        started = time.monotonic()
        if started - self._suspected_at < min(pause, _SUSPECT_EVERY):
            return
        self._suspected_at, self._symptom = started, symptom
        try:
            examine(self._replica, THOROUGH)
        except GitError:
            pass  # git cannot even begin; the reconcile has said so
        self._took = time.monotonic() - started

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
            failed = self._alone(stop)
        except (GitError, OSError) as error:
            failed = str(error)
        if not failed and not verification.corrupt(self._replica.git_dir):
            self.repaired = marked
            self._why, self._wait, self._symptom, self._suspected_at = "", _FIRST_WAIT, "", float("-inf")
            return ""
        self._why = f"{marked}; it is not repaired yet: {failed}"
        self._next = time.monotonic() + self._wait
        if self._fetched:
            self._wait = min(self._wait * 2, _LONGEST_WAIT)
        return self._why

    def _alone(self, stop: threading.Event | None) -> str:
        git_dir = self._replica.git_dir
        with locked(git_dir / "piehole" / "repair.lock", 0o644, Deadline(self._patience)) as alone:
            if not alone:
                return "another process repairs it right now"
            return self._from_peers(stop) if verification.corrupt(git_dir) else ""

    def _from_peers(self, stop: threading.Event | None) -> str:
        """Fetch everything from one peer after the other until nothing is missing; returns why that did not help."""
        replica, git_dir = self._replica, self._replica.git_dir
        doing("examining all objects")
        damaged_files.remove_views(git_dir)
        self._fetched = False
        with Hold() as hold:
            found = self._found()
            left_damaged = rebuild.indexes(git_dir, found.damaged, replica.config.object_format)
            if len(left_damaged) < len(found.damaged):
                verification.still_damaged(git_dir, left_damaged)
                found = self._found()
            reasons = []
            why = self._without(found, hold) if damaged_files.only_derived(found.damaged) else "nothing has come"
            if found.walk or why:
                for site, failed in self._fetcher.fetch_all(hold, stop):
                    self._fetched = self._fetched or not failed
                    why = failed or self._without(found, hold)
                    if not why:
                        break
                    reasons.append(f"{site}: {why}")
            self._fetch_lost(HELD_REFS, hold, stop)
            doing("examining all objects once more")
            left = examine(replica, _AFTER_REPAIR)
            if not left.fault:
                self._fetch_lost(KEPT_REFS, hold, stop)
        fault = left.fault or ", ".join(path.name for path in verification.damaged(git_dir))
        if fault:
            return "; ".join([*reasons, fault] if reasons else ["no other site can be asked", fault])
        verification.record(git_dir, SOUND if left.complete else PARTLY)
        return ""

    def fetch_kept(self, stop: threading.Event | None = None) -> None:
        """Fetch what the tips that are kept here have lost, as far as a peer has kept them, too.

        :raises EtcdError: the peers could not be looked up
        """
        with Hold() as hold:
            self._fetch_lost(KEPT_REFS, hold, stop)

    def _found(self) -> Soundness:
        """What is damaged here: what an examination finds, and what a proof has found before."""
        found = examine(self._replica, _AFTER_REPAIR)
        proven = verification.damaged(self._replica.git_dir)
        return replace(found, damaged=tuple(dict.fromkeys([*found.damaged, *proven])))

    def _fetch_lost(self, prefix: str, hold: Hold, stop: threading.Event | None) -> None:
        """Fetch what the tips below a prefix have lost, as far as a peer has it; what the refs of the group hold is whole by now."""
        replica, tips = self._replica, _tips(self._replica)
        kept = [oid for ref, oid in replica.repository.observe().refs.items() if ref.startswith(prefix)]
        lost = connectivity.check_closures(replica.git_dir, kept, bases=tips).missing if kept else ()
        self._fetcher.fetch_each(sorted(lost), tips, hold, stop)

    def _without(self, found: Soundness, hold: Hold) -> str:
        """Take the damaged files out, where everything is complete without them; ``""``, or what is missing."""
        replica, tips, deadline = self._replica, _tips(self._replica), Deadline(_AFTER_REPAIR)
        why = damaged_files.set_aside(
            replica.git_dir, found.damaged, tips, replica.config.object_format, hold, deadline
        )
        if not why and found.damaged:
            verification.still_damaged(replica.git_dir, ())
            rebuild.derived(replica.git_dir, found.damaged)
        return why or soundness.broken_history(replica.git_dir, tips, deadline)[0]
