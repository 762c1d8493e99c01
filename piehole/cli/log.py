"""Show who moved which ref, when and at which site, newest first.

The sources are etcd's history back to its last compaction and this site's ref log, in which the controller keeps what it has seen and
which reaches further back. REF is a full name, `main` or `heads/main`. One line per change:

  REVISION TIME REF OLD -> NEW SITE PUSHER KIND PUSH

KIND is 'push'; 'adopted' (piehole install), 'clobber', 'restored' (piehole kept) or 'renamed'; 'by hand' where no push made the change;
'reaped' where the key of a deletion that all sites have seen was removed; 'forgotten' where etcd's history no longer reaches. '?' stands
for what is not known. PUSH is the beginning of the push's id, as its user and all logs have it.

--json prints one object: format (1), group, complete (false where etcd did not answer, or holds another group), error (null, or why it is
not complete), and changes, a list of objects with revision, ref, old, new, site, pusher, time, kind and push (the push's id). old is ""
where it is not known, new is "" where the key itself was deleted; a deleted ref's new is the zero oid. site, pusher, time and push are ""
where they are not known."""

from __future__ import annotations

import argparse
import json

from piehole.cli import common
from piehole.cli.printing import complain, tell
from piehole.errors import EtcdUnreachable, PieholeError, UsageError

EXAMPLES = (
    ("piehole log -n 20", "the last 20 changes of the group"),
    ("piehole log main", "who moved the branch main"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.add_repository(parser)
    common.add_etcd(parser)
    parser.add_argument("ref", metavar="REF", nargs="?", help="only this ref")
    parser.add_argument("-n", dest="count", metavar="N", type=common.count, help="at most this many changes")
    parser.add_argument("--json", action="store_true", help="print one JSON object (described above)")


def run(args: argparse.Namespace) -> int:
    from piehole.commands import log
    from piehole.refs import short

    replica = common.open_replica(args)
    changes, wrong = log.known(replica)
    status = common.tell_what_is_missing(wrong)
    if args.ref:
        try:
            ref = log.meant(replica, changes, args.ref)
        except PieholeError as error:
            if status != EtcdUnreachable.exit_status or isinstance(error, UsageError):
                raise
            ref = args.ref  # etcd may know it
        changes = [change for change in changes if change.entry.ref == ref]
        if not changes and status == 0:
            complain(f"piehole: the group has no value for {ref}, and none is remembered")
    if args.count is not None:
        changes = changes[: args.count]
    if args.json:
        shown = [change.as_json() for change in changes]
        about = {"format": 1, "group": replica.config.group, "complete": status == 0, "error": common.why(wrong)}
        print(json.dumps({**about, "changes": shown}, indent=2))
        return status
    for change in changes:
        e = change.entry
        new = short(e.new) or "no key"
        tell(
            f"{e.revision} {e.time or '?'} {e.ref} {short(e.old) or '?'} -> {new} {e.site or '?'} {e.pusher or '?'} {change.kind}"
            + (f" {e.push[:12]}" if e.push else "")
        )
    return status
