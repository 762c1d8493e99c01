"""Mark a site as left: the group no longer waits for it, and its repository refuses pushes and moves nothing.

Without --site, the site of this repository leaves. Use --site S at any other site for a site that was lost for good. The record
stays, marked as left; `piehole install` at the site makes it a member again.

If only this site is known to have the newest value of some refs, their objects may exist nowhere else. Those refs are listed, and
nothing is changed without --yes or a yes at the terminal.
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import tell

HELP = "mark a site as left"

_PATIENCE = 10.0  # seconds
_SHOWN = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("--site", metavar="SITE", dest="leaving", help="the site that leaves (default: this one)")
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.commands import leave
    from piehole.deadline import Deadline
    from piehole.errors import PieholeError
    from piehole.group import sites

    replica = common.open_replica(args)
    deadline = Deadline(_PATIENCE)
    site = args.leaving or replica.config.site
    everybody = sites.list_sites(replica, deadline)
    if not args.leaving and not sites.is_ours(replica, everybody):
        raise PieholeError(
            f"the group has no record of this repository: the name {site!r} is not registered, or is another machine's. "
            f"`piehole leave --site {site}` means whoever has the name now."
        )
    if any(one.site == site and not one.left for one in everybody):
        alone = leave.held_alone(replica, replica.reader.list_group(deadline), everybody, site, deadline)
        for ref in alone[:_SHOWN]:
            tell(f"only at {site}: {ref}")
        if len(alone) > _SHOWN:
            print(f"only at {site}: {len(alone) - _SHOWN} more refs")
        if alone:
            print(f"No other site is known to have the newest of {'these' if len(alone) > 1 else 'this'} yet.")
            common.confirm(f"Let {site} leave all the same?", yes=args.yes)
            deadline = Deadline(_PATIENCE)
    changed = leave.leave(replica, site, deadline)
    print(
        f"the site {site!r} has left the group {replica.config.group!r}"
        if changed
        else f"the site {site!r} had left already"
    )
    return 0
