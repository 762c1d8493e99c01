"""Whether a group can keep its promise of copies now: which of its sites can hold what the next push brings, and why others cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from piehole.group import alive, promise
from piehole.group.records import GroupRecord
from piehole.group.sites import GroupSite


@dataclass(frozen=True, slots=True)
class CopiesOutlook:
    """``promise``: in words; ``needed``: how many sites must hold what a push brings. ``able``: those that can; ``unable``: the others,
    each with the reason.
    """

    promised: int | str
    promise: str
    needed: int
    able: tuple[str, ...] = ()
    unable: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return self.needed <= 1 or len(self.able) >= self.needed

    def as_json(self) -> dict[str, Any]:
        """The form that ``piehole status --json`` promises (piehole.cli.status)."""
        able = {"able": list(self.able), "unable": dict(self.unable)}
        return {"promised": self.promised, "needed": self.needed, "kept": self.kept, **able}

    def __str__(self) -> str:
        """A sentence that says how many sites are able, and why the others are not."""
        reasons = "".join(f"; {site}: {why}" for site, why in self.unable.items())
        everybody = len(self.able) + len(self.unable)
        return f"{len(self.able)} of {everybody} site{'' if everybody == 1 else 's'} can hold copies{reasons}"


def outlook(
    record: GroupRecord,
    sites: Collection[GroupSite],
    heard: Mapping[str, float] | None,
    *,
    receiving: str = "",
    halted: bool = False,
) -> CopiesOutlook:
    """Judge the sites that have not left.

    :param heard: as :func:`piehole.group.alive.heard` returns it; with None no site counts as unable for its silence
    :param receiving: the site whose pushes are meant: it holds what is pushed to it without a controller, too. ``""``: none
    :param halted: that site is halted, so it takes no push
    """
    counted = {one.site: one for one in sites if not one.left}
    unable = {}
    for one in counted.values():
        here = one.site == receiving
        why = "it is halted" if here and halted else _unable(one, heard, receiving=here)
        if why:
            unable[one.site] = why
    able = tuple(site for site in counted if site not in unable)
    members = promise.members(sites)
    promised = promise.words(record, members)
    return CopiesOutlook(record.copies, promised, promise.needed(record, members), able, unable)


def _unable(one: GroupSite, heard: Mapping[str, float] | None, *, receiving: bool) -> str:
    """Why this site cannot hold what a push brings, ``""`` where it can."""
    if one.fault:
        return f"its records cannot be used: {one.fault}"
    if one.corrupt:
        return f"it is corrupt: {one.corrupt}"
    if receiving or heard is None:
        return ""
    if one.site not in heard:
        return "no controller there has given a sign of life, and only a controller takes copies for others"
    if heard[one.site] > alive.SILENT_AFTER:
        return f"its controller has been silent for {duration(heard[one.site])}"
    if one.revision <= 0:
        return "its first clone is not complete"
    return ""


def duration(seconds: float) -> str:
    """A time span as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
