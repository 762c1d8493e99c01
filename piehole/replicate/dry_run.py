"""What a reconcile would do here, without doing it: for the commands that show it to a person."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Halted, PieholeError
from piehole.fastpath import controller_socket, inflight, paths, processes
from piehole.group import rollback_guard
from piehole.group.group_state import Readout
from piehole.group.replica import Local
from piehole.push.consensus_source import Linearizable
from piehole.push.rules import NO_ACCESS
from piehole.refs import is_zero
from piehole.replicate.plan import Desired, Plan, desired_state, plan
from piehole.repository.repository import Observed, Repository

# Git holds a ref's lock for as long as a hook runs; piehole.hookTimeout is 10 s. An older lock (seconds) is a leftover.
_OLD: Final = 15.0
_OTHERS: Final = ("HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock")


@dataclass(frozen=True, slots=True)
class Survey:
    """Local refs, the consensus after them, what a reconcile would do, and why this site must not move, if so."""

    observed: Observed
    readout: Readout
    desired: Desired
    planned: Plan
    halted: Halted | None


def survey(local: Local, deadline: Deadline) -> Survey:
    """
    :raises EtcdError: etcd could not be used
    :raises GitError: git failed where it must not
    """
    config = local.config
    observed = local.repository.observe()
    # A record whose receive-pack is dead holds nothing up: a reconcile clears it away.
    living = [record for record in inflight.records(str(local.git_dir)) if processes.lives(record.name) is not False]
    readout = local.swapper.list_group(deadline)
    desired = desired_state(readout.entries, config.object_format, config.exclude)
    planned = plan(
        desired,
        observed,
        object_format=config.object_format,
        exclude=config.exclude,
        in_flight={ref for record in living for ref in record.announced},
    )
    return Survey(observed, readout, desired, planned, halted(local, readout))


def halted(local: Local, readout: Readout) -> Halted | None:
    """Why this site must not move, if so; also where its own note of the past is damaged.

    :raises EtcdError: etcd could not be used
    """
    try:
        rollback_guard.load(local.git_dir)
    except PieholeError as error:
        group, site = readout.group, readout.site
        return (
            rollback_guard.check_group(local.config, group.value if group else None)
            or rollback_guard.check_site(local.config, site.value if site else None)
            or Halted(NO_ACCESS, str(error))
        )
    return Linearizable(local, lambda: None).halted(readout)


def old_locks(git_dir: Path) -> dict[str, float]:
    """Lock files that stand in the way of every later move of their refs, and their age in seconds."""
    found: dict[str, float] = {}
    for path in [*(git_dir / name for name in _OTHERS), *sorted(_locks(git_dir / "refs"))]:
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:  # gone meanwhile, or no place for a lock
            continue
        if age > _OLD:
            found[str(path.relative_to(git_dir))] = age
    return found


def _locks(folder: Path) -> list[Path]:
    return [Path(path) for path, is_folder in paths.below(str(folder)) if path.endswith(".lock") and not is_folder]


def controller_says(git_dir: Path) -> list[str]:
    """What the controller that serves this repository tells of it, ``WORD REST`` each; nothing where all is well.

    :raises NobodyHome: none answers
    """
    return controller_socket.ask(str(git_dir), ["status", f"repository {git_dir}"])[1:]


def direction(repository: Repository, old: str, new: str) -> str:
    """What a move from ``old`` to ``new`` is, in a word or two for a person."""
    if is_zero(old):
        return "new"
    if is_zero(new):
        return "deleted"
    if repository.contains(new, old):
        return "forward"
    if new not in repository.kinds([new]):
        return "its objects are not here"
    return "back" if repository.contains(old, new) else "aside"


def short(value: str) -> str:
    """A value as it is shown: an oid's first digits, ``nothing`` for the zero oid, another text cut."""
    if value and not value.strip("0"):
        return "nothing"
    return value if value.startswith("ref: ") else value[:12]
