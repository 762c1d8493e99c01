"""What users do in the story, and how each push ended for them: ok, refused, or unknown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.fault.sweep.bed import Bed, Faulty
from tests.support import git
from tests.support.git import ZERO_SHA1

ZERO = ZERO_SHA1
Outcome = Literal["ok", "refused", "unknown"]
_PATIENCE = 90.0  # seconds in which a push that is tried again and again must succeed
_PAUSE = 0.2  # seconds between two tries
# A refusal is a promise only in these words: without them the connection broke, and nobody said what became of the push.
_TOKEN = re.compile(r"^(?:remote: )?piehole: ([a-z-]+): ", re.MULTILINE)


@dataclass(frozen=True)
class Attempt:
    """One ``git push``. ``name`` is the pusher that the push record tells of; ``moves``: where each ref was to go."""

    name: str
    site: str
    moves: dict[str, str]
    outcome: Outcome
    said: str


@dataclass
class Log:
    """Every attempt of one run, in order."""

    attempts: list[Attempt] = field(default_factory=list)

    def told(self) -> str:
        return "\n".join(
            f"{one.name} at {one.site}: {one.outcome}\n{one.said.rstrip()}"
            for one in self.attempts
            if one.outcome != "ok"
        )


def outcome(status: int, said: str) -> Outcome:
    """What the pusher may believe."""
    if status == 0:
        return "ok"
    tokens = set(_TOKEN.findall(said))
    if "accepted" in tokens or "unknown" in tokens or not tokens:
        return "refused" if _git_refused(said) and not tokens else "unknown"
    return "refused"


def _git_refused(said: str) -> bool:
    """Git itself said no before ``prepared`` could run: it could not lock the ref, or the update was no fast-forward."""
    return "failed to update ref" in said or "Unable to create" in said or "cannot lock ref" in said


class Users:
    """Everybody pushes from one clone, each push under a name of its own."""

    def __init__(self, bed: Bed, log: Log) -> None:
        self._bed = bed
        self._log = log

    def attempt(self, site: Faulty, moves: dict[str, str]) -> Outcome:
        """One push of all these moves, all or none where there are several."""
        name = f"user-{self._bed.next_push()}"
        refspecs = [f"+{new}:{ref}" if new != ZERO else f":{ref}" for ref, new in moves.items()]
        options = ["--atomic"] if len(moves) > 1 else []
        done = git.push(self._bed.work, site.repository, *options, *refspecs, env={"GL_USER": name})
        made = outcome(done.returncode, done.stderr)
        self._log.attempts.append(Attempt(name, site.name, moves, made, done.stderr))
        return made

    def push(self, site: Faulty, moves: dict[str, str], recover: Callable[[], None]) -> None:
        """Push; where that does not succeed, do as told: look, and push again.

        :param recover: what an administrator does between two tries
        """
        end = time.monotonic() + _PATIENCE
        while self.attempt(site, moves) != "ok":
            assert time.monotonic() < end, f"no push of {moves} succeeds at {site.name}:\n{self._log.told()}"
            recover()
            time.sleep(_PAUSE)
