"""What goes wrong and when, decided by a seed before anything runs. The same seed gives the same schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    "member-kill",
    "member-stop",
    "quorum-lost",
    "controller-kill",
    "controller-stop",
    "hook-kill",
    "hook-stop",
    "site-down",
    "link-cut",
    "link-deaf",
    "link-dead",
    "error-applied",
    "token-closed",
    "peer-cut",
    "compact",
    "key-rewrite",
    "key-lock",
    "key-delete",
    "liar",
    "disk-full",
    "lost-pack",
    "gc",
    "foreign-lock",
    "proc-hidden",
    "clock",
)

# For a group that promises two copies. Whole sites are lost with their disks; an administrator brings back no value that was overwritten
# before, since nobody promises that two sites have it still.
COPIES_KINDS: Final = (*(kind for kind in KINDS if kind != "key-rewrite"), *("disk-lost",) * 3)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """``at``: seconds after the beginning; ``lasts``: seconds until it is healed; ``target`` and ``variant`` are taken
    modulo what there is to choose from."""

    at: float
    kind: str
    target: int
    variant: int
    lasts: float


def schedule(seed: int, seconds: float, *, gap: float = 2.4, kinds: Sequence[str] = KINDS) -> list[Fault]:
    """Faults for so many seconds, one every ``gap`` seconds on average; each kind once before any comes again."""
    chance = random.Random(seed)  # noqa: S311 -- a schedule, not a secret
    faults = []
    order = _rounds(chance, kinds)
    now = chance.uniform(0.5, 1.5)
    while now < seconds - 2.0:
        kind = next(order)
        lasts = min(chance.uniform(0.3, 4.0), seconds - now)
        faults.append(Fault(round(now, 2), kind, chance.randrange(60), chance.randrange(60), round(lasts, 2)))
        now += chance.uniform(0.4, 1.6) * gap
    return faults


def _rounds(chance: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    while True:
        yield from chance.sample(list(kinds), len(kinds))
