"""``piehole reconcile --once``: the same reconcile as the controller's, with one listing of the group as its view."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import tenacity

from piehole.deadline import Deadline
from piehole.group import drops, rollback_guard
from piehole.group import progress as site_progress
from piehole.group.group_state import GroupState
from piehole.group.records import Progress, RecordError
from piehole.group.replica import Replica
from piehole.group.tombstones import reap
from piehole.long_work import doing
from piehole.refs import Command
from piehole.replicate import drop, examination
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.reconcile import Reconciler, Report
from piehole.replicate.release_copies import settle_leftovers
from piehole.repository import kept_tips, verification
from piehole.transfer import keep_files, maintenance, removal

_PATIENCE: Final = 10.0  # seconds for each request to etcd
_DROPPING: Final = 10.0  # seconds
_ROUNDS: Final = 20  # reconciles while pushes hold refs; a push ends within its own deadline


def reconcile_once(replica: Replica) -> Report:
    """Bring one repository to consensus, publish its progress, reap tombstones and expire kept tips.

    :raises Halted: this site must not move until an administrator decides
    :raises EtcdError: etcd could not be used
    :raises PieholeError: the repository could not be worked on
    """
    replica.repository.check_owner()
    keep_files.sweep(replica.git_dir)
    for oid in removal.begun(replica.git_dir):  # first of all: what was set aside may be needed
        drop.drop(replica, oid)
    views: list[GroupState] = []

    def view() -> GroupState:
        views[:] = [_view(replica)]
        return views[0]

    def claim() -> int:
        return replica.reader.read([], Deadline(_PATIENCE)).revision

    reconciler = Reconciler(replica, ObjectFetcher(replica, PeerHealth()), view, claim)
    with removal.excluded(replica.git_dir):
        report = _until_no_push_holds_refs(reconciler)
        if not report.corrupt and examination.corrupt(replica, examination.THOROUGH):
            report = _until_no_push_holds_refs(reconciler, report.moved)
    if report.converged:
        publish(replica, report)
        reap(replica, Deadline(_PATIENCE), views[0].entries)
    elif report.moved or verification.untold(replica.git_dir):
        site_progress.republish(replica, Deadline(_PATIENCE))
    settle_leftovers(replica)
    kept_tips.expire(replica.repository)
    drop_now(replica)
    if report.moved:
        maintenance.refresh_dumb_http(replica.git_dir)
    return report


def drop_now(replica: Replica) -> None:
    """Drop the objects that all sites were asked to drop, as far as that can be done within some seconds.

    :raises EtcdError: etcd could not be used
    """
    deadline = Deadline(_DROPPING)
    while (
        drops.WAITING in drop.work(replica, drops.read(replica, Deadline(_PATIENCE)), again=True)
        and not deadline.passed
    ):
        time.sleep(0.2)  # for pushes and reconciles that are under way


def _view(replica: Replica) -> GroupState:
    """The group as it is now. Whether this site may act on it is checked after it was read, so that the check holds for what was read."""
    doing("comparing the refs with the group's")
    state = replica.reader.list_group(Deadline(_PATIENCE))
    site_progress.check(replica, Deadline(_PATIENCE))
    return state


def _until_no_push_holds_refs(reconciler: Reconciler, before: Mapping[str, Command] = MappingProxyType({})) -> Report:
    """Reconcile again while pushes hold refs; the report is the last one, with the moves of all, and those made before."""
    moved = dict(before)
    undone: dict[str, Command] = {}

    def attempt() -> Report:
        report = reconciler.run()
        moved.update(report.moved)
        undone.update(report.undone)
        return report

    again = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda report: bool(report.deferred)),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1),
        stop=tenacity.stop_after_attempt(_ROUNDS),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    report: Report = again(attempt)
    return replace(report, moved=moved, undone=undone)


def publish(replica: Replica, report: Report, *, seen: Callable[[], int] = lambda: 0) -> bool:
    """Publish the progress that a report proves, unless it is published already; return whether it was written.

    :param seen: as in :func:`piehole.group.progress.publish`
    """
    known = rollback_guard.load(replica.git_dir).published
    digest = report.held.digest() if report.held is not None else ""
    old = known is not None and report.newest <= known.revision and not verification.untold(replica.git_dir)
    # The digest is made when pushes pause: the record that brought the last of them has none.
    digested = digest and known is not None and report.revision >= known.revision
    if old and not (digested and _published_digest(replica) != digest):
        return False
    site_progress.publish(replica, report.revision, Deadline(_PATIENCE), digest=digest, seen=seen)
    return True


def _published_digest(replica: Replica) -> str:
    progress = replica.reader.read([], Deadline(_PATIENCE)).progress
    try:
        return Progress.parse(progress.value).digest if progress is not None else ""
    except RecordError:
        return ""
