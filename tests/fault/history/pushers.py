"""People who push at the same time: to branches of their own, to shared ones, and pairs that belong together."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.fault.history.bed import Bed
from tests.fault.history.objects import read_ref
from tests.fault.history.operations import ZERO, Change, Operation, outcome_of
from tests.fault.history.place import Place

SHARED: Final = ("refs/heads/main", "refs/heads/dev", "refs/heads/wild")
PAIR: Final = ("refs/heads/pair/left", "refs/heads/pair/right")
WEIGHTS: Final = {"own": 40, "shared": 14, "forced": 10, "create": 12, "delete": 10, "pair": 9, "own-pair": 5}
# For a group that promises copies: also a new name for a commit that the others have already, so nobody is asked for it.
COPIES_WEIGHTS: Final = WEIGHTS | {"again": 8}
_PATIENCE: Final = 90.0  # seconds that a push may take; its hooks' own patience is a few


@dataclass(frozen=True, slots=True)
class Habits:
    """:param pause: seconds between two pushes, at most; ``home``: the share of pushes that go to one's own site"""

    weights: dict[str, int]
    pause: float = 0.05
    home: float = 0.8


def send(bed: Bed, place: Place, kind: str, changes: Sequence[Change], *, atomic: bool = False) -> Operation:
    """One `git push`, taken down. Each change is refused by the pusher's own git where the site does not show its old value."""
    operation = bed.log.begin(kind, place.site.name, *changes)
    command = ["git", "push", "--quiet", f"--receive-pack={place.gate}"]
    command += ["--atomic"] if atomic else []
    for change in changes:
        command.append(f"--force-with-lease={change.ref}:{'' if change.old == ZERO else change.old}")
    command.append(str(place.site.repository))
    command += [f"{'' if change.new == ZERO else change.new}:{change.ref}" for change in changes]
    try:
        done = subprocess.run(
            command,
            cwd=bed.pool.repository,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "GL_USER": operation.name},
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return bed.log.end(operation, "unknown", "it took too long")
    words = done.stderr.decode(errors="replace")
    return bed.log.end(operation, outcome_of(done.returncode, words), words)


class Pusher:
    """Works until told to stop. A seed decides what it does next, though not what comes of it."""

    def __init__(self, bed: Bed, number: int, seed: int, habits: Habits, stop: threading.Event) -> None:
        self._chance = random.Random(f"{seed}/{number}")  # noqa: S311 -- a test's choice
        self._bed = bed
        self._number = number
        self._habits = habits
        self._stop = stop
        self._temporary: list[str] = []
        self._made = 0
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"pusher {number}")
        self._thread.start()

    def join(self) -> None:
        self._thread.join(_PATIENCE + 10)
        if self._death is not None:
            raise self._death
        assert not self._thread.is_alive(), "a pusher hangs"

    def _run(self) -> None:
        kinds, weights = list(self._habits.weights), list(self._habits.weights.values())
        work: dict[str, Callable[[Place], None]] = {
            "own": lambda place: self._forward(place, "own", [f"refs/heads/u{self._number}/work"]),
            "own-pair": lambda place: self._forward(
                place, "own-pair", [f"refs/heads/u{self._number}/x", f"refs/heads/u{self._number}/y"]
            ),
            "shared": lambda place: self._forward(place, "shared", [self._chance.choice(SHARED)]),
            "pair": lambda place: self._forward(place, "pair", PAIR),
            "forced": self._forced,
            "create": self._create,
            "delete": self._delete,
            "again": self._again,
        }
        try:
            while not self._stop.is_set():
                work[self._chance.choices(kinds, weights)[0]](self._where())
                self._stop.wait(self._chance.uniform(0, self._habits.pause))
        except BaseException as error:  # noqa: BLE001 -- raised again by join()
            self._death = error

    def _where(self) -> Place:
        places = self._bed.places
        at_home = self._chance.random() < self._habits.home
        return places[self._number % len(places)] if at_home else self._chance.choice(places)

    def _commit(self, parent: str) -> str:
        self._made += 1
        return self._bed.pool.commit(f"commit {self._made} of {self._number}", "" if parent == ZERO else parent)

    def _forward(self, place: Place, kind: str, refs: Sequence[str]) -> None:
        """A commit on top of what the site shows, for one ref or for several that must move together."""
        olds = [read_ref(place.site.repository, ref) for ref in refs]
        bases = [self._base(ref, old) for ref, old in zip(refs, olds, strict=True)] if kind == "shared" else olds
        changes = [Change(ref, old, self._commit(base)) for ref, old, base in zip(refs, olds, bases, strict=True)]
        self._send(place, kind, changes)

    def _base(self, ref: str, old: str) -> str:
        """What somebody builds on who pulled from another site, which may be ahead of this one."""
        seen = read_ref(self._where().site.repository, ref)
        return seen if seen != ZERO and self._bed.pool.descends(seen, old) else old

    def _forced(self, place: Place) -> None:
        """A rewind: a new commit beside what the site shows."""
        ref = self._chance.choice((SHARED[-1], f"refs/heads/u{self._number}/work"))
        old = read_ref(place.site.repository, ref)
        base = self._bed.pool.parent(old)
        self._send(place, "forced", [Change(ref, old, self._commit(base or ZERO))])

    def _create(self, place: Place) -> None:
        """A new name, or one that was deleted before."""
        again = self._chance.random() < 0.3
        ref = f"refs/heads/{f'again/{self._chance.randrange(4)}' if again else f't/{self._number}-{self._made}'}"
        if read_ref(place.site.repository, ref) != ZERO:
            return
        if self._send(place, "create", [Change(ref, ZERO, self._commit(ZERO))]).outcome != "refused":
            self._temporary.append(ref)

    def _again(self, place: Place) -> None:
        """A new name for a commit that another ref has here."""
        value = read_ref(place.site.repository, self._chance.choice((*SHARED, *PAIR)))
        self._made += 1
        ref = f"refs/heads/same/{self._number}-{self._made}"
        if value != ZERO and self._send(place, "again", [Change(ref, ZERO, value)]).outcome != "refused":
            self._temporary.append(ref)

    def _delete(self, place: Place) -> None:
        if not self._temporary:
            return
        ref = self._temporary.pop(self._chance.randrange(len(self._temporary)))
        old = read_ref(place.site.repository, ref)
        if old == ZERO:
            return
        if self._send(place, "delete", [Change(ref, old, ZERO)]).outcome != "ok":
            self._temporary.append(ref)

    def _send(self, place: Place, kind: str, changes: Sequence[Change]) -> Operation:
        done = send(self._bed, place, kind, changes, atomic=len(changes) > 1)
        if done.outcome != "ok":
            # Somebody who is refused looks again after a moment, and does not hammer on a site that is down.
            self._stop.wait(self._chance.uniform(0.02, 0.25))
        return done


def first_pushes(bed: Bed) -> None:
    """So that the shared refs are everywhere before anything goes wrong."""
    for ref in (*SHARED, *PAIR):
        oid = bed.pool.commit(f"first of {ref}")
        done = send(bed, bed.places[0], "first", [Change(ref, ZERO, oid)])
        assert done.outcome == "ok", done.words
    end = time.monotonic() + 30
    while any(read_ref(place.site.repository, PAIR[1]) == ZERO for place in bed.places):
        assert time.monotonic() < end, "the first pushes reach every site"
        time.sleep(0.05)
