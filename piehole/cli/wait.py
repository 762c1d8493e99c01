"""Wait until this site, or so many sites, have what is the newest in the group now.

Without REF: everything that was pushed before this command was started. With REF (a full name, `main` or `heads/main`): the newest value
of this ref. With OID, too: until the ref contains that commit, whether it was pushed yet or not. What is pushed while the command waits
does not count.

--sites comes after REF and OID. It waits for so many sites, for all, or for those that are named (those that have left do not count).
Another site is known to have something when it has published that, which takes it up to a second, and not before any other ref that is
stuck there.

It needs no credential of etcd where the controller of this site answers, and no more than the right to read the repository. The exit
status is 0 when it is there, and 1 when it is not in time, or cannot come. It prints the reason why it is not there
and, where there is no terminal, every 30 seconds what it waits for.
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import complain
from piehole.errors import UsageError

EXAMPLES = (
    ("piehole wait", "wait until this site has everything that was pushed"),
    ("piehole wait main --sites 2 --timeout 10", "wait until two sites have the branch main, at most ten seconds"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("ref", metavar="REF", nargs="?", help="only this ref")
    parser.add_argument("oid", metavar="OID", nargs="?", help="this commit, or one that descends from it")
    parser.add_argument(
        "--sites", metavar="SITE", nargs="+", action="extend", help="a number, 'all', or names (default: this site)"
    )
    common.add_time(parser, "--timeout", "give up after this (default: never)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands.wait import Waiter
    from piehole.deadline import Deadline
    from piehole.group.ref_names import check_name
    from piehole.group.replica import Replica
    from piehole.replicate.freshness import Goal

    seconds = float("inf") if args.timeout is None else args.timeout
    if args.ref:
        check_name(args.ref)
    if args.sites is not None and not common.split(args.sites):
        raise UsageError("--sites: give a number, 'all', or names of sites.")
    git_dir = common.repository(args)
    goal = Goal(args.ref or "", args.oid or "", tuple(common.split(args.sites or ())))
    waiter = Waiter(git_dir, goal, lambda: Replica.open(git_dir, common.overrides(args)))
    found = waiter.run(Deadline(seconds))
    if not found.reached:
        complain(f"piehole: {git_dir}: not in time ({seconds:g} s): {found.why or 'it has not arrived yet'}")
    return 0 if found.reached else 1
