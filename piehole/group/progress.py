"""Publishing how far a site has come, and taking part in a group at all: the site's own records."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Compacted, Halted, PieholeError
from piehole.etcd.model import Compare, Put
from piehole.fastpath.failpoints import Step, reached
from piehole.files import locked
from piehole.group import rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.records import Progress, SiteRecord
from piehole.group.replica import Replica
from piehole.group.rollback_guard import DiskState, Note

_NOTE: Final = 1.0  # seconds that a push, which has succeeded, waits to write its note


@contextmanager
def state_lock(git_dir: Path, patience: Deadline | None = None) -> Iterator[None]:
    """Only one process at a time compares or writes the site's state: the daemon and `reconcile --once` may run together.

    :raises TimeoutError: somebody else has held it for the whole ``patience``
    """
    with locked(git_dir / "piehole" / "state.lock", 0o600, patience) as obtained:
        if not obtained:
            raise TimeoutError("the site's state is locked")
        yield


def now() -> str:
    """This machine's time for people to read; nothing is decided by it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check(replica: Replica, deadline: Deadline, *, seen: int = 0) -> GroupState:
    """Whether this site may act on what etcd holds; registers the site again where its record vanished.

    :param seen: the newest revision that this process has acted on. Progress is published once a second, so a backup of etcd from
        the moment before that holds the newest record that the disk knows, and yet lacks pushes; the revision tells.
    :raises Halted: etcd or this disk went back, the group is another one, or the site was made to leave
    :raises EtcdError: etcd could not be used
    """
    with state_lock(replica.git_dir):
        return _check(replica, deadline, seen)


def _check(replica: Replica, deadline: Deadline, seen: int) -> GroupState:
    state = replica.reader.read([], deadline)
    if state.revision < seen:
        # From now on the disk knows it, too, until a person decides.
        rollback_guard.save(replica.git_dir, rollback_guard.witness(seen))
    disk = rollback_guard.load(replica.git_dir)
    halted = rollback_guard.check(replica.config, disk, state) or forgotten(replica, disk, deadline)
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
    return found or forgotten(replica, disk, Deadline(2))


def forgotten(replica: Replica, disk: DiskState, deadline: Deadline) -> Halted | None:
    """Whether etcd does not know the newest push that was taken here, though it may have come as far since.

    :raises EtcdError: etcd could not be used
    """
    if disk.pushed is None:
        return None
    try:
        push = replica.reader.push_at(disk.pushed.revision, deadline)
    except Compacted:  # history that is gone tells nothing
        return None
    return None if push is not None and push.id == disk.pushed.id else rollback_guard.went_back(replica.config.site)


def remember_push(replica: Replica, revision: int, push_id: str, *, wait: bool = True) -> bool:
    """Write to disk that a push was taken here: nobody publishes it soon, and a backup of etcd may lack it.

    Where that fails, nothing is lost but this note: the push itself stands.

    :param wait: for somebody who is writing the site's state
    """
    try:
        with state_lock(replica.git_dir, Deadline(_NOTE if wait else 0)):
            reached(Step.NOTING)
            rollback_guard.save(replica.git_dir, rollback_guard.load(replica.git_dir).took(Note(revision, push_id)))
    except (PieholeError, OSError):
        return False  # a full disk, a controller that hangs, an account that may not write here: `piehole check` names them
    return True


def vouch(replica: Replica, deadline: Deadline) -> None:
    """Publish the last progress record anew, under another id: what etcd held before this can be told from what it holds now.

    For a site that has followed the group although something keeps its progress back.

    :raises Halted: etcd and this disk do not remember the same past
    :raises EtcdError: etcd could not be used
    """
    known = rollback_guard.load(replica.git_dir).published
    if known is not None:
        publish(replica, known.revision, deadline)


def _register(replica: Replica, deadline: Deadline) -> None:
    key = replica.keyspace.site(replica.config.group, replica.config.site)
    record = SiteRecord(replica.config.site_id, replica.config.url)
    # Lost against somebody else, it is seen and judged at the next check.
    replica.etcd.txn([Compare(key)], [Put(key, record.dump())], deadline=deadline)


def publish(replica: Replica, revision: int, deadline: Deadline, *, takeover: bool = False) -> None:
    """Say in etcd that every managed ref here holds the value it had at ``revision`` or a later one.

    The new record's id is on disk before it is sent, so whatever becomes of the sending, the disk knows the id that etcd holds.

    :param takeover: write the record whatever etcd and this disk remember: a person has decided (install, accept, clobber)
    :raises Halted: etcd and this disk do not remember the same past
    :raises PieholeError: a record that was sent long ago came through at this very moment; the next time tells
    :raises EtcdError: etcd could not be used; the record may or may not have been written
    """
    key = replica.keyspace.progress(replica.config.group, replica.config.site)
    with state_lock(replica.git_dir):
        disk = DiskState()
        if takeover:
            state = replica.reader.read([], deadline)
        else:
            state = _check(replica, deadline, revision)
            disk = rollback_guard.load(replica.git_dir)
            if state.progress is not None:
                disk = disk.seen(Progress.parse(state.progress.value).id)
        found = state.progress.mod_revision if state.progress else 0
        disk = disk.announcing(revision)
        rollback_guard.save(replica.git_dir, disk)
        reached(Step.PROGRESS_ANNOUNCED)
        record = Progress(revision, disk.pending[-1].id, now())
        result = replica.etcd.txn([Compare(key, mod_revision=found)], [Put(key, record.dump())], deadline=deadline)
        if not result.succeeded:
            # No other process of this repository writes meanwhile: it is a twin, or this one's own write of a while ago.
            _check(replica, deadline, revision)
            raise PieholeError(
                f"the progress record of the site {replica.config.site!r} changed meanwhile; look again."
            )
        reached(Step.PROGRESS_SENT)
        rollback_guard.save(replica.git_dir, disk.confirmed())
        reached(Step.PROGRESS_CONFIRMED)
