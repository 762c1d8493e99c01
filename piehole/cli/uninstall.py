"""Take a repository out of its group: remove piehole's hooks and configuration. All refs stay.

The site's record is marked as left if etcd answers; if not, run `piehole leave --site S` at another site. Git's own settings that
`piehole install` made (core.fsync and others) and the kept tips below refs/piehole/kept/ stay.

--local leaves the record alone: for a copy of a repository whose original goes on being the site.
"""

from __future__ import annotations

import argparse
import sys

from piehole.cli import common
from piehole.cli.printing import tell

EXAMPLES = (
    ("piehole uninstall /srv/git/tools.git", "take this repository out of its group"),
    (
        "piehole uninstall --local /srv/backup/tools.git",
        "make a plain repository of a copy, whose original stays the site",
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_etcd(parser)
    parser.add_argument("--local", action="store_true", help="leave the site's record in etcd as it is")
    common.add_yes(parser, "do not ask, as where there is no terminal")


def run(args: argparse.Namespace) -> int:
    from piehole.commands.uninstall import preview, uninstall

    git_dir = common.repository(args)
    if args.dry_run or (sys.stdin.isatty() and not args.yes):
        for line in preview(git_dir, common.overrides(args), record=not args.local):
            tell(line)
    if args.dry_run:
        common.say_dry_run("")
        return 0
    common.confirm(f"Take {git_dir} out of its group?", yes=args.yes, needed=False)
    uninstall(git_dir, common.overrides(args), tell, record=not args.local)
    return 0
