"""Show who moved which ref, when and at which site, newest first.

The sources are etcd's history back to its last compaction and this site's ref log, in which the controller keeps what it has seen and
which reaches further back. REF is a full name, `main` or `heads/main`. On a terminal, the changes are a table, with branches and
the beginnings of ids. Elsewhere, and with --format lines, one line is printed for each:

  REVISION TIME REF OLD -> NEW SITE PUSHER KIND PUSH

KIND is 'push'; 'adopted' (piehole install), 'clobber', 'restored' (piehole kept) or 'renamed'; 'by hand' where no push made the change;
'reaped' where the key of a deletion that all sites have seen was removed; 'forgotten' where etcd's history no longer reaches. '?' stands
for what is not known. PUSH is the beginning of the push's id, as its user and all logs have it.

--follow shows the last changes (10, or N), oldest first, and then each new one as soon as the group has agreed on it, until Ctrl-C. While
etcd does not answer, it waits, and goes on at the revision where it was: no change is left out, none is shown twice.

--json prints one object (with --follow: each change as an object on a line of its own): format (1), group, complete (false where etcd did
not answer, or holds another group), error (null, or why it is not complete), and changes, a list of objects with revision, ref, old, new,
site, pusher, time, kind and push (the push's id). old is "" where it is not known, new is "" where the key itself was deleted; a deleted
ref's new is the zero oid. site, pusher, time and push are "" where they are not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from piehole.cli import common, tables
from piehole.cli.printing import complain, tell
from piehole.cli.tables import BOLD, DIM, YELLOW, Cell
from piehole.errors import EtcdUnreachable, PieholeError, UsageError

if TYPE_CHECKING:
    from piehole.commands.log import LoggedMove
    from piehole.group.replica import Replica

EXAMPLES = (
    ("piehole log -n 20", "the last 20 changes of the group"),
    ("piehole log --follow main", "who moves the branch main, as it happens"),
)

_HEAD = ("REVISION", "TIME", "REF", "OLD", "NEW", "SITE", "PUSHER", "KIND", "PUSH")
_LAST = 10  # changes that --follow begins with


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("ref", metavar="REF", nargs="?", help="only this ref")
    parser.add_argument("-n", dest="count", metavar="N", type=common.count, help="at most this many changes")
    parser.add_argument("-f", "--follow", action="store_true", help="show new changes as they are made, until Ctrl-C")
    common.add_format(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands import log

    replica = common.open_replica(args)
    changes, wrong = log.known(replica)
    status = common.tell_what_is_missing(wrong)
    if args.follow and wrong is not None and not isinstance(wrong, EtcdUnreachable):
        return status
    ref, known = None, changes
    if args.ref:
        try:
            ref = log.meant(replica, changes, args.ref)
        except PieholeError as error:
            if status != EtcdUnreachable.exit_status or isinstance(error, UsageError):
                raise
            ref = args.ref  # etcd may know it
        changes = [change for change in changes if change.entry.ref == ref]
        if not changes and status == 0 and not args.follow:
            complain(f"piehole: the group has no value for {ref}, and none is remembered")
    if args.follow and args.count is None:
        args.count = _LAST
    if args.count is not None:
        changes = changes[: args.count]
    if args.follow:
        _follow(replica, args, ref, known, changes)
    if args.json:
        shown = [change.as_json() for change in changes]
        about = {"format": 1, "group": replica.config.group, "complete": status == 0, "error": common.why(wrong)}
        print(json.dumps({**about, "changes": shown}, indent=2))
    elif tables.wanted(args.format, sys.stdout):
        most, paint = tables.window()[0], tables.coloured(sys.stdout)
        shown_lines = (
            tables.table(_HEAD, [_row(change) for change in changes], most=most, paint=paint) if changes else []
        )
        number = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
        print("\n".join([*shown_lines, "", number + ("" if status == 0 else "; not all are known")]))
    else:
        _print_lines(changes)
    return status


def _follow(
    replica: Replica,
    args: argparse.Namespace,
    ref: str | None,
    known: Sequence[LoggedMove],
    first: Sequence[LoggedMove],
) -> NoReturn:
    from piehole.commands.log_follow import follow

    grid, table = tables.GrowingTable(_HEAD), tables.wanted(args.format, sys.stdout)

    def show(changes: Sequence[LoggedMove], *, headed: bool = False) -> None:
        if args.json:
            for change in changes:
                print(json.dumps(change.as_json()))
        elif table:
            most, paint = tables.window()[0], tables.coloured(sys.stdout)
            lines = grid.add([_row(change) for change in changes], most=most, paint=paint, headed=headed)
            print("\n".join(lines), end="\n" if lines else "")
        else:
            _print_lines(changes)
        sys.stdout.flush()

    show(first[::-1], headed=True)
    for changes in follow(replica, known, lambda text: complain(f"piehole: {text}")):
        show([change for change in changes if ref in (None, change.entry.ref)])
    raise AssertionError("unreachable")


def _print_lines(changes: Sequence[LoggedMove]) -> None:
    from piehole.refs import short

    for change in changes:
        e = change.entry
        new = short(e.new) or "no key"
        tell(
            f"{e.revision} {e.time or '?'} {e.ref} {short(e.old) or '?'} -> {new} {e.site or '?'} {e.pusher or '?'} {change.kind}"
            + (f" {e.push[:12]}" if e.push else "")
        )


def _row(change: LoggedMove) -> list[Cell | str]:
    from piehole.commands.log import PUSH

    e = change.entry
    ref = e.ref.removeprefix("refs/heads/") if e.ref.startswith("refs/heads/") else e.ref.removeprefix("refs/")
    return [
        Cell(str(e.revision), DIM),
        tables.local_time(e.time) or "?",
        Cell(ref, BOLD),
        _value(e.old) or "?",
        _value(e.new) or "no key",
        e.site or "?",
        e.pusher or "?",
        Cell(change.kind, "" if change.kind == PUSH else YELLOW),
        Cell(e.push[:8], DIM),
    ]


def _value(value: str) -> str:
    from piehole.refs import is_zero, short

    return short(value) if is_zero(value) or not value.isalnum() else value[:8]
