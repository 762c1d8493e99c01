"""List, show and bring back the tips that this site keeps because a ref was deleted or overwritten.

What a push deletes or overwrites stays here for piehole.keepFor, below refs/piehole/kept/. Without a word, the tips are listed. An object
id may be cut.

list and show --json print one object: format (1), group, complete (false where etcd did not answer), error (null, or why), and kept: a list
of objects with oid, since (seconds since the epoch, null where unknown), subject, and left_by: the change that replaced it, as `piehole log
--json` has it, or null.
drop --json: format, group, and sites: a list of objects with oid, site, result ("dropped", "waiting": it goes on by itself, "blocked":
somebody has to do something first, or "": no answer yet), why, and time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from piehole.cli import common
from piehole.cli.printing import tell
from piehole.errors import PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.cli.arguments import CommandParser
    from piehole.cli.help_text import Examples
    from piehole.commands.kept import KeptTip
    from piehole.commands.kept_drop import Standing

EXAMPLES = (
    ("piehole kept", "list the kept tips of the current repository"),
    (
        "piehole kept restore --since 10m --pusher ann",
        "bring back what ann deleted or overwrote in the last ten minutes",
    ),
)

_LIST_EXAMPLES: Final = (
    ("piehole kept list", "the kept tips of the current repository"),
    ("piehole kept list -C /srv/git/tools.git --json", "those of another one, for a script"),
)
_SHOW_EXAMPLES: Final = (
    ("piehole kept show 4f2c1d9", "a tip by the beginning of its object id"),
    ("piehole kept show 4f2c1d9 --json", "the same for a script"),
)
_RESTORE_EXAMPLES: Final = (
    ("piehole kept restore 4f2c1d9 refs/heads/rescued", "bring one tip back as a new branch"),
    (
        "piehole kept restore --since 10m --pusher ann",
        "bring back what ann deleted or overwrote in the last ten minutes",
    ),
)
_DROP_EXAMPLES: Final = (
    ("piehole kept drop 4f2c1d9", "remove a tip at every site, for good"),
    ("piehole kept drop --wait 0", "what has become of all that was asked for"),
)
_WAIT: Final = 10.0  # seconds


_JSON: Final = "print one JSON object (described at `piehole kept --help`)"


def arguments(parser: CommandParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")
    parser.set_defaults(act=_list)
    actions = parser.add_subparsers(metavar="list|show|restore|drop")
    listed = _action(actions, "list", "list the kept tips (this is also done without a word)", _LIST_EXAMPLES, _list)
    listed.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_JSON)
    shown = _action(actions, "show", "show one kept tip", _SHOW_EXAMPLES, _show)
    shown.add_argument("oid", metavar="OID", help="the tip, or the beginning of its id")
    shown.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_JSON)
    restored = _action(
        actions,
        "restore",
        "bring back one tip, or all that one push or one account took away",
        _RESTORE_EXAMPLES,
        _restore,
    )
    restored.add_argument("oid", metavar="OID", nargs="?", help="the tip, or the beginning of its id")
    restored.add_argument("ref", metavar="REF", nargs="?", help="bring it back as this ref")
    restored.add_argument("--since", metavar="TIME", help="all that was lost since then, such as 10m")
    for name, metavar in (("push", "ID"), ("pusher", "NAME"), ("site", "SITE")):
        restored.add_argument(
            f"--{name}",
            metavar=metavar,
            action="append",
            default=[],
            help=f"with --since: only what this {name} changed",
        )
    restored.add_argument("--force", action="store_true", help="also over what was pushed since")
    common.add_yes(restored)
    common.add_quiet(restored)
    dropped = _action(actions, "drop", "remove objects at every site, for good", _DROP_EXAMPLES, _drop)
    dropped.add_argument(
        "oids", metavar="OID", nargs="*", help="a kept tip or the beginning of its id, or any object's whole id"
    )
    common.add_time(dropped, "--wait", f"how long to wait for all sites (default {_WAIT:.0f})", _WAIT)
    dropped.add_argument("--forget", action="store_true", help="remove the request, once all sites have done it")
    dropped.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=_JSON)
    common.add_yes(dropped)
    common.add_quiet(dropped)


def _action(
    actions: argparse._SubParsersAction[CommandParser],
    name: str,
    text: str,
    examples: Examples,
    act: Callable[[argparse.Namespace], int],
) -> CommandParser:
    made = common.add_action(actions, name, text, examples, act.__doc__ or "")
    common.add_repository(made, inherited=True)
    common.add_etcd(made, inherited=True)
    made.set_defaults(act=act)
    return made


def run(args: argparse.Namespace) -> int:
    status: int = args.act(args)
    return status


def _list(args: argparse.Namespace) -> int:
    """List the kept tips: for each the beginning of its object id, since when it is kept, the ref that had it, and by whom and at which
    revision it was replaced. '?' stands for what is not known.
    """
    from piehole.commands import kept, log

    replica = common.open_replica(args)
    changes, wrong = log.known(replica)
    status = common.tell_what_is_missing(wrong)
    tips = kept.tips(replica, changes)
    if args.json:
        _print_json(replica.config.group, wrong, tips)
        return status
    for tip in tips:
        tell(_line(tip))
    if not tips:
        tell("no tip is kept here")
    return status


def _print_json(group: str, wrong: PieholeError | None, tips: list[KeptTip]) -> None:
    about = {"format": 1, "group": group, "complete": wrong is None, "error": common.why(wrong)}
    print(json.dumps({**about, "kept": [tip.as_json() for tip in tips]}, indent=2))


def _line(tip: KeptTip) -> str:
    from piehole.refs import short

    since = datetime.datetime.fromtimestamp(tip.since, datetime.UTC).isoformat() if tip.since else "?"
    if tip.left_by is None:
        return f"{tip.oid[:12]} {since} ? {tip.subject}"
    e = tip.left_by.entry
    by = f"-> {short(e.new) or 'no key'} at revision {e.revision} by {e.pusher or '?'} at {e.site or '?'} ({tip.left_by.kind})"
    return f"{tip.oid[:12]} {since} {e.ref} {by}: {tip.subject}"


def _show(args: argparse.Namespace) -> int:
    """Show the commit of one kept tip, and how it differs from what its ref has now."""
    from piehole.commands import kept, log
    from piehole.deadline import Deadline
    from piehole.refs import decode, is_oid

    replica = common.open_replica(args)
    oid = kept.find(replica, args.oid)
    changes, wrong = log.known(replica)
    status = common.tell_what_is_missing(wrong)
    tip = next((one for one in kept.tips(replica, changes) if one.oid == oid), None)
    if args.json:
        _print_json(replica.config.group, wrong, [tip] if tip else [])
        return status if tip else 1
    now = ""
    if tip is not None and tip.left_by is not None and status == 0:
        state = replica.reader.list_group(Deadline(10.0))
        held = decode((state.value(tip.left_by.entry.ref) or b"").removesuffix(b"\n"))
        now = held if is_oid(held, replica.config.object_format) and held.strip("0") else ""
    lines = kept.describe(replica, oid, now)
    tell(_line(tip) if tip else f"{oid[:12]} is not kept here")
    for line in lines:
        tell(line)
    return status


def _restore(args: argparse.Namespace) -> int:
    """Bring one tip back, as the ref that had it or as REF. The changes are shown, and asked about. All sites follow, and keep what is
    overwritten by this.

    With --since it brings back all that one push or one account deleted or overwrote in this time (90s, 10m, 2h, 3d, or a date and time):
    each ref gets what it had before. --push takes the id of a push, or a revision, as `piehole log --json` shows them; --pusher, --push
    and --site may be repeated. A ref that somebody has moved since is listed and left alone, unless --force is given. All is written in
    one transaction of etcd where etcd takes so many refs at once.
    """
    from piehole.cli.clobber import until_written
    from piehole.commands import kept_restore
    from piehole.commands.losses import Selection
    from piehole.transfer.keep_files import Hold

    if bool(args.oid) == bool(args.since):
        raise UsageError("`piehole kept restore` needs either the object id of a tip, or --since TIME.")
    if (args.push or args.pusher or args.site) and not args.since:
        raise UsageError("--push, --pusher and --site go with --since only.")
    selection = None
    if args.since:
        since = kept_restore.parse_since(args.since)
        selection = Selection(since, tuple(args.push), tuple(args.pusher), tuple(args.site))
    request = kept_restore.RestoreRequest(args.oid or "", args.ref or "", selection, args.force)
    replica = common.open_replica(args)
    replica.repository.check_owner()
    with Hold() as hold:
        return until_written(
            replica,
            lambda: kept_restore.situation(replica, request, None if args.dry_run else hold),
            yes=args.yes,
            dry=args.dry_run,
            kind=kept_restore.KIND,
            nothing="nothing to bring back",
        )


def _drop(args: argparse.Namespace) -> int:
    """Remove an object at every site for good, such as a commit with a secret, together with the kept tips whose history contains it and
    with all that nothing else contains. It is refused while a ref of the group contains it.

    It says which sites have done it, waits for the others (10 seconds, or --wait), and ends with status 1 while one has yet to. Run it
    again to look; without OID it shows all that was asked for. A site that is down does it when it is back, and one that joins later as
    well. --forget removes the request, once all have done it.
    """
    from piehole.commands import kept_drop

    if args.forget and not args.oids:
        raise UsageError("--forget needs the object ids whose requests are to be removed.")
    replica = common.open_replica(args)
    oids = kept_drop.find(replica, args.oids)
    if args.forget:
        kept_drop.forget(replica, oids, dry=args.dry_run)
        forgot = f"the request{'s' if oids[1:] else ''} for {', '.join(oids)}"
        tell(f"{'would forget' if args.dry_run else 'forgot'} {forgot}", sys.stderr if args.json else None)
        if args.json:
            print(json.dumps({"format": 1, "group": replica.config.group, "sites": []}, indent=2))
        return 0
    if oids:
        replica.repository.check_owner()
        new, lines = kept_drop.examine(replica, oids)
        for line in lines:
            tell(line, sys.stderr if args.json else None)
        if new and not args.dry_run:
            common.confirm(f"Remove {'this' if len(new) == 1 else 'these'} at every site, for good?", yes=args.yes)
            kept_drop.ask(replica, new, common.operator())
        elif args.dry_run and not args.json:
            common.say_dry_run("ask every site to remove this, for good" if new else "")
    found = kept_drop.wait(replica, oids, args.wait if oids and not args.dry_run else 0.0)
    if args.json:
        sites = [one.as_json() for one in found]
        print(json.dumps({"format": 1, "group": replica.config.group, "sites": sites}, indent=2))
    else:
        for one in found:
            tell(f"{one.oid[:12]} {one.site}: {_standing(one)}")
        if not found:
            tell("nothing was asked for")
    return 0 if all(one.is_done for one in found) else 1


def _standing(one: Standing) -> str:
    if not one.result:
        return "no answer yet"
    why = f": {one.why}" if one.why else ""
    return f"{one.result}{f' at {one.time}' if one.is_done else ''}{why}"
