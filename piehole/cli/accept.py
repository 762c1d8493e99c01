"""Continue with etcd as it is, after etcd or this disk was restored from a backup and this site was halted.

The command first shows, for each ref, whether it would move back, move forward or be deleted here, and asks. It moves no ref itself:
the controller, or `piehole reconcile --once`, does that afterwards, and keeps every tip that the new value does not contain below
refs/piehole/kept/. If this repository is right and etcd is not, use `piehole clobber` instead.

The command also rewrites this site's state file (piehole/state.json) if it cannot be read. It does not accept a missing or foreign
group record: `piehole clobber` restores a missing one, and `piehole uninstall` leaves a group that is another one.
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import tell

EXAMPLES = (
    ("piehole accept", "show what would change in the current repository, and ask"),
    ("piehole accept -C /srv/git/tools.git --yes", "continue with etcd as it is without a question, in a script"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_etcd(parser)
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.commands import accept

    replica = common.open_replica(args)
    replica.repository.check_owner()
    found = accept.preview(replica)
    if found.halted is None:
        tell("nothing to accept: etcd and this disk remember the same past")
        return 0
    tell(f"{found.halted.token}: {found.halted}")
    for line in found.lines:
        tell(line)
    if not found.lines:
        tell("every ref here already has the group's value")
    if args.dry_run:
        common.say_dry_run("follow etcd as it is")
        return 0
    common.confirm("Follow etcd as it is?", yes=args.yes)
    accept.accept(replica)
    tell("accepted; the controller, or `piehole reconcile --once`, now moves the refs of this repository")
    return 0
