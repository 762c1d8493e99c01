"""Check the installation and say how to fix each problem.

It checks the repository (hooks, settings, owners, locks, grafts, shallow or partial clones, alternates, namespaces, symbolic refs),
the account it runs as, other repositories that claim to be this site, the versions of git and etcd, every etcd endpoint,
the records of the group and its sites, what was changed here without a push, the controller's socket, and each site's URL, and whether
the repository there has the refs that the site has published that it has. For up to 30 seconds it examines the objects that the refs
need. It changes nothing but the note of what that has found, from which a controller repairs. It prints one line each:

  fault: WHAT: FIX
  warning: WHAT: FIX

A warning is about something that works, with limits. The exit status is 1 if a fault was found, and 3 if no etcd endpoint answered.

--json prints one object: format (1), repository, group, site, sound (bool), faults and warnings, each a list of objects with what and
mend (how to fix it).
"""

from __future__ import annotations

import argparse
import json

from piehole.cli import common
from piehole.cli.printing import tell

EXAMPLES = (
    ("piehole check", "check the current repository"),
    ("piehole check /srv/git/tools.git --json", "check another one, for a script"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser, positional=True)
    common.add_etcd(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands.check import examine
    from piehole.errors import EtcdUnreachable

    replica = common.open_replica(args)
    found = examine(replica)
    config = replica.config
    sound = found.answered and not found.faults
    if args.json:
        lists = {
            name: [{"what": fault.what, "mend": fault.fix} for fault in faults]
            for name, faults in (("faults", found.faults), ("warnings", found.warnings))
        }
        about = {"repository": str(config.git_dir), "group": config.group, "site": config.site}
        print(json.dumps({"format": 1, **about, "sound": sound, **lists}, indent=2))
    else:
        for fault in found.found:
            more = f" (`piehole explain {fault.word}`)" if fault.word else ""
            tell(f"{'warning' if fault.warning else 'fault'}: {fault}{more}")
        many = len(found.warnings)
        words = "no fault" if sound else f"{len(found.faults)} fault{'' if len(found.faults) == 1 else 's'}"
        print(f"{config.git_dir}: {words}, {many} warning{'' if many == 1 else 's'}")
    if not found.answered:
        return EtcdUnreachable.exit_status
    return 0 if sound else 1
