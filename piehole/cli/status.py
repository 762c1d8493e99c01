"""Show how far each site has replicated: in step, or behind and by how much, or stuck and why.

Without -C or --root: the current repository or, outside a repository, all below piehole.root. Another site is behind by the
number of refs that moved after its progress record; this site is judged by its refs. Each line begins with the repository's path:

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

--wait SECONDS waits until every site that has not left has reached the state that is the newest now; exit status 1 if not in time, or for
a silent controller.

--json prints one object. Fields may be added, none will change its meaning:

  format        1
  converged     true when the exit status is 0
  repositories  a list of objects:
    repository, group, site   path and names (text)
    revision, newest          etcd's revision, and the newest revision that moved one of the group's refs
    in_step, converged        this site has every value of the group; every site that has not left has
    healthy                   a controller answers here, none of another site is silent, and the promise of copies can be kept
    error                     null, or why etcd could not be asked
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
from pathlib import Path
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError

if TYPE_CHECKING:
    from piehole.commands.status import SiteStatus, Status
    from piehole.deadline import Deadline

_PATIENCE = 5.0  # seconds for etcd, for each repository


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    common.add_etcd(parser)
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, help="wait until every site has replicated what is the newest now"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.deadline import Deadline

    worst = 0
    waiting = None if args.wait is None else Deadline(args.wait)
    shown: list[Status] = []
    for git_dir in common.repositories(args):
        try:
            found, ok = _one(git_dir, args, waiting)
        except PieholeError as error:
            complain(f"{git_dir}: {error}")
            worst = max(worst, error.exit_status)
            continue
        shown.append(found)
        if found.trouble:
            worst = max(worst, found.trouble.exit_status)
        elif not ok:
            worst = max(worst, 1)
        if not args.json:
            _print(found)
    if args.json:
        from piehole.commands.status import FORMAT

        repositories = [one.as_json() for one in shown]
        print(json.dumps({"format": FORMAT, "converged": worst == 0, "repositories": repositories}, indent=2))
    return worst


def _one(git_dir: Path, args: argparse.Namespace, waiting: Deadline | None) -> tuple[Status, bool]:
    from piehole.commands.status import status, wait
    from piehole.group.replica import Replica

    replica = Replica.open(git_dir, common.overrides(args))
    found = status(replica, _PATIENCE)
    if waiting is None or found.trouble or found.halted:
        return found, found.converged and found.healthy
    reached = wait(found, waiting, _PATIENCE)
    now = status(replica, _PATIENCE)
    return now, reached and now.healthy


def _print(found: Status) -> None:
    from piehole.commands.check.objects import unproven
    from piehole.replicate.local_changes import UNADOPTED, unadopted_fix

    config = found.replica.config
    lines = [f"group {config.group}, site {config.site}: {_summary(found)}"]
    lines += [f"site {one.group_site.site}: {_site(found, one)}" for one in found.sites]
    if found.halted:
        lines.append(f"halted: {found.halted.token}: {found.halted}")
    if found.corrupt:
        lines.append(f"corrupt: {found.corrupt}")
    for word, refs in (("pending", found.pending), ("stuck", found.stuck), ("locked", found.locked)):
        lines += [f"{word}: {ref}: {why}" for ref, why in refs.items()]
    lines += [f"unadopted: {ref}" for ref in found.unadopted]
    if found.unadopted:
        lines.append(
            f"note: an unadopted ref was {UNADOPTED}; {unadopted_fix('REF' if len(found.unadopted) > 1 else found.unadopted[0])}"
        )
    if found.copies and found.copies.promised != 1:
        lines.append(f"copies: {found.copies.promise} promised; {found.copies}")
    lines += [f"verified: {fault}" for fault in unproven(found.replica.config)]
    if found.controller is None:
        lines.append("controller: none answers here, so what other sites push does not come: run `piehole controller`")
    else:
        lines += [f"controller: {line}" for line in found.controller or ["answers"]]
    if found.second:
        lines.append(f"controller: a second controller ({found.second}) is refused here: stop one of the two")
    for line in lines:
        tell(f"{config.git_dir}: {line}")


def _summary(found: Status) -> str:
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
    from piehole.commands.status import BEHIND, LEFT, age
    from piehole.group.outlook import duration

    words = [f"silent for {duration(one.heard)},"] if one.silent and one.heard is not None else []
    words.append(one.state)
    if one.state == BEHIND and one.behind:
        words.append(f"by {one.behind} ref{'' if one.behind == 1 else 's'}")
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
