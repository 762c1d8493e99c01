"""What the checker judges, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.fault.history.operations import Operation
from tests.fault.history.past import Event


@dataclass(frozen=True, slots=True)
class Violation:
    """``rule`` is one word of the list in :func:`tests.fault.history.checker.check`."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Look:
    """The refs that users saw at one site at one moment.

    :param passed: the revision that the site's progress record claimed before the look; 0: none is known
    :param claimed: the revision that this record itself made
    :param at: monotonic seconds
    """

    site: str
    refs: Mapping[str, str]
    passed: int = 0
    claimed: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """A site after all was healed: its refs, every commit that a ref or a kept tip reaches, what `git fsck` said.

    :param crash: how its controller ended by itself, or what it called a crash in its log
    """

    site: str
    refs: Mapping[str, str]
    reachable: frozenset[str]
    fsck: str = ""
    crash: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """A swap as it was about to reach etcd: nothing of it had taken effect.

    :param push: the id in its push record
    :param pusher: the name in it
    :param holders: for each commit that it writes into a ref, the sites that had it then, complete and safe from `git gc`
    :param at: monotonic seconds
    """

    push: str
    pusher: str
    holders: Mapping[str, frozenset[str]]
    at: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A site lost its disk ``at``, and began again with an empty one at ``back`` (infinite: not yet)."""

    site: str
    at: float
    back: float


@dataclass(frozen=True, slots=True)
class Read:
    """The branches that somebody saw at a site through the read gate.

    :param ended: when the answer was there
    :param outcome: ``fresh``; ``warned``: served, and told that it may be out of date; ``refused``
    """

    site: str
    refs: Mapping[str, str]
    began: float
    ended: float
    outcome: Literal["fresh", "warned", "refused"] = "fresh"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the checker judges. ``parents``: the first parent of each commit that was made, ``""`` for a root.

    ``robbed``: what was taken from programs that have nothing to do with piehole. ``copies``: how many sites the group promises to have
    each commit before a ref names it; then ``sendings`` tells of every swap.
    """

    operations: Sequence[Operation]
    events: Sequence[Event]
    parents: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[Look] = ()
    endings: Sequence[Ending] = ()
    robbed: Sequence[str] = ()
    copies: int = 1
    sendings: Sequence[Sending] = ()
    losses: Sequence[Loss] = ()
    reads: Sequence[Read] = ()
