"""Show and change the settings that all sites of a group share.

The settings, for `piehole group set`:

  copies N|majority|all   how many sites hold a commit before the group names it (1 is the default)
  copiesElse refuse|warn  what becomes of a push where fewer sites have said in time that they hold it
  head refs/heads/BRANCH  the default branch

N counts the sites that have not left, the one that receives the push included. With N above 1, a push is answered when N sites hold its
commits on their disks, and is refused (`copies:`) if they do not in time; with copiesElse = warn it is accepted then, and says so.

`show --json` prints one object: format (1), group, id, object_format, head (the branch, or null), copies (a number, "majority" or "all"),
copiesElse, raising (bool: the promise does not count for older commits yet), needed (how many sites that is now), sites (those that have
not left), able (those that can hold copies for others now), and unable (an object: the others, each with the reason).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from piehole.cli import common, rename, sites
from piehole.cli.printing import tell
from piehole.errors import PieholeError

if TYPE_CHECKING:
    from piehole.cli.arguments import CommandParser
    from piehole.cli.help_text import Examples

_SHOW_EXAMPLES: Final = (
    ("piehole group show", "the settings of the current repository's group"),
    ("piehole group show -C /srv/git/tools.git --json", "those of another one, for a script"),
)
_SET_EXAMPLES: Final = (
    (
        "piehole group set copies majority --wait 120",
        "promise copies at a majority, and wait up to two minutes for older commits",
    ),
    ("piehole group set head refs/heads/main", "make main the default branch at every site"),
)
_NOT_YET: Final = ", but not yet for commits from before: `piehole group set copies` was interrupted; run it again"
EXAMPLES = (
    ("piehole group show", "the group's settings and sites"),
    ("piehole group set copies 2", "have every push held by two sites before it is answered"),
)

_PATIENCE: Final = 10.0  # seconds
_ATTEMPTS: Final = 10
_WAIT: Final = 30.0  # seconds


def arguments(parser: CommandParser) -> None:
    # Both may also follow the action, as with every other command.
    parser.add_argument(
        "-C", dest="directory_before", metavar="DIR", help="the repository (default: the current directory)"
    )
    parser.add_argument(
        "--etcd", dest="etcd_before", metavar="ENDPOINT", action="append", default=[], help="etcd's client URL"
    )
    actions = parser.add_subparsers(dest="action", metavar="show|set|sites|rename", required=True)
    shown = _action(actions, "show", "the group's id, its settings, and its sites", _SHOW_EXAMPLES, _show)
    shown.add_argument(
        "--json", action="store_true", help="print one JSON object (described at `piehole group --help`)"
    )
    changed = _action(actions, "set", "change one setting", _SET_EXAMPLES, _set)
    changed.add_argument("setting", metavar="SETTING", help="copies, copiesElse or head")
    changed.add_argument("value", metavar="VALUE", help="what `piehole group --help` lists for it")
    common.add_time(
        changed,
        "--wait",
        f"how long enough sites may take to get what was pushed before copies are promised (default {_WAIT:.0f})",
        _WAIT,
    )
    common.add_yes(changed)
    common.add_quiet(changed)
    made = {"show": (shown, _show), "set": (changed, _set)}
    for name, module, text in (
        ("sites", sites, "the same as `piehole sites`"),
        ("rename", rename, "the same as `piehole rename`"),
    ):
        same = common.add_action(actions, name, text, module.EXAMPLES, module.__doc__ or "")
        module.arguments(same)
        made[name] = same, module.run
    for action, act in made.values():
        action.set_defaults(act=act)


def _action(
    actions: argparse._SubParsersAction[CommandParser],
    name: str,
    what: str,
    examples: Examples,
    act: Callable[[argparse.Namespace], int],
) -> CommandParser:
    parser = common.add_action(actions, name, what, examples, act.__doc__ or "")
    common.add_repository(parser)
    common.add_etcd(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    args.directory = args.directory or args.directory_before
    args.etcd = args.etcd or args.etcd_before
    status: int = args.act(args)
    return status


def _show(args: argparse.Namespace) -> int:
    """Show the group's id, its settings, and its sites."""
    from piehole.commands import group
    from piehole.deadline import Deadline

    replica = common.open_replica(args)
    found = group.show(replica, Deadline(_PATIENCE))
    record, copies = found.record, found.copies
    if args.json:
        about = {"format": 1, "group": replica.config.group, "id": record.id, "object_format": record.object_format}
        promised = {
            "copies": record.copies,
            "copiesElse": record.copies_else,
            "raising": record.raising,
            "needed": copies.needed,
        }
        able = {"sites": found.sites, "able": copies.able, "unable": dict(copies.unable)}
        print(json.dumps({**about, "head": found.head or None, **promised, **able}, indent=2))
        return 0
    tell(f"group {replica.config.group}")
    for name, value in (
        ("id", record.id),
        ("object format", record.object_format),
        ("head", found.head or "none"),
        ("copies", f"{copies.promise}{_NOT_YET if record.raising else ''}"),
        ("copiesElse", record.copies_else),
        ("sites", ", ".join(found.sites) or "none"),
        ("able to hold copies", ", ".join(copies.able) or "none"),
    ):
        tell(f"{name}: {value}")
    for site, why in copies.unable.items():
        tell(f"unable: {site}: {why}")
    return 0


def _set(args: argparse.Namespace) -> int:
    """Change one setting of the group, for all sites.

    To promise copies at N sites is refused where the group has fewer, and where fewer than N have published that they have every commit
    that the group has already. Sites that are only behind, and whose controllers live, have up to 30 seconds for that (--wait); pushes
    keep the new promise meanwhile. A change that promises less is made only with --yes or a yes at the terminal.
    """
    from piehole.commands import group, raise_copies
    from piehole.deadline import Deadline

    replica = common.open_replica(args)
    replica.repository.check_owner()
    for _ in range(_ATTEMPTS):
        change = group.judge(replica, args.setting, args.value, Deadline(_PATIENCE))
        if not change.needed:
            tell(f"nothing to change: {change.name} is {change.after}")
            return 0
        tell(f"{change.name}: {change.before or 'nothing'} -> {change.after}")
        if args.dry_run:
            common.say_dry_run("set this for all sites")
            return 0
        if change.weakens:
            common.confirm("Let the group promise less than it does?", yes=args.yes)
        revision = group.carry_out(replica, change, common.operator(), Deadline(_PATIENCE))
        if revision and change.waits:
            tell("pushes keep it from now on; waiting until enough sites have what was pushed before")
            sys.stdout.flush()
            raise_copies.complete(replica, revision, common.operator(), Deadline(args.wait))
        if revision:
            tell("changed; every site follows")
            return 0
    raise PieholeError(
        "nothing was changed: the group's refs or sites keep changing. Run this again at a quieter time."
    )
