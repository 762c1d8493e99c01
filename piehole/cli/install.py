"""Check a bare repository, write its hooks and configuration, and found or join a group.

The first repository of a group founds it, and its refs become the group's. A repository that joins does not change the group:
refs that differ from the group's are listed. Running install again is harmless and repairs the installation.
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import tell

EXAMPLES = (
    (
        "piehole install /srv/git/tools.git --group tools --site oslo --url ssh://git@oslo.example.org/srv/git/tools.git --etcd http://127.0.0.1:2379",
        "found the group tools, or join it as the site oslo",
    ),
    (
        "piehole install -C /srv/git/tools.git --adopt refs/heads/next",
        "repair the installation, and make a branch of this repository the group's",
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_settings(parser)
    parser.add_argument(
        "--adopt",
        nargs="*",
        metavar="REF",
        help="when joining: make these refs of the repository the group's; without REF, all refs that can be adopted without moving a ref back",
    )
    parser.add_argument("--replace", action="store_true", help="take over this site's name from another machine")
    common.add_quiet(parser)
    common.add_yes(parser, "do not ask before --replace, as where there is no terminal")


def run(args: argparse.Namespace) -> int:
    from piehole.commands.install import Installer, InstallRequest

    request = InstallRequest(
        git_dir=common.repository(args, makes=True),
        overrides=common.overrides(args),
        adopt=None if args.adopt is None else tuple(args.adopt),
        replace=args.replace,
        pusher=common.operator(),
        dry=args.dry_run,
    )
    if args.replace and not args.dry_run:
        common.confirm("Take the name of this site away from the machine that has it?", yes=args.yes, needed=False)
    replica = Installer(request, tell).run()
    if args.dry_run:
        common.say_dry_run("")
        return 0
    tell(f"{replica.git_dir} is the site {replica.config.site!r} of the group {replica.config.group!r}")
    return 0
