"""Compare what the group agreed on with what every site holds, and prove the objects of this site.

Without REPO: the current repository or, outside a repository, all below piehole.root. A site whose progress record carries a digest
of its refs, and is as new as the group's newest change, is compared by that alone; any other one is asked for its refs, as a fetch
would ask (--ask: all of them are). Each line begins with the repository's path:

  group G: N refs at revision R: …   the summary
  site S: STATE (how it was compared, when its objects were last verified)
  site S: STATE: WHAT: FIX           what is not as it should be, and the command that fixes it

STATE is 'in sync', or the worst of: 'behind' (refs still have values that the group has replaced), 'ahead' (refs were moved there without a
push), 'missing' (refs, or objects that the site claims to have), 'unreachable' (it cannot be asked); 'left' does not count, nor do
unknown refs (a site has them and the group has not) and locked ones. Where there are several repositories, only sites with something
to say are shown.

The exit status is 0 if every site of every group is in sync, 1 if not, and 3 if etcd could not be asked.

--json prints one object. Fields may be added, none will change its meaning:

  format        1
  in_sync       true when the exit status is 0
  repositories  a list of objects:
    repository, group, site   path and names (text)
    error                     only where the repository could not be audited: why; then nothing follows
    revision, refs            of etcd when the group was read; how many refs the group has
    in_sync                   every site that has not left is in sync
    halted                    null, or an object with token and why: etcd does not hold this repository's group
    locked                    an object from a ref to a sentence: its value in the group is no object id
    notes                     sentences about sites that joined meanwhile
    sites                     a list of objects: site, this (bool), state (above), by ('digest', 'refs', 'disk' or null), revision (of its
                              progress record, or null), refs (how many it should have), findings (a list of objects with state, ref
                              (or null), what and fix), unknown (a list of refs), verified (as in `piehole status --json`), note (null,
                              or that it left meanwhile)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piehole.cli import common
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError

if TYPE_CHECKING:
    from piehole.commands.audit import Audit, SiteAudit

HELP = "compare what the group agreed on with what every site holds"

_SHOWN = 20  # findings of one site that are printed


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    common.add_etcd(parser)
    parser.add_argument("repos", metavar="REPO", nargs="*", help="the repositories")
    parser.add_argument("--ask", action="store_true", help="ask every site for its refs, whatever its digest says")
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    worst = 0
    found: list[dict[str, Any]] = []
    folders = common.several(args)
    connections = common.Connections(common.overrides(args))
    for folder in folders:
        try:
            about, status = _one(folder, args, connections, alone=len(folders) == 1)
        except (PieholeError, OSError) as error:
            # A failure of one repository must not keep the others waiting.
            complain(f"{folder}: {error}")
            about = {"repository": str(folder), "error": str(error)}
            status = error.exit_status if isinstance(error, PieholeError) else 1
        found.append(about)
        worst = max(worst, status)
    if args.json:
        print(json.dumps({"format": 1, "in_sync": worst == 0, "repositories": found}, indent=2))
    return worst


def _one(
    folder: Path, args: argparse.Namespace, connections: common.Connections, *, alone: bool
) -> tuple[dict[str, Any], int]:
    from piehole.commands.audit import audit

    found = audit(connections.open(folder), fresh=args.ask)
    if not args.json:
        _print(found, alone=alone)
    return found.as_json(), 0 if found.in_sync else 1


def _print(found: Audit, *, alone: bool) -> None:
    from piehole.commands.audit import IN_SYNC, LEFT

    config = found.replica.config
    bad = [one for one in found.sites if one.state not in (IN_SYNC, LEFT)]
    summary = "in sync" if not bad else f"{len(bad)} of {len(found.sites)} sites not in sync"
    lines = [f"group {config.group}: {found.refs} refs at revision {found.revision}: {summary}"]
    if found.halted:
        lines = [f"group {config.group}: {found.halted.token}: {found.halted}"]
    for one in found.sites:
        if alone or one.findings or one.unknown or one.note:
            lines += _site(one)
    lines += [f"locked: {ref}: {why}" for ref, why in found.locked.items()]
    lines += [f"note: {note}" for note in found.notes]
    for line in lines:
        tell(f"{config.git_dir}: {line}")


def _site(one: SiteAudit) -> list[str]:
    how = {"digest": "by the digest that it published", "refs": "by its refs", "disk": "this site"}.get(one.by, "")
    verified = one.verified.get("time")
    notes = [how, f"revision {one.revision}" if one.revision is not None else "it has published nothing yet"]
    notes += [f"objects verified {verified}: {one.verified.get('result')}"] if verified else []
    lines = [f"site {one.site}: {one.state} ({', '.join(note for note in notes if note)})"]
    lines += [f"site {one.site}: {f.state}: {f.what}: {f.fix}" for f in one.findings[:_SHOWN]]
    if len(one.findings) > _SHOWN:
        lines.append(f"site {one.site}: … and {len(one.findings) - _SHOWN} more (--json lists all)")
    if one.unknown:
        some = ", ".join(one.unknown[:3]) + (", …" if len(one.unknown) > 3 else "")
        fix = f"`piehole clobber REF` at {one.site} makes one the group's, `git update-ref -d REF` removes it there"
        lines.append(f"site {one.site}: unknown to the group: {len(one.unknown)} refs ({some}): {fix}")
    if one.note:
        lines.append(f"site {one.site}: {one.note}")
    return lines
