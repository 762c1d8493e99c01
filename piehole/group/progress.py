"""Publishes how far this site has replicated, and checks whether this site may act on what etcd holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Compacted, Halted, PieholeError
from piehole.etcd.model import Compare, Put
from piehole.fastpath.failpoints import Step, reached
from piehole.files import locked
from piehole.group import keys, rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.limits import SiteLimits
from piehole.group.records import Progress, PushRecord, SiteRecord, now
from piehole.group.replica import Replica
from piehole.group.rollback_guard import DiskState, Note
from piehole.repository import verification

_GLOBS: Final = 8192  # characters of piehole.exclude that are published: others refuse a record that is too large
_NOTE: Final = 1.0  # seconds that a successful push waits for the lock to write its note


@contextmanager
def state_lock(git_dir: Path, patience: Deadline | None = None) -> Iterator[None]:
    """Let only one process at a time compare or write the site's state: the daemon and `reconcile --once` may run together.

    :raises TimeoutError: another process held the lock for the whole ``patience``
    """
    with locked(git_dir / "piehole" / "state.lock", 0o600, patience) as obtained:
        if not obtained:
            raise TimeoutError("the site's state is locked")
        yield


def check(replica: Replica, deadline: Deadline, *, seen: Callable[[], int] = lambda: 0) -> GroupState:
    """Check that this site may act on what etcd holds, and register the site again where its record vanished.

    :param seen: the newest revision that this process has acted on, asked when nobody else writes the state any more: an administrator's
        decision ends it. Progress is published once a second, so a backup of etcd from the moment before that holds the newest record
        that the disk knows, and yet lacks pushes; the revision tells.
    :raises Halted: etcd or this disk went back, the group is another one, or the site was made to leave
    :raises EtcdError: etcd could not be used
    """
    with state_lock(replica.git_dir):
        state = _check(replica, deadline, seen())
    _publish_limits(replica, state, deadline)
    return state


def _publish_limits(replica: Replica, state: GroupState, deadline: Deadline) -> None:
    """Write what names this disk can hold to the site's record, where it says something else: an older piehole has written none."""
    record = SiteRecord.parse(state.site.value) if state.site else None
    if record is not None and state.site is not None and SiteLimits.parse(record.extra) != replica.config.limits:
        key = replica.keyspace.site(replica.config.group, replica.config.site)
        guard = Compare(key, mod_revision=state.site.mod_revision)
        replica.etcd.txn([guard], [Put(key, record.limited(replica.config.limits).dump())], deadline=deadline)


def _check(replica: Replica, deadline: Deadline, seen: int) -> GroupState:
    state = replica.reader.read([], deadline)
    if state.revision < seen:
        # The disk remembers it until an administrator decides.
        rollback_guard.save(replica.git_dir, rollback_guard.state_at(seen))
    disk = rollback_guard.load(replica.git_dir)
    halted = rollback_guard.check(replica.config, disk, state) or _check_push(replica, disk, deadline)
    if halted is not None:
        raise halted
    if state.site is None:
        _register(replica, deadline)
        state = replica.reader.read([], deadline)
    return state


def halted(replica: Replica, state: GroupState) -> Halted | None:
    """Why this site must not move, according to this linearizable read; None where it may.

    :raises EtcdError: etcd could not be used
    """
    # The disk is read after etcd, so it may already know a newer progress record than the one in the state.
    # That passes; a real disagreement stays.
    disk = rollback_guard.load(replica.git_dir)
    found = rollback_guard.check(replica.config, disk, state)
    for _ in range(3):
        if found is None or state.progress is None:
            break
        state = replica.reader.read([], Deadline(2))
        disk = rollback_guard.load(replica.git_dir)
        found = rollback_guard.check(replica.config, disk, state)
    return found or _check_push(replica, disk, Deadline(2))


def _check_push(replica: Replica, disk: DiskState, deadline: Deadline) -> Halted | None:
    """Check that etcd knows the newest push that this site accepted. The revision alone does not tell: etcd may have overtaken it since.

    :raises EtcdError: etcd could not be used
    """
    if disk.pushed is None:
        return None
    try:
        push = replica.reader.push_at(disk.pushed.revision, deadline)
    except Compacted:  # compacted history proves nothing
        return None
    return None if push is not None and push.id == disk.pushed.id else rollback_guard.went_back(replica.config.site)


