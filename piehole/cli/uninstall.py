"""Take a repository out of its group: remove piehole's hooks and configuration. All refs stay.

The site's record is marked as left if etcd answers; if not, run `piehole leave --site S` at another site. Git's own settings that
`piehole install` made (core.fsync and others) and the kept tips below refs/piehole/kept/ stay.

--local leaves the record alone: for a copy of a repository whose original goes on being the site.
"""

from __future__ import annotations

import argparse

from piehole.cli import common

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


def run(args: argparse.Namespace) -> int:
    from piehole.commands.uninstall import uninstall

    uninstall(common.repository(args), common.overrides(args), print, record=not args.local)
    return 0
