"""What `piehole status` prints of what it has found: lines for scripts, and tables for people, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Any, Final

from piehole.cli import tables
from piehole.cli.tables import BOLD, DIM, GREEN, RED, YELLOW, Cell, literal, painted, wrapped
from piehole.commands.status import BEHIND, CORRUPT, IN_STEP, LEFT, NEVER_SEEN, SiteStatus, Status, age
from piehole.errors import PieholeError
from piehole.group.outlook import duration
from piehole.replicate.local_changes import UNADOPTED, unadopted_fix
from piehole.repository.fitness import unproven

_FOLDED: Final = 5  # if more repositories than these are well, they are only counted
_NAMED: Final = 3  # refs of each kind that are named of one among several repositories

# Of a repository, worst first: what the first column says, with its colour.
_BROKEN, _HALTED, _CORRUPT, _STUCK, _UNSERVED, _LATE, _WELL = range(7)


@dataclass(frozen=True)
class FoundStatus:
    """A repository, and its status or why that could not be found."""

    git_dir: Path
    found: Status | PieholeError | OSError

    def as_json(self) -> dict[str, Any]:
        if isinstance(self.found, Status):
            return self.found.as_json()
        return {"repository": str(self.git_dir), "error": str(self.found)}

    @property
    def rank(self) -> int:
        """How bad it is; 0 is the worst."""
        found = self.found
        if not isinstance(found, Status) or found.trouble:
            return _BROKEN
        if found.halted:
            return _HALTED
        if found.corrupt or any(one.state == CORRUPT for one in found.sites):
            return _CORRUPT
        if found.stuck:
            return _STUCK
        if not found.healthy:
            return _UNSERVED
        return _WELL if found.converged else _LATE

    @property
    def lag(self) -> float:
        """The seconds that the site which is behind for longest is behind."""
        sites = self.found.sites if isinstance(self.found, Status) else ()
        return max((age(one.since) or 0.0 for one in sites if one.state != LEFT), default=0.0)


# ---- lines: a contract with scripts (`piehole status --help`)


def lines(found: Status) -> list[str]:
    """One line for each thing that there is to say, without the path before it."""
    config = found.replica.config
    said = [f"group {config.group}, site {config.site}: {summary(found)}"]
    said += [f"site {one.group_site.site}: {_site(found, one)}" for one in found.sites]
    return said + [f"{word}: {text}" for word, text, _ in _remarks(found)]


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
        words.append(f"by {_refs(one.behind)}")
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


def _remarks(found: Status) -> Iterator[tuple[str, str, str]]:
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


# ---- tables


def table(several: Sequence[FoundStatus], *, unfold: bool, most: int, paint: bool) -> list[str]:
    """The sites of one repository, or all repositories that need attention, in lines of at most ``most`` columns; the last is a summary."""
    if len(several) == 1 and isinstance(several[0].found, Status):
        return _one(several[0], several[0].found, most, paint=paint)
    return _many(several, unfold=unfold, most=most, paint=paint)


def _one(seen: FoundStatus, found: Status, most: int, *, paint: bool) -> list[str]:
    config = found.replica.config
    said = wrapped(literal(f"group {config.group}, site {config.site}, {config.git_dir}"), most)
    shown = [painted(line, BOLD, paint=paint) for line in said]
    rows = [_site_row(found, one) for one in sorted(found.sites, key=_site_rank)]
    if rows:
        head = ("SITE", "STATE", "LAG", "BEHIND", "REVISION", "REPORTED", "NOTES")
        shown += ["", *tables.table(head, rows, most=most, paint=paint)]
    remarks = [
        line
        for word, text, colour in _remarks(found)
        for line in _wrapped(f"{word}: {text}", colour, most, "", paint=paint)
    ]
    return [*shown, *([""] if remarks else []), *remarks, "", _verdict([seen], paint=paint)]


def _site_rank(one: SiteStatus) -> tuple[int, float, str]:
    rank = {CORRUPT: 0, NEVER_SEEN: 2, BEHIND: 3, IN_STEP: 4, LEFT: 5}[one.state]
    return min(rank, 1) if one.silent else rank, -(age(one.since) or 0.0), one.group_site.site


def _site_row(found: Status, one: SiteStatus) -> list[Cell | str]:
    site, progress = one.group_site, one.group_site.progress
    notes = [note for note in (site.fault, site.corrupt) if note]
    notes += ["proof of its objects overdue"] if found.overdue(one) else []
    silent = f", silent for {duration(one.heard)}" if one.silent and one.heard is not None else ""
    colours = {CORRUPT: RED, IN_STEP: GREEN, LEFT: DIM}
    return [
        Cell(site.site + (" (this site)" if site.site == found.replica.config.site else ""), BOLD),
        Cell(one.state + silent, RED if silent else colours.get(one.state, YELLOW)),
        Cell(_site_lag(one), right=True),
        Cell(_refs(one.behind) if one.behind and one.state != LEFT else "", right=True),
        Cell(str(progress.revision) if progress else "", right=True),
        Cell(progress.time if progress else "", DIM),
        "; ".join(notes),
    ]


def _site_lag(one: SiteStatus) -> str:
    """How long ago the oldest change was made that the site lacks."""
    seconds = age(one.since)
    if seconds is not None:
        return f"{seconds:.0f} s"
    return {IN_STEP: "0 s", LEFT: ""}.get(one.state, "?")


def _many(several: Sequence[FoundStatus], *, unfold: bool, most: int, paint: bool) -> list[str]:
    ordered = sorted(several, key=lambda one: (one.rank, -one.lag, str(one.git_dir)))
    well = [one for one in ordered if one.rank == _WELL]
    folded = [] if unfold or len(well) <= _FOLDED else well
    above = Path(commonpath([one.git_dir for one in several]))
    above = above.parent if any(one.git_dir == above for one in several) else above
    listed = [one for one in ordered if one not in folded]
    shown = []
    if listed:
        rows = [_repository_row(one, above) for one in listed]
        shown = tables.table(("REPOSITORY", "GROUP", "STATE", "LAG", "SITES"), rows, most=most, paint=paint)
    for place, one in reversed(list(enumerate(listed, 1))):
        shown[place + 1 : place + 1] = _details(one, most, paint=paint)
    if folded:
        shown.append(painted(f"{len(folded)} in step, not listed (--all lists them)", GREEN, paint=paint))
    return [*shown, "", _verdict(several, paint=paint)]


def _state(one: FoundStatus) -> Cell:
    found, rank = one.found, one.rank
    if not isinstance(found, Status):
        return Cell("failed", RED)
    words = {_BROKEN: "not known", _HALTED: "halted", _CORRUPT: "corrupt", _STUCK: f"{_refs(len(found.stuck))} stuck"}
    if rank == _UNSERVED and found.converged:
        words[rank] = "no controller" if found.controller is None else "too few copies"
        words[rank] = "silent site" if any(site.silent for site in found.sites) else words[rank]
    return Cell(
        words.get(rank, "in step" if found.converged else "behind"),
        GREEN if rank == _WELL else YELLOW if rank == _LATE else RED,
    )


def _repository_row(one: FoundStatus, above: Path) -> list[Cell | str]:
    found, rank = one.found, one.rank
    name = Cell(str(one.git_dir.relative_to(above)) if one.git_dir.is_relative_to(above) else str(one.git_dir), BOLD)
    if not isinstance(found, Status):
        return [name, "", _state(one), "", ""]
    late = [
        site.group_site.site
        for site in sorted(found.sites, key=_site_rank)
        if site.silent or site.state not in (IN_STEP, LEFT)
    ]
    number = sum(site.state != LEFT for site in found.sites)
    sites = f"{', '.join(late)} of {number}" if late else str(number) if number else ""
    known = rank not in (_BROKEN, _HALTED)
    return [
        name,
        found.replica.config.group,
        _state(one),
        Cell(f"{one.lag:.0f} s" if known else "?", right=True),
        sites,
    ]


def _details(one: FoundStatus, most: int, *, paint: bool) -> list[str]:
    """What is wrong with one of several repositories, below its row."""
    if one.rank == _WELL:
        return []
    if not isinstance(one.found, Status):
        return _wrapped(str(one.found), RED, most, "  ", paint=paint)
    said = [("not known", str(one.found.trouble), RED)] if one.found.trouble else []
    said += [remark for remark in _remarks(one.found) if remark[2] in (RED, YELLOW)]
    counts: Counter[str] = Counter()
    shown = []
    for word, text, colour in said:
        counts[word] += 1
        if counts[word] <= _NAMED:
            shown += _wrapped(f"{word}: {text}", colour, most, "  ", paint=paint)
    for word, count in counts.items():
        if count > _NAMED:
            shown += _wrapped(
                f"{word}: {count - _NAMED} more (`piehole status -C {one.git_dir}`)", DIM, most, "  ", paint=paint
            )
    return shown


def _wrapped(text: str, colour: str, most: int, indent: str, *, paint: bool) -> list[str]:
    return [indent + painted(line, colour, paint=paint) for line in wrapped(literal(text), most - len(indent), "  ")]


def _verdict(several: Sequence[FoundStatus], *, paint: bool) -> str:
    """One line: how many repositories there are, and how many of them in which state."""
    states = Counter(_state(one).text if one.rank != _STUCK else "stuck" for one in several)
    worst = min(one.rank for one in several)
    colour = GREEN if worst == _WELL else YELLOW if worst == _LATE else RED
    if len(several) == 1 and isinstance(several[0].found, Status):
        found = several[0].found
        counted = Counter(
            f"{site.state}{' and silent' if site.silent else ''}" for site in found.sites if site.state != LEFT
        )
        number = counted.total()
        words = ", ".join(f"{count} {state}" for state, count in counted.most_common())
        here = summary(found) if not found.in_step or found.unadopted else ""
        text = "; ".join(
            part
            for part in (
                f"{number} site{'' if number == 1 else 's'}: {words}" if number else "",
                here and f"here: {here}",
            )
            if part
        )
        if worst == _UNSERVED:
            text += f"; {_state(several[0]).text}" if found.converged else ""
    else:
        text = f"{len(several)} repositories: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
        behind = max((one.lag for one in several), default=0.0)
        text += f"; the largest lag is {behind:.0f} s" if behind else ""
    return painted(literal(text), colour, paint=paint)


def _refs(number: int) -> str:
    return f"{number} ref{'' if number == 1 else 's'}"
