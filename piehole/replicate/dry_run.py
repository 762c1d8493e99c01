"""What a reconcile would do here, without doing it: for the commands that show it to an administrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from piehole.deadline import Deadline
from piehole.errors import NO_ACCESS, Halted, PieholeError
from piehole.group import progress, rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.refs import Command, is_zero
from piehole.replicate.local_changes import local_changes
from piehole.replicate.plan import DesiredState, Plan, desired_state, plan
from piehole.replicate.pushes_here import in_flight
from piehole.repository.repository import ObservedState, Repository


@dataclass(frozen=True, slots=True)
class DryRun:
    """Local refs, the group as it was read after them, what a reconcile would do, and why this site must not move, if so.

    ``changed``: the moves (and HEAD) that would undo what was changed here without a push.
    """

    observed: ObservedState
    state: GroupState
    desired: DesiredState
    planned: Plan
    halted: Halted | None
    changed: Mapping[str, Command] = field(default_factory=dict)


def dry_run(replica: Replica, deadline: Deadline) -> DryRun:
    """Compare both states as a reconcile does, and change nothing.

    :raises EtcdError: etcd could not be used
    :raises GitError: git failed where it must not
    """
    config = replica.config
    published = rollback_guard.published_revision(replica.git_dir)
    observed = replica.repository.observe()
    announced = in_flight(str(replica.git_dir)).refs
    state = replica.reader.list_group(deadline)
    desired = desired_state(state.entries, config.object_format, config.exclude)
    planned = plan(desired, observed, object_format=config.object_format, exclude=config.exclude, in_flight=announced)
    changed = local_changes(planned, desired, observed, published)
    return DryRun(observed, state, desired, planned, halted(replica, state), changed)


def halted(replica: Replica, state: GroupState) -> Halted | None:
    """Why this site must not move, if so; also where its own record of the past is damaged.

    :raises EtcdError: etcd could not be used
    """
    try:
        rollback_guard.load(replica.git_dir)
    except PieholeError as error:
        group, site = state.group, state.site
        return (
            rollback_guard.check_group(replica.config, group.value if group else None)
            or rollback_guard.check_site(replica.config, site.value if site else None)
            or Halted(NO_ACCESS, str(error))
        )
    return progress.halted(replica, state)


def direction(repository: Repository, old: str, new: str) -> str:
    """What a move from ``old`` to ``new`` is, in a word or two."""
    if is_zero(old):
        return "new"
    if is_zero(new):
        return "deleted"
    if repository.contains(new, old):
        return "forward"
    if new not in repository.kinds([new]):
        return "its objects are not here"
    return "back" if repository.contains(old, new) else "aside"
