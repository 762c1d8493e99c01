"""Show how far each site has replicated: in step, or behind and by how much, or stuck and why.

Without REPO, -C or --root: the current repository or, outside a repository, all below piehole.root. Another site is behind by the
number of refs that moved after its progress record; this site is judged by its refs.

On a terminal, a table is printed: the sites of one repository, or one row for each of several repositories, worst first, with what is
wrong below it and a summary at the end. LAG is the age of the oldest change that a site lacks. If more than five repositories are well,
these are only counted; --all lists them. There are no colours where NO_COLOR is set or TERM is "dumb".

Elsewhere, and with --format lines, lines for scripts are printed. Each line begins with the repository's path:

  group G, site S: …          the summary of this site: in step, not in step, halted, or not known
  site S: STATE …             one line per site; STATE is 'in step', 'behind', 'corrupt', 'never seen' or 'left';
                              'silent for …': its controller has given no sign of life for more than 45 seconds
  halted: TOKEN: …            this site must not move until an administrator decides
  corrupt: WHAT               objects that this site claims to have are missing or damaged; it is repaired from another site
  pending: REF: …             the next reconcile here will move it
  stuck: REF: …               why it cannot be moved here
  locked: REF: …              its value in the group is no object id (an administrator did that); it does not count
  unadopted: REF              the group has no value for it, so it stays as it is, at this site alone; it does not count
  note: …                     what to do about the unadopted refs
  copies: …                   where the group promises copies: how many sites can hold them now, and why the others cannot
  verified: …                 where the proof of all objects here is overdue, or kept tips were found to be incomplete
  controller: …               whether a controller answers here

The exit status is 0 only when every site shown is in step, this one included, a controller answers here, no other site's
controller is silent, and as many sites can hold copies as the group promises. (The controllers of older versions give no sign of life;
that is not known, and does not count as silent. Such a site takes no copies.)

--wait TIME waits until every site that has not left has reached the state that is the newest now; exit status 1 if not in time, or for
a silent controller.

--json prints one object. Fields may be added, none will change its meaning:

  format        1
  converged     true when the exit status is 0
  repositories  a list of objects:
    repository, group, site   path and names (text)
    revision, newest          etcd's revision, and the newest revision that moved one of the group's refs
    in_step, converged        this site has every value of the group; every site that has not left has
    healthy                   a controller answers here, none of another site is silent, and the promise of copies can be kept
    error                     null, or why etcd could not be asked; where the repository itself could not be examined, why, and of the
                              other fields only repository is there
    halted                    null, or an object with token and why
    corrupt                   null, or what is missing or damaged (as far as a few seconds allow to examine it)
    controller                whether a controller answers; controller_says holds its own lines
    second_controller         null, or what another controller is called that was refused here
    pending, stuck, locked    objects from a ref to a sentence
    unadopted                 a list of refs
    sites                     a list of objects: site, this (bool), state, behind (number of refs), since (the time of the first
                              change that it lacks, or null), seconds (since then, or null), revision and reported (of its progress
                              record, or null), url, fault (null, or why its records cannot be used), verified (null, or what
                              the site has published of its last examination: result, time, why, and proven: when all its
                              objects were last proven), overdue (whether that is longer ago than one and a half times this site's
                              piehole.verifyEvery), heard (seconds since its
                              controller's last sign of life, or null where none is known), silent (whether that is too long)
    copies                    null where the group's record cannot be used, or an object: promised (a number, "majority" or "all"),
                              needed (how many sites that is now), kept (bool: a push to this site finds so many), able (the sites
                              that can hold copies), unable (an object: the others, each with the reason)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from piehole.cli import common, tables
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError

if TYPE_CHECKING:
    from piehole.cli.status_text import FoundStatus
    from piehole.commands.status import Status
    from piehole.deadline import Deadline

EXAMPLES = (
    ("piehole status", "the current repository, or all below piehole.root"),
    ("piehole status --root /srv/git --json", "all repositories below /srv/git, for a script"),
)

_PATIENCE = 5.0  # seconds for etcd, for each repository


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    common.add_etcd(parser)
    common.add_time(parser, "--wait", "wait so long for every site to replicate what is the newest now")
    common.add_format(parser)
    parser.add_argument(
        "--all", action="store_true", help="list repositories that are well, too, instead of only counting them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.cli import status_text
    from piehole.cli.status_text import FoundStatus
    from piehole.deadline import Deadline

    worst = 0
    waiting = None if args.wait is None else Deadline(args.wait)
    table = not args.json and tables.wanted(args.format, sys.stdout)
    seen: list[FoundStatus] = []
    for folder in common.repositories(args):
        try:
            found, ok = _one(folder, args, waiting)
        except (PieholeError, OSError) as error:
            seen.append(FoundStatus(folder, error))
            worst = max(worst, common.status_of(error))
            if not table:
                complain(f"{folder}: {error}")
            continue
        git_dir = found.replica.git_dir
        seen.append(FoundStatus(git_dir, found))
        worst = max(worst, found.trouble.exit_status if found.trouble else 0 if ok else 1)
        if not args.json and not table:
            for line in status_text.lines(found):
                tell(f"{git_dir}: {line}")
    if args.json:
        _print_json(seen, worst)
    elif table:
        most, paint = tables.window()[0], tables.coloured(sys.stdout)
        print("\n".join(status_text.table(seen, unfold=args.all, most=most, paint=paint)))
    return worst


def _print_json(seen: list[FoundStatus], worst: int) -> None:
    from piehole.commands.status import FORMAT

    repositories = [one.as_json() for one in seen]
    print(json.dumps({"format": FORMAT, "converged": worst == 0, "repositories": repositories}, indent=2))


def _one(folder: Path, args: argparse.Namespace, waiting: Deadline | None) -> tuple[Status, bool]:
    from piehole.commands.status import status, wait
    from piehole.group.replica import Replica
    from piehole.repository.fitness import find_repository

    replica = Replica.open(find_repository(folder), common.overrides(args))
    found = status(replica, _PATIENCE)
    if waiting is None or found.trouble or found.halted:
        return found, found.converged and found.healthy
    reached = wait(found, waiting, _PATIENCE)
    now = status(replica, _PATIENCE)
    return now, reached and now.healthy
