"""Moves that are left to a push at this very site, which is about to make them itself.

Somebody pushes one commit to several sites, one after the other. The second site learns of it from the first one's push, and receives
it from the pusher at the same time. Git compares the ref with the value that it has shown to the pusher: where the reconcile moves
the ref in between, git refuses the push, though the ref is where the pusher wants it. So the reconcile lets the push go first. A
push that never comes must not keep the ref from its value: each wait has an end.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from time import monotonic, time
from typing import Final

from piehole.fastpath import inflight, processes
from piehole.refs import Command

# Seconds without a new line in its record for which a ref is left to a push that `update` was not asked about yet.
_COMING: Final = 10.0
# Seconds after its start in which a receive-pack is expected to say (in its in-flight record) what it is asked to move,
_BEGUN: Final = 2.0
# and for which one move waits for receive-packs that have not said so yet, however many follow each other.
_PATIENCE: Final = 1.0
_REMEMBERED: Final = 60.0  # seconds


class InFlight:
    """What pushes are about to move themselves, under git's locks: ``refs`` that `update` has let pass, to whatever value; and the moves
    in ``coming`` (REF, NEW), about which it was not asked yet.
    """

    __slots__ = ("coming", "refs")

    def __init__(self, refs: set[str], coming: set[tuple[str, str]]) -> None:
        self.refs = refs
        self.coming = coming

    def __or__(self, other: InFlight) -> InFlight:
        return InFlight(self.refs | other.refs, self.coming | other.coming)

    def left_alone(self, moves: Iterable[tuple[str, str]]) -> set[str]:
        """The refs that a reconcile leaves alone which would make these moves (REF, NEW).

        A push to the group's own value moves its ref to it, and fails where somebody else has. One to another value is refused, and its
        pusher waits for this site to catch up.
        """
        return self.refs | {ref for ref, _ in self.coming.intersection(moves)} if self.coming else self.refs


def in_flight(git_dir: str) -> InFlight:
    """What pushes are about to move themselves."""
    found = InFlight(set(), set())
    for record in inflight.records(git_dir):
        if _holds_refs(record):
            found.refs.update(record.announced)
            # A push that hangs before `update` holds nothing for longer than a moment.
            if record.coming and _age(record) < _COMING:
                found.coming.update((ref, new) for ref, new in record.coming.items() if ref not in record.announced)
    return found


def _age(record: inflight.Record) -> float:
    """Seconds since the last line."""
    try:
        return abs(time() - Path(record.path).stat().st_mtime)
    except OSError:
        return float("inf")


def _holds_refs(record: inflight.Record) -> bool:
    """Whether a reconcile leaves these refs to the push. Git's locks keep them from being moved too early, whatever is answered here; so
    where nobody can tell whether receive-pack lives, its helper has to: a record must not hold refs back for ever.
    """
    alive = record.lives
    return inflight.is_attended(record.path) if alive is None else alive


class PushesHere:
    """What the pushes at one repository are about to do, as its reconciles see it."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = os.path.realpath(git_dir)
        # When each move (REF, NEW) was left to a receive-pack for the first time.
        self._since: dict[tuple[str, str], float] = {}

    def leave(self, moves: Collection[Command]) -> set[str]:
        """The refs whose moves are left to pushes for now."""
        asked = {(move.ref, move.new) for move in moves}
        coming = in_flight(self._git_dir).coming & asked
        left = {ref for ref, _ in coming}
        if self._any_begun():
            now = monotonic()
            self._since = {move: since for move, since in self._since.items() if now - since < _REMEMBERED}
            left |= {move[0] for move in asked if now - self._since.setdefault(move, now) < _PATIENCE}
        return left

    def _any_begun(self) -> bool:
        """Whether a receive-pack has shown its refs, or is about to, and nobody knows yet what it will be asked to move."""
        begun = processes.begun_receive_packs(self._git_dir, _BEGUN)
        if not begun:
            return False
        known = [record.name for record in inflight.records(self._git_dir) if record.coming or record.announced]
        return not all(any(name.startswith(one) for name in known) for one in begun)
