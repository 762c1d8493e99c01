"""What this controller knows of the repositories that it serves and of the other sites of their groups, as plain values.

The page and the metrics read it; :mod:`controller.observer` keeps it up to date. Times are seconds since the epoch by this machine's clock,
so that a lag grows by itself while nothing is heard. Names of refs, pushers and sites are text that others have chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from piehole.group.outlook import CopiesOutlook

IN_STEP: Final = "in step"
BEHIND: Final = "behind"
STUCK: Final = "stuck"
HALTED: Final = "halted"
CORRUPT: Final = "corrupt"
REFUSED: Final = "refused"
NEVER_SEEN: Final = "never seen"
LEFT: Final = "left"
LOCKED: Final = "locked"
UNADOPTED: Final = "unadopted"
FAILING: Final = "failing"
STATES: Final = (IN_STEP, BEHIND, STUCK, HALTED, CORRUPT, REFUSED)  # of a repository
_LEAST: Final = 0.001  # seconds: what is behind never shows 0


@dataclass(frozen=True, slots=True)
class ShownFault:
    """``kind``: stuck, locked, unadopted, halted, corrupt, refused, or failing (the last reconcile failed). ``ref``: ``""`` where all are meant.

    ``fix``: the command that ends it, where there is one.
    """

    kind: str
    ref: str
    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class LastPush:
    """The newest push record of a group. ``kind``: what moved the refs where it was no push. ``time``, and ``at``, are by the clock of ``site``."""

    id: str
    site: str
    pusher: str
    time: str
    at: float | None
    kind: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class SiteView:
    """One site of a group. ``state``: in step, behind, never seen, corrupt, left; this site's also stuck or halted.

    ``refs_behind``: how many refs have moved since its progress. ``behind_since``: when the oldest change that it lacks arrived here (None:
    it lacks none). ``silent_since``: the last sign of life of its controller, where that is too long ago.
    ``reported``: when it last published its progress. ``proven``: when its objects were last proven; ``overdue``: that is too long ago.
    ``why``: what is corrupt there, or why its records cannot be used.
    """

    site: str
    this: bool
    state: str
    refs_behind: int = 0
    behind_since: float | None = None
    revision: int = -1
    reported: str = ""
    silent_since: float | None = None
    proven: str = ""
    overdue: bool = False
    why: str = ""

    def lag(self, now: float) -> float:
        """How long it has lacked the oldest change that it lacks, in seconds; 0 exactly where it lacks none, or has left."""
        return 0.0 if self.behind_since is None else max(_LEAST, now - self.behind_since)


@dataclass(frozen=True, slots=True)
class RepositoryView:
    """One repository of this server. ``version``: of the overview in which it last changed.

    ``newest``: the newest revision that moved one of the group's refs; ``revision``: up to which this site has all. ``faults``: what is wrong
    at this site, the first of each kind; ``counts``: how many there are of each. ``kept``: tips (None: not known yet). ``copies``: None
    where the group's record is not known. ``proven``, ``overdue``: of this site.
    """

    repository: str
    group: str
    site: str
    state: str
    version: int = 0
    revision: int = -1
    newest: int = 0
    refs: int = 0
    sites: tuple[SiteView, ...] = ()
    faults: tuple[ShownFault, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    last_push: LastPush | None = None
    kept: int | None = None
    copies: CopiesOutlook | None = None
    proven: str = ""
    overdue: bool = False

    @property
    def late(self) -> tuple[SiteView, ...]:
        """The sites that lack something, for the longest time first."""
        return tuple(
            sorted((one for one in self.sites if one.behind_since is not None), key=lambda one: one.behind_since or 0)
        )


@dataclass(frozen=True, slots=True)
class EtcdConnection:
    """One etcd. ``last_contact``: its last sign of life (None: never); ``trouble``: why it is not connected."""

    etcd: str
    prefix: str
    connected: bool
    last_contact: float | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it at one moment. ``repositories``: by path, refused ones included. ``silences``: by the name of a site, for how many seconds its
    controller had given no sign of life when etcd was last asked.
    """

    version: int = 0
    repositories: Mapping[str, RepositoryView] = field(default_factory=dict)
    etcds: tuple[EtcdConnection, ...] = ()
    silences: Mapping[str, float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RepositoryView]:
        return iter(self.repositories.values())

    def changed_since(self, version: int) -> list[RepositoryView]:
        """The repositories that have changed after that version of the overview. (One that is gone is no longer in ``repositories``.)"""
        return [one for one in self if one.version > version]

    def by_state(self) -> dict[str, int]:
        """How many repositories are in each state."""
        found = dict.fromkeys(STATES, 0)
        for one in self:
            found[one.state] += 1
        return found
