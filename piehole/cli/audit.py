"""Compare what the group agreed on with what every site holds, and prove the objects of this site.

--verify proves what the controller proves in turn (piehole.verifyEvery): the checksums of all packs, indexes and graphs, loose objects, the
history of all refs, and that commit-graph and multi-pack-index agree with the objects. --deep also unpacks each object of each pack.
Both include the tips below refs/piehole/held/ and refs/piehole/kept/, run at the lowest priority and at most at --rate, and may be
killed: the next one goes on where it was (a week later it begins anew). What is found is noted, and a running controller repairs it.

--repair fetches what is damaged or missing from the other sites and proves it. Damaged files are moved to REPO/piehole/damaged/ and not
deleted; indexes, commit-graphs and the like are made anew. What no site has is named.

--repair --dry-run says what would be repaired, and changes nothing: it reads what earlier proofs have noted and examines the objects for up
to 30 seconds, instead of proving them (with --json: would_repair, a list of sentences, instead of the fields below).

--local asks neither etcd nor another site.

Without REPO: the current repository or, outside a repository, all below piehole.root. A site whose progress record carries a digest
of its refs, and is as new as the group's newest change, is compared by that alone; any other one is asked for its refs, as a fetch
would ask (--ask: all of them are). Each line begins with the repository's path:

  group G: N refs at revision R: …   the summary
  site S: STATE (how it was compared, when its objects were last verified)
  site S: STATE: WHAT: FIX           what is not as it should be, and the command that fixes it
  objects: …                         what --verify or --deep found here

STATE is 'in sync', or the worst of: 'behind' (refs still have values that the group has replaced), 'ahead' (refs were moved there without a
push), 'missing' (refs, or objects that the site claims to have), 'unreachable' (it cannot be asked); 'left' does not count, nor do
unknown refs (a site has them and the group has not) and locked ones. Where there are several repositories, only sites with something
to say are shown.

The exit status is 0 if every site of every group is in sync and the objects that were proven are sound, 1 if not, and 3 if etcd could
not be asked.

--json prints one object. Fields may be added, none will change its meaning:

  format        1
  in_sync       true when the exit status is 0
  repositories  a list of objects:
    repository, group, site   path and names (text)
    error                     only where the repository could not be audited: why; then only objects may follow
    revision, refs            of etcd when the group was read; how many refs the group has
    in_sync                   every site that has not left is in sync
    halted                    null, or an object with token and why: etcd does not hold this repository's group
    locked                    an object from a ref to a sentence: its value in the group is no object id
    notes                     sentences about sites that joined meanwhile
    sites                     a list of objects: site, this (bool), state (above), by ('digest', 'refs', 'disk' or null), revision (of its
                              progress record, or null), refs (how many it should have), findings (a list of objects with state, ref
                              (or null), what and fix), unknown (a list of refs), verified (as in `piehole status --json`), note (null,
                              or that it left meanwhile)
    objects                   null, or an object: sound and deep (bool), bytes and seconds, fault (null or a sentence), damaged (a list of
                              files), objects (from a damaged object to its file), missing (a list of object ids), refs (from a ref
                              whose history is not complete here to its object id), kept (from the ref of such a kept tip to a
                              sentence), repaired and not_repaired (null, or what and why)
"""

from __future__ import annotations

import argparse
import json
import os
import select
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from piehole import long_work
from piehole.cli import common
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.commands.audit import Audit, SiteAudit
    from piehole.commands.audit_objects import ObjectsAudit
    from piehole.group.replica import Replica

EXAMPLES = (
    ("piehole audit", "compare the refs of all sites of this repository's group"),
    (
        "piehole audit --deep --repair --rate 20 /srv/git/tools.git",
        "prove every object here at 20 MB a second, and fetch what is damaged from other sites",
    ),
)

_RATE = 50.0
_SHOWN = 20  # findings of one site that are printed


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    common.add_etcd(parser)
    levels = parser.add_mutually_exclusive_group()
    levels.add_argument("--verify", action="store_true", help="prove the files and the history here")
    levels.add_argument("--deep", action="store_true", help="prove every object here")
    parser.add_argument("--repair", action="store_true", help="fetch what is damaged or missing here from other sites")
    common.add_dry_run(parser)
    common.add_quiet(parser)
    parser.add_argument("--local", action="store_true", help="only the objects of this site")
    parser.add_argument(
        "--rate",
        metavar="MB",
        type=float,
        default=_RATE,
        help="megabytes a second to read at most (default 50; 0: no limit)",
    )
    parser.add_argument("--controlled", action="store_true", help=argparse.SUPPRESS)  # by the controller, see _Control
    parser.add_argument("--ask", action="store_true", help="ask every site for its refs, whatever its digest says")
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    if (args.repair or args.local) and not (args.verify or args.deep):
        raise UsageError("--repair and --local are about the objects of this site: add --deep or --verify.")
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run goes with --repair: without it, the group and the objects stay as they are anyway.")
    if args.repair and args.local:
        raise UsageError(
            "--repair asks other sites for what is missing here, and --local asks none: use one of the two."
        )
    if not 0 <= args.rate < 1e6:
        raise UsageError(
            f"--rate is {args.rate:g}; it must be a number of megabytes a second, such as 50, or 0 for no limit."
        )
    worst = 0
    found: list[dict[str, Any]] = []
    folders = common.repositories(args)
    connections = common.Connections(common.overrides(args))
    for folder in folders:
        try:
            about, status = _one(folder, args, connections, alone=len(folders) == 1)
        except (PieholeError, OSError) as error:
            # A failure of one repository must not keep the others waiting.
            complain(f"{folder}: {error}")
            about, status = {"repository": str(folder), "error": str(error)}, common.status_of(error)
        found.append(about)
        worst = max(worst, status)
    if args.json:
        print(json.dumps({"format": 1, "in_sync": worst == 0, "repositories": found}, indent=2))
    return worst


