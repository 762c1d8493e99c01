"""What `piehole status` says of what it has found: as lines and as JSON for scripts, and ranked for its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from piehole.cli import common
from piehole.cli.tables import DIM, RED, YELLOW
from piehole.commands.lag import age
from piehole.commands.status import BEHIND, CORRUPT, FORMAT, LEFT, NEVER_SEEN, SiteStatus, Status
from piehole.errors import PieholeError
from piehole.group.outlook import duration
from piehole.replicate.local_changes import UNADOPTED, unadopted_fix
from piehole.repository import verification
from piehole.repository.fitness import unproven

_LATE = 10.0  # seconds for which a site may be behind without a word


class Rank(IntEnum):
    """How bad it is; the smallest is the worst."""

    BROKEN, HALTED, CORRUPT, STUCK, UNSERVED, LATE, WELL = range(7)


@dataclass(frozen=True)
class FoundStatus:
    """A repository, and its status or why that could not be found. ``reached``: whether ``--wait`` was in time, if it was asked for."""

    git_dir: Path
    found: Status | PieholeError | OSError
    reached: bool | None = None

    @property
    def exit_status(self) -> int:
        found = self.found
        if not isinstance(found, Status):
            return common.status_of(found)
        if found.trouble:
            return found.trouble.exit_status
        return 0 if found.healthy and (found.converged if self.reached is None else self.reached) else 1

    def as_json(self) -> dict[str, Any]:
        if isinstance(self.found, Status):
            return self.found.as_json()
        return {"repository": str(self.git_dir), "error": str(self.found)}

    @property
    def signature(self) -> object:
        """What is a change to whoever watches; times pass by themselves."""
        if not isinstance(self.found, Status):
            return self.git_dir, str(self.found)
        passing = {"revision", "reported", "seconds", "heard", "verified", "controller_says"}
        shown = self.found.as_json() | {"copies": self.found.copies.able if self.found.copies else None}
        sites = [{name: value for name, value in site.items() if name not in passing} for site in shown.pop("sites")]
        return {name: value for name, value in shown.items() if name not in passing}, sites

    @property
    def rank(self) -> Rank:
        found = self.found
        if not isinstance(found, Status) or found.trouble:
            return Rank.BROKEN
        if found.halted:
            return Rank.HALTED
        if found.corrupt or any(one.state == CORRUPT for one in found.sites):
            return Rank.CORRUPT
        if found.stuck:
            return Rank.STUCK
        if not found.healthy:
            return Rank.UNSERVED
        return Rank.WELL if found.converged else Rank.LATE

    @property
    def lag(self) -> float:
        """The seconds that the site which is behind for longest is behind."""
        sites = self.found.sites if isinstance(self.found, Status) else ()
        return max((age(one.since) or 0.0 for one in sites if one.state != LEFT), default=0.0)


def as_json(seen: Sequence[FoundStatus]) -> dict[str, Any]:
    converged = all(one.exit_status == 0 for one in seen)
    return {"format": FORMAT, "converged": converged, "repositories": [one.as_json() for one in seen]}


# ---- lines: a contract with scripts (`piehole status --help`)


def lines(found: Status) -> list[str]:
    """One line for each thing that there is to say, without the path before it."""
    config = found.replica.config
    said = [f"group {config.group}, site {config.site}: {summary(found)}"]
    said += [f"site {one.group_site.site}: {_site(found, one)}" for one in found.sites]
    return said + [f"{word}: {text}" for word, text, _ in remarks(found)]


def summary(found: Status) -> str:
    """How this site stands, in a few words."""
    if found.trouble:
        return f"not known: {found.trouble}"
    if found.halted:
        return "halted"
    if not found.in_step:
        corrupt = ", corrupt" if found.corrupt else ""
        return f"not in step: {len(found.pending)} pending, {len(found.stuck)} stuck{corrupt}"
    alone = f", {len(found.unadopted)} unadopted" if found.unadopted else ""
    return f"in step at revision {found.newest}{alone}"


def _site(found: Status, one: SiteStatus) -> str:
    words = [f"silent for {duration(one.heard)},"] if one.silent and one.heard is not None else []
    words.append(one.state)
    if one.state == BEHIND and one.behind:
        words.append(f"by {refs_words(one.behind)}")
    seconds = age(one.since)
    if seconds is not None:
        words.append(f"for {seconds:.0f} s (since {one.since})")
    if one.group_site.progress and one.state != LEFT:
        words.append(f"(revision {one.group_site.progress.revision}, reported {one.group_site.progress.time})")
    proven = one.group_site.progress.verified.get("proven") if one.group_site.progress else None
    if proven and one.state != LEFT:
        words.append(f"(objects proven {proven}{', which is overdue' if found.overdue(one) else ''})")
    if one.group_site.corrupt:
        words.append(f"({one.group_site.corrupt})")
    if one.group_site.fault:
        words.append(f"({one.group_site.fault})")
    if one.group_site.site == found.replica.config.site:
        words.append("(this site)")
    return " ".join(words)


def remarks(found: Status) -> Iterator[tuple[str, str, str]]:
    """What there is to say of this repository beside its sites: a word, the text, and its colour on a terminal."""
    if found.halted:
        yield "halted", f"{found.halted.token}: {found.halted}", RED
    if found.corrupt:
        yield "corrupt", found.corrupt, RED
    for word, refs, colour in (
        ("pending", found.pending, YELLOW),
        ("stuck", found.stuck, RED),
        ("locked", found.locked, ""),
    ):
        for ref, why in refs.items():
            yield word, f"{ref}: {why}", colour
    for ref in found.unadopted:
        yield "unadopted", ref, ""
    if found.unadopted:
        fix = unadopted_fix("REF" if len(found.unadopted) > 1 else found.unadopted[0])
        yield "note", f"an unadopted ref was {UNADOPTED}; {fix}", DIM
    if found.copies and found.copies.promised != 1:
        yield "copies", f"{found.copies.promise} promised; {found.copies}", "" if found.copies.kept else RED
    for fault in unproven(found.replica.config.git_dir, found.replica.config.verify_every):
        yield "verified", str(fault), YELLOW
    if found.controller is None:
        yield "controller", "none answers here, so what other sites push does not come: run `piehole controller`", RED
    else:
        for line in found.controller or ["answers"]:
            yield "controller", line, DIM
    if found.second:
        yield "controller", f"a second controller ({found.second}) is refused here: stop one of the two", RED


def explained(found: Status) -> list[str]:
    """The words of this status that `piehole explain` says more of, this site's first."""
    config, states = found.replica.config, {one.state for one in found.sites}
    said = {
        "no-quorum": found.trouble,
        found.halted.token if found.halted else "halted": found.halted,
        CORRUPT: found.corrupt or CORRUPT in states,
        "stuck": found.stuck,
        "no controller": found.controller is None,
        "refused": found.second,
        "copies": found.copies and not found.copies.kept,
        "silent": any(one.silent for one in found.sites),
        NEVER_SEEN: NEVER_SEEN in states,
        "pending": found.pending,
        BEHIND: any(one.state == BEHIND and (age(one.since) or 0.0) > _LATE for one in found.sites),
        "locked": found.locked,
        "unadopted": found.unadopted,
        "overdue": verification.waits_too_long(config.git_dir, config.verify_every),
    }
    return [word for word, there in said.items() if there]


def refs_words(number: int) -> str:
    return f"{number} ref{'' if number == 1 else 's'}"
