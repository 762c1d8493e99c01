"""``piehole accept``: continue with etcd as it is, after etcd or this disk was restored from a backup."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Halted
from piehole.group import progress, rollback_guard
from piehole.group.replica import Replica
from piehole.refs import HEAD, short
from piehole.replicate.dry_run import DryRun, direction, dry_run

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_EXPLAINED: Final = 500  # moves; classifying more would take too long


@dataclass(frozen=True, slots=True)
class AcceptPreview:
    """Why this site is halted (None: it is not), and what the next reconcile would change after ``piehole accept``."""

    halted: Halted | None
    lines: tuple[str, ...]


def preview(replica: Replica) -> AcceptPreview:
    """Read etcd and the repository, and return what ``piehole accept`` would lead to.

    :raises Halted: the group's record is missing or belongs to another group, or the site's record is another repository's
    :raises EtcdError: etcd could not be used
    """
    seen = dry_run(replica, Deadline(_PATIENCE))
    refuse_foreign(replica, seen)
    return AcceptPreview(seen.halted, tuple(consequences(replica, seen)))


def refuse_foreign(replica: Replica, seen: DryRun) -> None:
    """Refuse an etcd that is not this repository's.

    :raises Halted: etcd does not hold the group that this repository joined, or not as this site
    """
    group, site = seen.state.group, seen.state.site
    wrong = rollback_guard.check_group(replica.config, group.value if group else None) or rollback_guard.check_site(
        replica.config, site.value if site else None
    )
    if wrong is not None:
        raise wrong


def consequences(replica: Replica, seen: DryRun, *, besides: Collection[str] = ()) -> list[str]:
    """Describe what a reconcile would do here, one line per ref except those in ``besides``: local value -> the group's value."""
    planned = seen.planned
    lines = []
    for number, move in enumerate(move for move in planned.moves if move.ref not in besides):
        what = f" ({direction(replica.repository, move.old, move.new)})" if number < _EXPLAINED else ""
        lines.append(f"{move.ref}: {short(move.old)} -> {short(move.new)}{what}")
    if planned.head and HEAD not in besides:
        lines.append(f"HEAD: {seen.observed.head or 'detached'} -> {planned.head}")
    stays = dict.fromkeys(planned.unadopted, "the group has no opinion on it")
    stays |= {ref: f"it is locked: {why}" for ref, why in planned.locked.items()}
    stays |= planned.stuck
    return lines + [f"{ref}: stays as it is: {why}" for ref, why in stays.items() if ref not in besides]


def accept(replica: Replica) -> None:
    """Make this site trust etcd as it is. No ref moves yet. Register the site again if its record is gone.

    :raises Halted: meanwhile etcd holds another group, or another machine has this site's name
    :raises EtcdError: etcd could not be used
    """
    replica.repository.check_owner()
    progress.publish(replica, 0, Deadline(_PATIENCE), takeover=True)
    progress.check(replica, Deadline(_PATIENCE))
