"""Make this repository's refs the group's: all of its managed refs and HEAD, or those named. For when this site is right.

It shows each change, `REF: the group's value -> the value here (what it is)`, and asks. Refs that the group has and this
repository lacks are listed and left alone; with --delete they are deleted in the group, and so at every site (which keep the tips
below refs/piehole/kept/). Values that are no object ids (locked refs) are overwritten.

Nothing is written over what somebody changed after it was shown: then it shows the new situation and asks again. Refs whose objects
are not all in this repository are refused.

It also restores a group record that vanished, with its old id, and ends the standstill of this site after etcd, or this disk, went
back; for refs that are not clobbered the site then follows etcd, as after `piehole accept`, and shows that, too.

With --newest it is not this repository that counts, but for each ref the newest value that any site holds: the one that has all
others in its history. All sites are asked, and what is newer is fetched; refs move only forward. What forked, or was deleted, is
listed for a person to decide; as long as there is such a ref, a site that stands still goes on standing still. A site that
cannot be asked stops it, unless it is left out with --without.
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

HELP = "make this repository's refs the group's"

_ATTEMPTS = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("refs", metavar="REF", nargs="*", help="full names, such as refs/heads/main, or HEAD")
    parser.add_argument("--delete", action="store_true", help="delete in the group what this repository lacks")
    parser.add_argument("--newest", action="store_true", help="for each ref, the newest value that any site holds")
    parser.add_argument(
        "--without",
        metavar="SITE",
        action="append",
        default=[],
        help="with --newest: do not ask this site; may be repeated",
    )
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.transfer.keep_files import Hold as Holding

    if args.newest and args.delete:
        raise UsageError("--newest never deletes: leave out --delete.")
    if args.without and not args.newest:
        raise UsageError("--without goes with --newest only.")
    replica = common.open_replica(args)
    replica.repository.check_owner()
    with Holding() as hold:
        return _until_written(replica, _looking(replica, args, hold), args)


def _looking(replica: Replica, args: argparse.Namespace, hold: Hold) -> Callable[[], Situation]:
    from piehole.commands import clobber, clobber_newest

    request = clobber.ClobberRequest(tuple(args.refs), args.delete)
    clobber.check_request(replica, request)
    if args.newest:
        newer = clobber_newest.NewestRequest(tuple(args.refs), tuple(args.without))
        return lambda: clobber_newest.situation(replica, newer, hold)
    return lambda: clobber.situation(replica, request)


def _until_written(replica: Replica, look: Callable[[], Situation], args: argparse.Namespace) -> int:
    from piehole.commands import clobber

    for _ in range(_ATTEMPTS):
        found = look()
        for line in found.lines:
            tell(line)
        status = 1 if (args.refs and found.missing) or found.undecided else 0
        if not found.needed:
            tell(_done(args, found))
            return status
        common.confirm(f"Change {len(found.changes)} of the group's values?", yes=args.yes)
        if clobber.carry_out(replica, found, common.operator()):
            print(f"changed {len(found.changes)} of the group's values; the other sites follow")
            if found.undecided:
                tell(_decide(found))
            return status
        print("somebody changed the group at the same moment; this is the new situation:")
    raise PieholeError(
        "the group's refs keep moving, so not everything could be written. Stop the pushes, and try again."
    )


def _done(args: argparse.Namespace, found: Situation) -> str:
    if found.undecided:
        return _decide(found)
    if args.newest:
        return "nothing to change: the group has the newest that any site has"
    return "nothing to change: the group has what this repository has"


def _decide(found: Situation) -> str:
    still = "; then `piehole accept` ends the standstill of this site" if found.halted is not None else ""
    return f"{len(found.undecided)} of the refs above are for you to decide{still}"
