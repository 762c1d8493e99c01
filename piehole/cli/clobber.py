"""Make this repository's refs the group's: all managed refs and HEAD, or those named. Use it when this site is right.

It shows each change, `REF: the group's value -> the value here (kind of move)`, and asks. Refs that the group has and this
repository lacks are listed and left alone; with --delete they are deleted in the group, and so at every site (which keep the tips
below refs/piehole/kept/). Values that are no object ids (locked refs) are overwritten.

If somebody changes the group after the changes were shown, nothing is overwritten: the command shows the new situation and asks again.
It refuses refs whose objects are not all in this repository.

It also restores a missing group record with its old id. If this site was halted because etcd or this disk was restored from a backup,
the site continues: refs that are not clobbered then follow etcd, as after `piehole accept`, and these changes are shown, too.

With --newest the value of each ref is not the one of this repository but the newest that any site holds: the one that has all other
values in its history. All sites are asked, and newer objects are fetched; refs move only forward. Refs that diverged or were deleted
are listed for an administrator to decide; as long as there is such a ref, a halted site stays halted. If a site cannot be asked,
nothing is changed, unless the site is left out with --without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.cli.printing import tell
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.commands.clobber import Situation
    from piehole.group.replica import Replica
    from piehole.transfer.keep_files import Hold

EXAMPLES = (
    ("piehole clobber refs/heads/main", "make the branch main of this repository the group's"),
    (
        "piehole clobber --newest --without lima",
        "for every ref the newest value that any site has, without asking the site lima",
    ),
)

_ATTEMPTS = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument(
        "refs", metavar="REF", nargs="*", help="such as main, refs/heads/main, v1.0 or HEAD (default: all)"
    )
    parser.add_argument("--delete", action="store_true", help="delete in the group the refs that this repository lacks")
    parser.add_argument("--newest", action="store_true", help="for each ref, the newest value that any site holds")
    parser.add_argument(
        "--without",
        metavar="SITE",
        action="append",
        default=[],
        help="with --newest: do not ask this site; may be repeated",
    )
    common.add_yes(parser)
    common.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.transfer.keep_files import Hold as Holding

    if args.newest and args.delete:
        raise UsageError("--newest never deletes: leave out --delete.")
    if args.without and not args.newest:
        raise UsageError("--without goes with --newest only.")
    replica = common.open_replica(args)
    replica.repository.check_owner()
    with Holding() as hold:
        found = _examine(replica, args, None if args.dry_run else hold)
        return until_written(replica, found, yes=args.yes, dry=args.dry_run, named=bool(args.refs), newest=args.newest)


def _examine(replica: Replica, args: argparse.Namespace, hold: Hold | None) -> Callable[[], Situation]:
    from piehole.commands import clobber, clobber_newest

    request = clobber.ClobberRequest(tuple(args.refs), args.delete)
    if args.newest:
        newer = clobber_newest.NewestRequest(tuple(args.refs), tuple(args.without))
        return lambda: clobber_newest.situation(replica, newer, hold)
    return lambda: clobber.situation(replica, request)


def until_written(
    replica: Replica,
    look: Callable[[], Situation],
    *,
    yes: bool,
    dry: bool = False,
    named: bool = True,
    newest: bool = False,
    kind: str = "clobber",
    nothing: str = "",
) -> int:
    """Show what would change, ask, and write it; where somebody changes the group meanwhile, again. Returns the exit status.

    :param dry: only show it
    :param named: whether refs were named, so that one that is left alone was not done
    :param kind: the word that `piehole log` shows
    :param nothing: what to say where nothing is to be changed
    """
    from piehole.commands import clobber

    for _ in range(_ATTEMPTS):
        found = look()
        for line in found.lines:
            tell(line)
        status = 1 if (named and found.missing) or found.undecided else 0
        if dry and (found.needed or found.undecided):
            common.say_dry_run(f"change {len(found.changes)} of the group's values" if found.needed else "")
            return status
        if not found.needed:
            tell(nothing or _done(newest, found))
            return status
        common.confirm(f"Change {len(found.changes)} of the group's values?", yes=yes)
        if clobber.carry_out(replica, found, common.operator(), tell, kind):
            tell(f"changed {len(found.changes)} of the group's values; the other sites follow")
            if found.undecided:
                tell(_decide(found))
            return status
        tell("somebody changed the group meanwhile; this is the new situation:")
    raise PieholeError(
        "the group's refs keep moving, so not all changes could be written. Stop the pushes, and try again."
    )


def _done(newest: bool, found: Situation) -> str:
    if found.undecided:
        return _decide(found)
    if newest:
        return "nothing to change: the group has the newest that any site has"
    return "nothing to change: the group has what this repository has"


def _decide(found: Situation) -> str:
    still = "; after that, run `piehole accept` to let this site continue" if found.halted is not None else ""
    return f"{len(found.undecided)} of the refs above are for you to decide{still}"
