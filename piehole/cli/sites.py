"""List the sites of the group: name, how far each has replicated, whether it left, its URL and its id.

One line per site; this site is marked with '*'. The state after the name is 'left', 'never seen' (no progress record yet), 'joining'
(it has not published yet that it has everything since it was installed, or since `piehole accept` there), or 'revision N' and whether
that is 'in step'. The exit status is 1 if etcd does not hold the group that this repository belongs to. A site whose name another machine took over
(`install --replace`) shows since when; the machine that lost the name shows a note instead of '*'. Where the group promises copies
(`piehole group`), a last line, `promise: copies N (…)`, says so.

--json prints one object: format (1), group, error (null, or why etcd does not hold the group of this
repository), newest (the newest revision that moved a ref of the group), and sites, a list of objects
with site, this (bool: this very repository), id, url, left (bool), replaced (when another machine took the name over, or null),
revision and reported (the site's progress and when it was written, or null), in_step (bool: by that progress),
fault (null, or why a record of it cannot be used). Also copies (a number, "majority" or "all"), copiesElse, and needed (how many sites that
is now); all three are null where the group's record cannot be used.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from piehole.cli import common
from piehole.cli.printing import complain, tell

EXAMPLES = (
    ("piehole sites", "the sites of the current repository's group"),
    ("piehole sites -C /srv/git/tools.git --json", "those of another one, for a script"),
)

_PATIENCE = 10.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_etcd(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
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
    for one in found:
        lost = one["site"] == replica.config.site and not one["this"]
        notes = [one["fault"]] if one["fault"] else []
        notes += [f"replaced {one['replaced']}"] if one["replaced"] else []
        notes += ["another machine than this one has the name"] if lost and not one["fault"] else []
        notes_shown = "".join(f"  ({note})" for note in notes)
        tell(f"{'*' if one['this'] else ' '} {one['site']}  {_state(one)}  {one['url']}  {one['id']}{notes_shown}")
    if record is not None and record.promises_copies:
        print(f"promise: copies {promise.words(record, counted)}")
    return 0 if wrong is None else wrong.exit_status


def _state(one: dict[str, Any]) -> str:
    if one["left"]:
        return "left"
    if one["revision"] is None:
        return "never seen"
    if one["revision"] == 0:
        return "joining"
    return f"revision {one['revision']}, {'in step' if one['in_step'] else 'behind'}"