def _one(
    folder: Path, args: argparse.Namespace, connections: common.Connections, *, alone: bool
) -> tuple[dict[str, Any], int]:
    from piehole.commands.audit import Audit, audit

    replica = connections.open(folder)
    # This takes longest, so the sites are compared after it, as they are then.
    if args.dry_run:
        return _preview(replica)
    objects = _objects(replica, args) if args.verify or args.deep else None
    if objects is not None and not args.json:
        _print_objects(objects)
    proven = {"objects": objects.as_json() if objects is not None else None}
    try:
        found = Audit(replica) if args.local else audit(replica, fresh=args.ask)
    except PieholeError as error:
        if objects is None:
            raise
        complain(f"{folder}: {error}")
        return {"repository": str(folder), "error": str(error), **proven}, error.exit_status
    if not args.json and not args.local:
        _print(found, alone=alone)
    return found.as_json() | proven, 0 if found.in_sync and (objects is None or objects.sound) else 1


def _preview(replica: Replica) -> tuple[dict[str, Any], int]:
    from piehole.commands.audit_objects import known_faults

    faults = known_faults(replica)
    for fault in faults:
        complain(f"{replica.git_dir}: objects: would be fetched from other sites: {fault}")
    complain(f"{replica.git_dir}: nothing was changed (--dry-run)")
    return {"repository": str(replica.git_dir), "would_repair": faults}, 1 if faults else 0


def _objects(replica: Replica, args: argparse.Namespace) -> ObjectsAudit:
    from piehole.commands.audit_objects import prove
    from piehole.transfer import pace, proof

    pace.lowest_priority()
    control = _Control() if args.controlled else None
    total = proof.total(replica.git_dir, deep=args.deep)
    bounds = pace.Pace(
        rate=args.rate * 1e6,
        busy=control.is_paused if control else lambda: False,
        stop=control.has_ended if control else lambda: False,
        progress=lambda read, doing: long_work.doing(f"proving all objects: {doing}", read, total, long_work.BYTES),
    )
    try:
        with long_work.watched(control) if control else nullcontext():
            return prove(replica, bounds, deep=args.deep, mend=args.repair, local=args.local)
    except pace.Stopped:
        raise PieholeError("it was stopped, and goes on from there the next time.") from None


class _Control(long_work.LongWork):
    """The controller at the other end of standard input: it writes ``p`` to pause this process and ``g`` to let it go on, and closes it
    to end it, also by dying. On standard output it reads how far this is: a list of what is done, how much of it, of how much, and the unit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._paused = self._ended = False
        self._next = 0.0

    def doing(self, what: str, done: int, total: int, unit: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + long_work.EVERY / 3
            print(json.dumps([what, done, total, unit]), flush=True)

    def is_paused(self) -> bool:
        self._listen()
        return self._paused

    def has_ended(self) -> bool:
        self._listen()
        return self._ended

    def _listen(self) -> None:
        while not self._ended and select.select([0], [], [], 0)[0]:
            said = os.read(0, 64)
            self._ended = not said
            self._paused = said.endswith(b"p")


def _print_objects(found: ObjectsAudit) -> None:
    proof = found.proven.proof
    where = found.repository
    if found.repaired:
        tell(f"{where}: objects: repaired: {found.repaired}")
    for fault in found.findings():
        tell(f"{where}: objects: {fault}")
    for oid, file in list(proof.objects.items())[:_SHOWN]:
        tell(f"{where}: objects: {oid} is damaged in {file}")
    for oid in proof.missing[:_SHOWN]:
        tell(f"{where}: objects: {oid} is missing")
    how = "every object" if found.deep else "files and history"
    verdict = "sound" if found.sound else "not sound"
    tell(f"{where}: objects: {verdict} ({how}; {proof.proven / 1e6:.1f} MB in {found.seconds:.1f} s)")


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