def remember_push(replica: Replica, revision: int, push_id: str, *, wait: bool = True) -> bool:
    """Write to disk that this site accepted a push: no controller publishes it soon, and a backup of etcd may lack it.

    A failure loses only this note; the push stays accepted.

    :param wait: wait for another process that is writing the site's state
    """
    try:
        with state_lock(replica.git_dir, Deadline(_NOTE if wait else 0)):
            reached(Step.NOTING)
            rollback_guard.save(
                replica.git_dir, rollback_guard.load(replica.git_dir).with_push(Note(revision, push_id))
            )
    except (PieholeError, OSError):
        return False  # a full disk, a controller that hangs, an account that may not write here: `piehole check` names them
    return True


def republish(replica: Replica, deadline: Deadline, *, seen: Callable[[], int] = lambda: 0) -> None:
    """Publish the last progress record again, under another id, so that a backup of etcd from before this is recognised.

    For a site that has replicated pushes while something holds its progress back.

    :raises Halted: etcd and this disk disagree on what this site has published
    :raises EtcdError: etcd could not be used
    """
    known = rollback_guard.load(replica.git_dir).published
    if known is not None:
        publish(replica, known.revision, deadline, seen=seen)


def _register(replica: Replica, deadline: Deadline) -> None:
    key = replica.keyspace.site(replica.config.group, replica.config.site)
    record = SiteRecord(replica.config.site_id, replica.config.url).limited(replica.config.limits)
    # All controllers watch the fence: they ask this site by the address that they know until it changes.
    heard = PushRecord.create(replica.config.site, "registered")
    news = Put(replica.keyspace.ref(replica.config.group, keys.FENCE), heard.dump())
    # Where another process writes the record first, the next check judges that record.
    replica.etcd.txn([Compare(key)], [Put(key, record.dump()), news], deadline=deadline)


def publish(
    replica: Replica,
    revision: int,
    deadline: Deadline,
    *,
    digest: str = "",
    takeover: bool = False,
    seen: Callable[[], int] = lambda: 0,
) -> Progress:
    """Publish in etcd that every managed ref here holds the value it had at ``revision`` or a later one.

    The new record's id is on disk before it is sent, so the disk knows the id that etcd holds, whether or not the answer arrives.

    :param digest: of the refs that the site held at this revision (:mod:`piehole.replicate.ref_digest`), ``""`` where it is not known
    :param takeover: write the record without comparing etcd and this disk: an administrator has decided (install, accept, clobber)
    :param seen: the newest revision that this process has acted on, asked when nobody else writes the state any more. A record of an older
        reconcile would raise the revision of an etcd that was restored from a backup, and so hide that it went back
    :return: the record
    :raises Halted: etcd and this disk disagree on what this site has published
    :raises PieholeError: a record that was sent long ago reached etcd at this very moment; publish again
    :raises EtcdError: etcd could not be used; the record may or may not have been written
    """
    key = replica.keyspace.progress(replica.config.group, replica.config.site)
    with state_lock(replica.git_dir):
        disk = DiskState()
        if takeover:
            state = replica.reader.read([], deadline)
        else:
            state = _check(replica, deadline, max(revision, seen()))
            disk = rollback_guard.load(replica.git_dir)
            if state.progress is not None:
                disk = disk.with_found(Progress.parse(state.progress.value).id)
        found = state.progress.mod_revision if state.progress else 0
        disk = disk.with_pending(revision)
        rollback_guard.save(replica.git_dir, disk)
        reached(Step.PROGRESS_ANNOUNCED)
        verified = verification.last(replica.git_dir)
        exclude = replica.config.exclude
        if sum(map(len, exclude)) > _GLOBS:
            digest, exclude = "", ()
        record = Progress(revision, disk.pending[-1].id, now(), verified.fields(), digest, exclude)
        result = replica.etcd.txn([Compare(key, mod_revision=found)], [Put(key, record.dump())], deadline=deadline)
        if not result.succeeded:
            # The state lock excludes other processes of this repository: it was another machine with this site's name, or an earlier write.
            _check(replica, deadline, revision)
            raise PieholeError(
                f"the progress record of the site {replica.config.site!r} changed at the same time. Try again."
            )
        reached(Step.PROGRESS_SENT)
        rollback_guard.save(replica.git_dir, disk.with_confirmed())
        verification.told(replica.git_dir, verified)
        reached(Step.PROGRESS_CONFIRMED)
        return record
