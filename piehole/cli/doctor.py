"""Collect what a report of a fault needs in one file: versions, settings, state, and logs, without secrets.

For each repository: its settings, what `status`, `check` and `sites` say, the etcd servers, hooks, disk, the number of refs, the end of the
local log of refs, and what records say of the clocks. For this server: versions, the units, and the end of the controller's log. Without
REPO, -C or --root: the current repository or, outside a repository, all below piehole.root. It changes nothing, and takes up to three
minutes. What cannot be read says so in the report: it is also made while etcd is away or a repository is broken.

Taken out are passwords, tokens, private keys, and users and passwords in URLs. Password files are never read. The names and e-mail addresses
of pushers become person-1, person-2 and so on. Names of refs, sites, groups and folders stay: --show prints everything that would be
written, to be read first. Then it asks, and writes BUNDLE for this account alone; no file is overwritten.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from piehole.cli import common
from piehole.cli.printing import tell
from piehole.errors import PieholeError

EXAMPLES = (
    ("piehole doctor -C /srv/git/tools.git /tmp/report.tar.gz", "collect what concerns one repository, and ask"),
    ("piehole doctor --root /srv/git --show /tmp/report.zip", "print the text of a report of all, and ask"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repositories(parser)
    parser.add_argument("bundle", metavar="BUNDLE", help="the file to write: its name ends with .tar.gz or .zip")
    parser.add_argument("--log", metavar="FILE", help="the controller's log (default: the journal of its unit)")
    parser.add_argument("--unit", metavar="UNIT", default="piehole-controller", help="the controller's unit in systemd")
    parser.add_argument(
        "--audit", action="store_true", help="compare the refs of all sites as well, as `piehole audit`"
    )
    parser.add_argument("--names", action="store_true", help="keep the names and e-mail addresses of pushers")
    parser.add_argument("--hide-hosts", action="store_true", help="call hosts host-1, host-2 and so on")
    parser.add_argument("--show", action="store_true", help="print the text of every file before it is asked for")
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")


def run(args: argparse.Namespace) -> int:
    from piehole.commands import doctor
    from piehole.commands.doctor_parts import ReportRequest

    bundle = Path(args.bundle)
    doctor.check_place(bundle)
    missing = ""
    try:
        # One that is named is looked at even if it is broken.
        repositories = (
            [Path(args.directory)] if args.directory and not args.repos + args.root else common.repositories(args)
        )
    except PieholeError as error:
        repositories, missing = [], str(error)
    log = Path(args.log).absolute() if args.log else None
    tell("collecting; this takes up to three minutes")
    request = ReportRequest(repositories, args.unit, log, args.audit, args.names, not args.hide_hosts)
    try:
        report = doctor.collect(request)
    except KeyboardInterrupt:
        os._exit(130)  # not by way of the interpreter's end: that waits for the threads, and they for what they ask
    for part in report.parts:
        if args.show:
            tell(f"==== {part.name}")
            for line in part.text.splitlines():
                tell(line)
    for line in report.parts[0].text.splitlines()[2:]:
        tell(line)
    if missing:
        tell(f"no repository is in it: {missing}")
    common.confirm(f"Write this to {bundle}?", yes=args.yes)
    size = doctor.write(report, bundle)
    tell(f"wrote {bundle}: {size:,} bytes. Read it before you send it: names of refs, sites and folders are in it")
    return 0
