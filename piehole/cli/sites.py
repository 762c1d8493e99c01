"""List the sites of the group: name, how far each has replicated, whether it left, its URL and its id.

On a terminal, a table is printed, worst first. Elsewhere, and with --format lines: one
line per site; this site is marked with '*'. The state after the name is 'left', 'never seen' (no progress record yet), 'joining'
(it has not published yet that it has everything since it was installed, or since `piehole accept` there), or 'revision N' and whether
that is 'in step'. The exit status is 1 if etcd does not hold the group that this repository belongs to. A site whose name another machine took over
(`install --replace`) shows since when; the machine that lost the name shows a note instead of '*'. Where the group promises copies
(`piehole group`), a last line, `promise: copies N (…)`, says so.

--json prints one object: format (1), group, error (null, or why etcd does not hold the group of this
repository), newest (the newest revision that moved a ref of the group), and sites, a list of objects
with site, this (bool: this very repository), id, url, left (bool), replaced (when another machine took the name over, or null),
revision and reported (the site's progress and when it was written, or null), in_step (bool: by that progress),
seconds (the age of the oldest change that the site lacks, 0 if it is in step, null where that is not known),
fault (null, or why a record of it cannot be used). Also copies (a number, "majority" or "all"), copiesElse, and needed (how many sites that
is now); all three are null where the group's record cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from piehole.cli import common, tables
from piehole.cli.printing import complain, tell
from piehole.cli.tables import BOLD, DIM, GREEN, RED, YELLOW, Cell

EXAMPLES = (
    ("piehole sites", "the sites of the current repository's group"),
    ("piehole sites -C /srv/git/tools.git --json", "those of another one, for a script"),
)

_PATIENCE = 10.0  # seconds
_IN_STEP, _BEHIND = "in step", "behind"


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_etcd(parser)
    common.add_format(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands.lag import age, times_after
    from piehole.deadline import Deadline
    from piehole.group import promise, rollback_guard
    from piehole.group.records import GroupRecord
    from piehole.group.sites import list_sites, ref_revisions

    replica = common.open_replica(args)
    deadline = Deadline(_PATIENCE)
    state = replica.reader.list_group(deadline)
    newest = max(ref_revisions(state).values(), default=0)
    wrong = rollback_guard.check_group(replica.config, state.group.value if state.group else None)
    if wrong is not None:
        complain(f"piehole: {wrong}")
    everybody = list_sites(replica, deadline)
    late = sorted({one.revision for one in everybody if not one.left and 0 < one.revision < newest})
    since = times_after(replica, late, newest, deadline) if late else {}
    found: list[dict[str, Any]] = [
        {
            "site": one.site,
            "this": (one.site, one.id) == (replica.config.site, replica.config.site_id),
            "id": one.id,
            "url": one.url,
            "left": one.left,
            "replaced": one.replaced or None,
            "revision": one.progress.revision if one.progress else None,
            "reported": one.progress.time if one.progress else None,
            "in_step": one.revision >= newest,
            "seconds": 0.0 if one.revision >= newest else age(since.get(one.revision, "")),
            "fault": one.fault or None,
        }
        for one in everybody
    ]
    record = GroupRecord.parse(state.group.value) if wrong is None and state.group is not None else None
    counted = promise.members(everybody)
    if args.json:
        about = {
            "format": 1,
            "group": replica.config.group,
            "error": common.why(wrong),
            "newest": newest,
            "sites": found,
        }
        promised = {
            "copies": record and record.copies,
            "copiesElse": record and record.copies_else,
            "needed": record and promise.needed(record, counted),
        }
        print(json.dumps(about | promised, indent=2))
        return 0 if wrong is None else wrong.exit_status
    promised_words = f"copies {promise.words(record, counted)}" if record and record.promises_copies else ""
    if tables.wanted(args.format, sys.stdout):
        _print_table(found, replica.config.site, promised_words)
    else:
        for one in found:
            notes = "".join(f"  ({note})" for note in _notes(one, replica.config.site))
            tell(f"{'*' if one['this'] else ' '} {one['site']}  {_state(one)}  {one['url']}  {one['id']}{notes}")
        if promised_words:
            print(f"promise: {promised_words}")
    return 0 if wrong is None else wrong.exit_status


def _notes(one: dict[str, Any], here: str) -> list[str]:
    notes = [one["fault"]] if one["fault"] else []
    notes += [f"replaced {one['replaced']}"] if one["replaced"] else []
    lost = one["site"] == here and not one["this"]
    return notes + (["another machine than this one has the name"] if lost and not one["fault"] else [])


def _state(one: dict[str, Any]) -> str:
    word = _word(one)
    return f"revision {one['revision']}, {word}" if word in (_IN_STEP, _BEHIND) else word


def _word(one: dict[str, Any]) -> str:
    if one["left"]:
        return "left"
    if one["revision"] is None:
        return "never seen"
    if one["revision"] == 0:
        return "joining"
    return _IN_STEP if one["in_step"] else _BEHIND


def _print_table(found: list[dict[str, Any]], here: str, promised: str) -> None:
    """Worst first; a summary at the end."""
    words = [_word(one) for one in found]
    ranks = {"never seen": 0, _BEHIND: 1, "joining": 2, _IN_STEP: 3, "left": 4}
    ordered = sorted(
        found, key=lambda one: (not one["fault"], ranks[_word(one)], -(one["seconds"] or 0.0), one["site"])
    )
    rows = [_row(one, here) for one in ordered]
    most, paint = tables.window()[0], tables.coloured(sys.stdout)
    head = ("SITE", "STATE", "LAG", "REVISION", "REPORTED", "URL", "ID", "NOTES")
    counts = [f"{words.count(word)} {word}" for word in ranks if word in words]
    number = f"{len(found)} site{'' if len(found) == 1 else 's'}"
    well = all(word in (_IN_STEP, "left") for word in words) and not any(one["fault"] for one in found)
    verdict = tables.literal("; ".join([f"{number}: {', '.join(counts)}", *([promised] if promised else [])]))
    shown = tables.table(head, rows, most=most, paint=paint) if rows else []
    print("\n".join([*shown, "", tables.painted(verdict, GREEN if well else YELLOW, paint=paint)]))


def _row(one: dict[str, Any], here: str) -> list[Cell | str]:
    word = _word(one)
    colour = RED if one["fault"] else {_IN_STEP: GREEN, "left": DIM}.get(word, YELLOW)
    lag = "" if one["left"] else "?" if one["seconds"] is None else f"{one['seconds']:.0f} s"
    return [
        Cell(one["site"] + (" (this site)" if one["this"] else ""), BOLD),
        Cell(word, colour),
        Cell(lag, right=True),
        Cell(str(one["revision"] or ""), right=True),
        Cell(tables.local_time(one["reported"] or ""), DIM),
        one["url"],
        Cell(one["id"], DIM),
        "; ".join(_notes(one, here)),
    ]
