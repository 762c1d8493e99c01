"""Mark a site as left: the group no longer waits for it, and its repository refuses pushes and moves nothing.

Without --site, the site of this repository leaves. Use --site S at any other site for a site that was lost for good. The record
stays, marked as left; `piehole install` at the site makes it a member again.

If only this site is known to have the newest value of some refs, their objects may exist nowhere else. Those refs are listed, and
nothing is changed without --yes or a yes at the terminal. The same holds where the group promises copies (`piehole group`), and without
this site would have too few sites for that, or refs whose newest value fewer sites are known to have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.cli.printing import tell

if TYPE_CHECKING:
    from piehole.commands.leave import PromiseWithout

EXAMPLES = (
    ("piehole leave", "take the site of the current repository out of its group"),
    ("piehole leave -C /srv/git/tools.git --site lima", "take the site lima out, which was lost for good"),
)

_PATIENCE = 10.0  # seconds
_SHOWN = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
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
    members = sites.read_sites(replica, deadline)
    everybody = members.sites
    if not args.leaving and not sites.is_ours(replica, everybody):
        raise PieholeError(
            f"the group has no record of this repository: the name {site!r} is not registered, or is another machine's. "
            f"`piehole leave --site {site}` means whoever has the name now."
        )
    promised = None
    if any(one.site == site and not one.left for one in everybody):
        state = replica.reader.list_group(deadline)
        promised = leave.promise_without(replica, state, members, site)
        alone = leave.held_alone(replica, state, everybody, site, deadline)
        _list(f"only at {site}", alone)
        if alone:
            tell(f"No other site is known to have the newest of {'these' if len(alone) > 1 else 'this'} yet.")
        doubts = [*alone, *_doubts(promised, site)]
        if promised.possible and promised.needed > 1:
            fewer = leave.held_alone(replica, state, everybody, site, deadline, promised.needed)
            fewer = [ref for ref in fewer if ref not in alone]
            _list(f"not at {promised.needed} sites without {site}", fewer)
            doubts += fewer
        asked = f"Let the site {site!r} leave the group {replica.config.group!r}{' all the same' if doubts else ''}?"
        # Who names the site has said which one; without, a command in the wrong folder takes the wrong one out.
        common.confirm(asked, yes=args.yes or args.dry_run, needed=bool(doubts) or not args.leaving)
        deadline = Deadline(_PATIENCE)
    changed = leave.leave(replica, site, deadline, promised.guards if promised else (), dry=args.dry_run)
    if args.dry_run:
        common.say_dry_run(f"let the site {site!r} leave the group {replica.config.group!r}" if changed else "")
        return 0
    tell(
        f"the site {site!r} has left the group {replica.config.group!r}"
        if changed
        else f"the site {site!r} had left already"
    )
    if changed and promised is not None and promised.before != promised.after:
        tell(f"the group promises copies: {promised.after}; before, {promised.before}")
    return 0


def _doubts(promised: PromiseWithout, site: str) -> list[str]:
    """Say where the group could not keep its promise without this site."""
    if promised.possible:
        return []
    fewer = max(1, promised.sites)
    said = (
        f"The group promises copies: {promised.before}. Without {site} it has fewer sites than that, and refuses every push (copies:). "
        f"`piehole group set copies {fewer}` first lowers the promise."
    )
    tell(said)
    return [said]


def _list(what: str, refs: Sequence[str]) -> None:
    for ref in refs[:_SHOWN]:
        tell(f"{what}: {ref}")
    if len(refs) > _SHOWN:
        tell(f"{what}: {len(refs) - _SHOWN} more refs")
