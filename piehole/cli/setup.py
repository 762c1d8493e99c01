"""Make this server a site: accounts, certificates, etcd, sshd, nginx, the repository, the controller.

Each step is shown before it is done: why, and which file is written or which command is run. Setup asks before each, unless --yes is
given. Run it again at any time: what is done already stays as it is. A file that an administrator has changed is replaced only
after a question, which shows the difference, and a copy of it is kept; --yes keeps it.

FILE is TOML, the same on every server. Without FILE, /etc/piehole/setup.toml is taken and, if there is none, setup asks for what it needs.

    group = "project"           the repositories that act as one
    site = "oslo"               this server; default: --site, or the site whose host is this machine's name
    account = "git"             who owns the repositories; one that exists is used as it is
    repository = "/srv/git/project.git"
    url = "https://…"           where the other sites fetch from this one; default: what https and ssh give
    https = true                nginx and git http-backend; default: true where there are several sites
    ssh = true                  sshd
    read-gate = "off"           or "wait", or "strict": piehole.readGate

    [sites.oslo]                a table for each server
    host = "oslo.example.org"
    address = "192.0.2.11"

    [etcd]                      an etcd that is there already; without endpoints, each server gets a member
    endpoints = ["https://etcd1.example.org:2379"]
    ca = "/etc/piehole/etcd-ca.pem"  also cert, key, user, password-file

    [etcd.settings]             of the member that setup makes
    ETCD_HEARTBEAT_INTERVAL = 300

Beside FILE may be a folder users, with NAME.pub (an ssh key) and NAME.password (for https) of each user. Several servers need keys, too:
--keys makes a folder for each, with FILE and the users in it, to be copied there and given as --from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.cli.printing import tell
from piehole.errors import PieholeError

if TYPE_CHECKING:
    from piehole.commands.setup.file_parts import FileIs
    from piehole.commands.setup.parts import SetupStep

EXAMPLES = (
    ("piehole setup --from setup.toml", "show each step, ask, and do it"),
    ("piehole setup --check", "say what this server lacks, and change nothing"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="what this server shall be; of a folder, its setup.toml"
    )
    parser.add_argument("--site", metavar="SITE", help="which of the sites in FILE this server is")
    parser.add_argument(
        "--keys",
        metavar="FOLDER",
        help="make certificates, keys and passwords: a folder for each site, to be copied there",
    )
    parser.add_argument(
        "--days", type=common.count, default=825, metavar="N", help="how long new certificates are valid (default 825)"
    )
    parser.add_argument("--check", action="store_true", help="say what is missing (exit status 1), and change nothing")
    common.add_time(parser, "--wait", "how long to wait for the other servers (default 10m)", 600.0)
    common.add_yes(parser)


def run(args: argparse.Namespace) -> int:
    from piehole.commands.setup import run as steps_of
    from piehole.commands.setup.facts import gather
    from piehole.commands.setup.machine import Machine
    from piehole.commands.setup.plan import plan
    from piehole.commands.setup.settings import FILE, PLACE, file_of, load

    if args.keys:
        _make_keys(file_of(Path(args.source or FILE)), Path(args.keys), args.days)
        return 0
    source = Path(args.source) if args.source else PLACE
    if not args.source and not file_of(PLACE).exists() and sys.stdin.isatty() and not args.check:
        source = _ask_first(args)
    settings = load(source, args.site or "")
    machine = Machine(tell)
    steps = plan(settings, gather(settings, machine), args.wait)
    if args.check:
        return 0 if steps_of.check(steps, machine, tell) else 1
    if args.dry_run:
        steps_of.show(steps, machine, tell)
        common.say_dry_run("")
        return 0
    if not machine.is_root:
        raise PieholeError("only root can set up a server (sudo piehole setup). --check and --dry-run need no root.")
    if not steps_of.perform(steps, machine, Terminal(yes=args.yes)):
        return 1
    tell(f"{settings.site.name} is a site of the group {settings.group}: {settings.url}")
    return 0


def _make_keys(source: Path, folder: Path, days: int) -> None:
    from piehole.commands.setup.keys import KeyMaker
    from piehole.commands.setup.machine import Machine
    from piehole.commands.setup.settings import load

    KeyMaker(load(source, for_all=True), source, folder, days, Machine(tell)).run(tell)


def _ask_first(args: argparse.Namespace) -> Path:
    """Ask what this server shall be, and make the keys that several servers need; where the settings are then."""
    from piehole.cli import setup_questions
    from piehole.commands.setup.settings import FILE, load

    file, keys = Path(FILE), Path("keys")
    asks = not file.exists()
    if asks:
        setup_questions.write(file)
    settings = load(file, args.site or "", for_all=asks)
    if not settings.others:
        return file
    if not (keys / settings.site.name).is_dir():
        _make_keys(file, keys, args.days)
        for one in settings.others:
            tell(
                f"next, for {one.name}: scp -r {keys / one.name} root@{one.host}:, and there: piehole setup --from {one.name}"
            )
    return keys / settings.site.name


class Terminal:
    """Shows the steps and asks before each."""

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes

    def tell(self, line: str) -> None:
        tell(line)
        sys.stdout.flush()

    def ask_step(self, step: SetupStep) -> bool:
        return self._ask(f"Do this ({step.name})?")

    def ask_file(self, file: FileIs, difference: Sequence[str]) -> bool:
        for line in difference:
            tell(f"    {line}")
        if self._yes:
            tell(f"    {file.path} stays as it is (--yes replaces no file that an administrator has changed)")
            return False
        return self._ask(f"Replace {file.path}?")

    def _ask(self, question: str) -> bool:
        if not self._yes and not sys.stdin.isatty():
            raise PieholeError("there is no terminal to ask at. Use --yes to do every step unasked.")
        try:
            common.confirm(question, yes=self._yes)
        except PieholeError:
            return False
        return True
