"""Give the group of this repository another name. Run it once, at any site; then run `piehole install --group NAME` at every site.

It closes the group (no site accepts a push to it any more; reading continues), copies all its values in etcd to the new name, and
opens the new group. No repository changes. Until a site has joined under the new name, it refuses pushes and says what to run.
A push that was accepted before is part of the new group; each site fetches its objects when it joins.

If it is interrupted, run it again. The keys of the old name stay in etcd (docs/guides/sites.md tells how to remove them).
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import tell

EXAMPLES = (
    ("piehole rename toolbox", "call the group of the current repository toolbox from now on"),
    ("piehole rename -C /srv/git/tools.git toolbox --yes", "the same for another repository, without a question"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("name", metavar="NAME", help="the group's new name")
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.commands import rename
    from piehole.group import keys

    replica = common.open_replica(args)
    replica.repository.check_owner()
    keys.check_group(args.name)
    if args.dry_run:
        for line in rename.preview(replica, args.name):
            tell(line)
        common.say_dry_run(f"rename the group to {args.name!r}")
        return 0
    common.confirm(
        f"Close the group {replica.config.group!r} for all sites, and go on as {args.name!r}?",
        yes=args.yes,
    )
    rename.rename(replica, args.name, common.operator(), print)
    tell(f"now, at every site: piehole install --group {args.name}")
    return 0
