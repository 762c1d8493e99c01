"""Take etcd as it is, after etcd or this disk was restored from a backup and this site therefore stands still.

First look: it shows, for each ref, what would go back, forward or away here once the site follows etcd again, and asks. It moves no
ref itself; the controller, or `piehole reconcile --once`, does so afterwards, and keeps every tip that the new value does not
contain below refs/piehole/kept/. Where this repository is right and etcd is not, use `piehole clobber` instead.

It also writes this site's own notes (piehole/state.json) anew where they cannot be read. A missing or foreign group record is
not accepted: `piehole clobber` restores one that vanished, `piehole uninstall` leaves a group that is another.
"""

from __future__ import annotations

import argparse

from piehole.cli import common
from piehole.cli.printing import tell

HELP = "take etcd as it is after it, or this disk, went back"


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.commands import accept

    replica = common.open_replica(args)
    replica.repository.check_owner()
    found = accept.outlook(replica)
    if found.halted is None:
        print("nothing to accept: etcd and this disk remember the same past")
        return 0
    tell(f"{found.halted.token}: {found.halted}")
    for line in found.lines:
        tell(line)
    if not found.lines:
        print("every ref here is at the group's value already")
    common.confirm("Follow etcd as it is?", yes=args.yes)
    accept.accept(replica)
    print("accepted; the controller, or `piehole reconcile --once`, brings this repository along")
    return 0
