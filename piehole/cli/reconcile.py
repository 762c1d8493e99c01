"""Reconcile repositories without the daemon: fetch missing objects, move refs to the group's values, publish progress.

Without REPO: the current repository or, outside a repository, all below piehole.root. The exit status is 0 only if every
ref of the group has the group's value here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from piehole.cli import common
from piehole.cli.printing import complain, tell
from piehole.errors import PieholeError

EXAMPLES = (
    ("piehole reconcile --once", "bring the current repository to what the group agreed on"),
    ("piehole reconcile --once /srv/git/tools.git /srv/git/site.git", "the same for two repositories"),
)
if TYPE_CHECKING:
    from piehole.group.replica import Replica

_PATIENCE = 10.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", required=True, help="reconcile once and end")
    common.add_etcd(parser)
    common.add_repositories(parser)
    common.add_dry_run(parser)
    common.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    worst = 0
    for folder in common.repositories(args):
        try:
            status = _one(folder, args)
        except (PieholeError, OSError) as error:
            # A failure of one repository must not keep the others waiting.
            complain(f"{folder}: {error}")
            status = common.status_of(error)
        worst = max(worst, status)
    return worst


def _one(folder: Path, args: argparse.Namespace) -> int:
    from piehole.group.replica import Replica
    from piehole.replicate.local_changes import put_back_words, unadopted_fix
    from piehole.replicate.once import reconcile_once
    from piehole.repository.fitness import find_repository

    replica = Replica.open(find_repository(folder), common.overrides(args))
    if args.dry_run:
        return _preview(replica)
    report = reconcile_once(replica)
    for ref, why in report.locked.items():
        tell(f"{replica.git_dir}: locked: {ref}: {why}")
    for ref in report.unadopted:
        tell(
            f"{replica.git_dir}: unadopted: {ref}: the group has no value for it, so it stays as it is; {unadopted_fix(ref)}"
        )
    for ref, move in report.moved.items():
        tell(f"{replica.git_dir}: {ref}: {move.old[:12]} -> {move.new[:12]}")
    if report.head:
        tell(f"{replica.git_dir}: HEAD -> {report.head}")
    for ref, why in put_back_words(str(replica.git_dir), report.undone).items():
        tell(f"{replica.git_dir}: put back: {ref} {why}")
    for ref, why in report.stuck.items():
        tell(f"{replica.git_dir}: stuck: {ref}: {why}", file=sys.stderr)
    if report.corrupt:
        tell(f"{replica.git_dir}: corrupt: {report.corrupt}", file=sys.stderr)
    for ref in report.deferred:
        tell(f"{replica.git_dir}: {ref}: a push is moving it right now", file=sys.stderr)
    tell(f"{replica.git_dir}: {'in step' if report.converged else 'not in step'} at revision {report.revision}")
    return 0 if report.converged else 1


def _preview(replica: Replica) -> int:
    from piehole.commands.accept import consequences
    from piehole.deadline import Deadline
    from piehole.replicate.dry_run import dry_run

    replica.repository.check_owner()
    seen = dry_run(replica, Deadline(_PATIENCE))
    if seen.halted is not None:
        raise seen.halted
    for line in consequences(replica, seen):
        tell(f"{replica.git_dir}: {line}")
    count = len(seen.planned.moves) + bool(seen.planned.head)
    common.say_dry_run(f"move {count} ref{'' if count == 1 else 's'} of {replica.git_dir}")
    return 1 if count or seen.planned.stuck else 0
