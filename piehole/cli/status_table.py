"""The tables that `piehole status` prints on a terminal, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path
from typing import Final

from piehole.cli import tables
from piehole.cli.status_text import FoundStatus, Rank, explained, refs_words, remarks, summary
from piehole.cli.tables import BOLD, DIM, GREEN, RED, YELLOW, Cell, literal, painted, wrapped
from piehole.commands.lag import age
from piehole.commands.status import BEHIND, CORRUPT, IN_STEP, LEFT, NEVER_SEEN, SiteStatus, Status
from piehole.group.outlook import duration

_FOLDED: Final = 5  # if more repositories than these are well, they are only counted
_NAMED: Final = 3  # refs of each kind that are named of one among several repositories


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
    details = [
        line
        for word, text, colour in remarks(found)
        for line in _wrapped(f"{word}: {text}", colour, most, "", paint=paint)
    ]
    details += _explanation([seen], most, paint=paint)
    return [*shown, *([""] if details else []), *details, "", _verdict([seen], paint=paint)]


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
        Cell(refs_words(one.behind) if one.behind and one.state != LEFT else "", right=True),
        Cell(str(progress.revision) if progress else "", right=True),
        Cell(tables.local_time(progress.time) if progress else "", DIM),
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
    well = [one for one in ordered if one.rank == Rank.WELL]
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
    return [*shown, *_explanation(several, most, paint=paint), "", _verdict(several, paint=paint)]


def _state(one: FoundStatus) -> Cell:
    found, rank = one.found, one.rank
    if not isinstance(found, Status):
        return Cell("failed", RED)
    words = {
        Rank.BROKEN: "not known",
        Rank.HALTED: "halted",
        Rank.CORRUPT: "corrupt",
        Rank.STUCK: f"{refs_words(len(found.stuck))} stuck",
    }
    if rank == Rank.UNSERVED and found.converged:
        words[rank] = "no controller" if found.controller is None else "too few copies"
        words[rank] = "silent site" if any(site.silent for site in found.sites) else words[rank]
    return Cell(
        words.get(rank, "in step" if found.converged else "behind"),
        GREEN if rank == Rank.WELL else YELLOW if rank == Rank.LATE else RED,
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
    known = rank not in (Rank.BROKEN, Rank.HALTED)
    return [
        name,
        found.replica.config.group,
        _state(one),
        Cell(f"{one.lag:.0f} s" if known else "?", right=True),
        sites,
    ]


def _details(one: FoundStatus, most: int, *, paint: bool) -> list[str]:
    """What is wrong with one of several repositories, below its row."""
    if one.rank == Rank.WELL:
        return []
    if not isinstance(one.found, Status):
        return _wrapped(str(one.found), RED, most, "  ", paint=paint)
    said = [("not known", str(one.found.trouble), RED)] if one.found.trouble else []
    said += [remark for remark in remarks(one.found) if remark[2] in (RED, YELLOW)]
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


def _explanation(several: Sequence[FoundStatus], most: int, *, paint: bool) -> list[str]:
    """Where to read on about what is shown."""
    words = dict.fromkeys(word for one in several if isinstance(one.found, Status) for word in explained(one.found))
    commands = ", ".join(f"`piehole explain {word}`" for word in words)
    return _wrapped(f"what to do: {commands}", DIM, most, "", paint=paint) if words else []


def _wrapped(text: str, colour: str, most: int, indent: str, *, paint: bool) -> list[str]:
    return [indent + painted(line, colour, paint=paint) for line in wrapped(literal(text), most - len(indent), "  ")]


def _verdict(several: Sequence[FoundStatus], *, paint: bool) -> str:
    """One line: how many repositories there are, and how many of them in which state."""
    states = Counter(_state(one).text if one.rank != Rank.STUCK else "stuck" for one in several)
    worst = min(one.rank for one in several)
    colour = GREEN if worst == Rank.WELL else YELLOW if worst == Rank.LATE else RED
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
        if worst == Rank.UNSERVED:
            text += f"; {_state(several[0]).text}" if found.converged else ""
    else:
        text = f"{len(several)} repositories: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
        behind = max((one.lag for one in several), default=0.0)
        text += f"; the largest lag is {behind:.0f} s" if behind else ""
    return painted(literal(text), colour, paint=paint)
