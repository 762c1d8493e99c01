"""What a reconcile would do here, without doing it: for the commands that show it to a person."""

from __future__ import annotations

from dataclasses import dataclass

from piehole.deadline import Deadline
from piehole.errors import NO_ACCESS, Halted, PieholeError
from piehole.fastpath import inflight, processes
from piehole.group import progress, rollback_guard
from piehole.group.group_state import Readout
from piehole.group.replica import Local
from piehole.refs import is_zero
from piehole.replicate.plan import Desired, Plan, desired_state, plan
from piehole.repository.repository import Observed, Repository


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
    return progress.halted(local, readout)


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
