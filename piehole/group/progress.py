"""Publishing how far a site has come, and taking part in a group at all: the site's own records."""

from __future__ import annotations

import datetime
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import Compacted, Halted, PieholeError
from piehole.etcd.model import Compare, Put
from piehole.fastpath.failpoints import Step, reached
from piehole.group import keys, rollback_guard
from piehole.group.group_state import Readout
from piehole.group.records import Progress, PushRecord, RecordError, SiteRecord
from piehole.group.replica import Local
from piehole.group.rollback_guard import DiskState, Note

_NOTE: Final = 1.0  # seconds that a push, which has succeeded, waits to write its note
_LOOK_EVERY: Final = 0.01  # seconds


@contextmanager
def state_lock(git_dir: Path, patience: Deadline | None = None) -> Iterator[None]:
    """Only one process at a time compares or writes the site's state: the daemon and `reconcile --once` may run together.

    :raises TimeoutError: somebody else has held it for the whole ``patience``
    """
    (git_dir / "piehole").mkdir(exist_ok=True)
    handle = os.open(git_dir / "piehole" / "state.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(handle, patience)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, patience: Deadline | None) -> None:
    while patience is not None:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if patience.passed:
                raise TimeoutError("the site's state is locked") from None
            time.sleep(_LOOK_EVERY)
    return fcntl.flock(handle, fcntl.LOCK_EX)


def now() -> str:
    """This machine's time for people to read; nothing is decided by it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check(local: Local, deadline: Deadline, *, seen: int = 0) -> Readout:
    """Whether this site may act on what etcd holds; registers the site again where its record vanished.

    :param seen: the newest revision that this process has acted on. Progress is published once a second, so a backup of etcd from
        the moment before that holds the newest record that the disk knows, and yet lacks pushes; the revision tells.
    :raises Halted: etcd or this disk went back, the group is another one, or the site was made to leave
    :raises EtcdError: etcd could not be used
    """
    with state_lock(local.git_dir):
        return _check(local, deadline, seen)


def _check(local: Local, deadline: Deadline, seen: int) -> Readout:
    readout = local.swapper.read([], deadline)
    if readout.revision < seen:
        # From now on the disk knows it, too, until a person decides.
        rollback_guard.save(local.git_dir, rollback_guard.witness(seen))
    disk = rollback_guard.load(local.git_dir)
    halted = rollback_guard.check(local.config, disk, readout) or forgotten(local, disk, deadline)
    if halted is not None:
        raise halted
    if readout.site is None:
        _register(local, deadline)
        readout = local.swapper.read([], deadline)
    return readout


def halted(local: Local, readout: Readout) -> Halted | None:
    """Why this site must not move, according to this linearizable read; None where it may.

    :raises EtcdError: etcd could not be used
    """
    # The disk is read after etcd, so it may already know a newer progress record than the one in the readout.
    # That passes; a real disagreement stays.
    disk = rollback_guard.load(local.git_dir)
    found = rollback_guard.check(local.config, disk, readout)
    for _ in range(3):
        if found is None or readout.progress is None:
            break
        readout = local.swapper.read([], Deadline(2))
        disk = rollback_guard.load(local.git_dir)
        found = rollback_guard.check(local.config, disk, readout)
    return found or forgotten(local, disk, Deadline(2))


def forgotten(local: Local, disk: DiskState, deadline: Deadline) -> Halted | None:
    """Whether etcd does not know the newest push that was taken here, though it may have come as far since.

    :raises EtcdError: etcd could not be used
    """
    if disk.pushed is None:
        return None
    key = local.keyspace.ref(local.config.group, keys.PUSH)
    try:
        found = local.etcd.range(key, revision=disk.pushed.revision, deadline=deadline).kvs
    except Compacted:  # history that is gone tells nothing
        return None
    try:
        known = bool(found) and PushRecord.parse(found[0].value).id == disk.pushed.id
    except RecordError:
        known = False
    return None if known else rollback_guard.went_back(local.config.site)


def remember_push(local: Local, revision: int, push_id: str, *, wait: bool = True) -> bool:
    """Write to disk that a push was taken here: nobody publishes it soon, and a backup of etcd may lack it.

    Where that fails, nothing is lost but this note: the push itself stands.

    :param wait: for somebody who is writing the site's state
    """
    try:
        with state_lock(local.git_dir, Deadline(_NOTE if wait else 0)):
            reached(Step.NOTING)
            rollback_guard.save(local.git_dir, rollback_guard.load(local.git_dir).took(Note(revision, push_id)))
    except (PieholeError, OSError):
        return False  # a full disk, a controller that hangs, an account that may not write here: `piehole check` names them
    return True


def vouch(local: Local, deadline: Deadline) -> None:
    """Publish the last progress record anew, under another id: what etcd held before this can be told from what it holds now.

    For a site that has followed the group although something keeps its progress back.

    :raises Halted: etcd and this disk do not remember the same past
    :raises EtcdError: etcd could not be used
    """
    known = rollback_guard.load(local.git_dir).published
    if known is not None:
        publish(local, known.revision, deadline)


def _register(local: Local, deadline: Deadline) -> None:
    key = local.keyspace.site(local.config.group, local.config.site)
    record = SiteRecord(local.config.site_id, local.config.url)
    # Lost against somebody else, it is seen and judged at the next check.
    local.etcd.txn([Compare(key)], [Put(key, record.dump())], deadline=deadline)


def publish(local: Local, revision: int, deadline: Deadline, *, takeover: bool = False) -> None:
    """Say in etcd that every managed ref here holds the value it had at ``revision`` or a later one.

    The new record's id is on disk before it is sent, so whatever becomes of the sending, the disk knows the id that etcd holds.

    :param takeover: write the record whatever etcd and this disk remember: a person has decided (install, accept, clobber)
    :raises Halted: etcd and this disk do not remember the same past
    :raises PieholeError: a record that was sent long ago came through at this very moment; the next time tells
    :raises EtcdError: etcd could not be used; the record may or may not have been written
    """
    key = local.keyspace.progress(local.config.group, local.config.site)
    with state_lock(local.git_dir):
        state = DiskState()
        if takeover:
            readout = local.swapper.read([], deadline)
        else:
            readout = _check(local, deadline, revision)
            state = rollback_guard.load(local.git_dir)
            if readout.progress is not None:
                state = state.seen(Progress.parse(readout.progress.value).id)
        found = readout.progress.mod_revision if readout.progress else 0
        state = state.announcing(revision)
        rollback_guard.save(local.git_dir, state)
        reached(Step.PROGRESS_ANNOUNCED)
        record = Progress(revision, state.pending[-1].id, now())
        result = local.etcd.txn([Compare(key, mod_revision=found)], [Put(key, record.dump())], deadline=deadline)
        if not result.succeeded:
            # No other process of this repository writes meanwhile: it is a twin, or this one's own write of a while ago.
            _check(local, deadline, revision)
            raise PieholeError(f"the progress record of the site {local.config.site!r} changed meanwhile; look again.")
        reached(Step.PROGRESS_SENT)
        rollback_guard.save(local.git_dir, state.confirmed())
        reached(Step.PROGRESS_CONFIRMED)
