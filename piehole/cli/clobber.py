"""Make this repository's refs the group's: all of its managed refs and HEAD, or those named. For when this site is right.

It shows each change, `REF: the group's value -> the value here (what it is)`, and asks. Refs that the group has and this
repository lacks are listed and left alone; with --delete they are deleted in the group, and so at every site (which keep the tips
below refs/piehole/kept/). Values that are no object ids (locked refs) are overwritten.

Nothing is written over what somebody changed after it was shown: then it shows the new situation and asks again. Refs whose objects
are not all in this repository are refused.

It also restores a group record that vanished, with its old id, and ends the standstill of this site after etcd, or this disk, went
back; for refs that are not clobbered the site then follows etcd, as after `piehole accept`, and shows that, too.
"""

from __future__ import annotations

import argparse

from piehole.cli import common, confirm
from piehole.errors import PieholeError

HELP = "make this repository's refs the group's"

_ATTEMPTS = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    common.repository(parser)
    common.etcd(parser)
    parser.add_argument("refs", metavar="REF", nargs="*", help="full names, such as refs/heads/main, or HEAD")
    parser.add_argument("--delete", action="store_true", help="delete in the group what this repository lacks")
    confirm.argument(parser)


def run(args: argparse.Namespace) -> int:
    from piehole import clobber

    local = common.open_local(args)
    local.repository.check_owner()
    request = clobber.Request(tuple(args.refs), args.delete)
    clobber.check_request(local, request)
    for _ in range(_ATTEMPTS):
        found = clobber.situation(local, request)
        for line in found.lines:
            print(line)
        status = 1 if args.refs and found.missing else 0
        if not found.needed:
            print("nothing to change: the group has what this repository has")
            return status
        confirm.confirm(f"Change {len(found.changes)} of the group's values?", yes=args.yes)
        if clobber.carry_out(local, found, common.operator()):
            print(f"changed {len(found.changes)} of the group's values; the other sites follow")
            return status
        print("somebody changed the group at the same moment; this is the new situation:")
    raise PieholeError(
        "the group's refs keep moving, so not everything could be written. Stop the pushes, and try again."
    )
