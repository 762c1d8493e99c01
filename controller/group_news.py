"""When the changes of each group's refs were heard of, and what is the newest: noted as the watch tells of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from controller.cache import KeyChange
from controller.change_times import ChangeTimes
from controller.etcd_view import EtcdView
from piehole.group import ref_log
from piehole.group.keys import FENCE, PUSH
from piehole.group.records import PushRecord
from piehole.repository.verification import seconds_of

_LIVE: Final = 10.0  # seconds since the last contact with etcd, within which what it tells has just happened
_AGAIN: Final = 30.0  # seconds until the local log is read again, which may be large
_NO_REFS: Final = (PUSH, FENCE)


class GroupNews:
    """Of one group. Written by the informer's thread, read by any."""

    def __init__(self, view: EtcdView, group: str, since: int = 0) -> None:
        """
        :param since: up to which revision the cache had everything, and nothing is known of when that was; 0: it has just been told something
        """
        self._view = view
        self._group = group
        self._lock = threading.Lock()
        self._known_at = time.time()
        self._revision = since  # up to which all changes are noted
        self._times = ChangeTimes(self._revision)
        self._newest: int | None = None
        self._looked_up: dict[int, float] = {}  # by the revision of a site: since when it is behind
        self._never_seen: dict[str, float] = {}  # sites without progress, since this was noticed
        self.unsure = False  # a lag was asked for that only the local log knows
        self.look_at = 0.0  # when it may be read again (monotonic seconds): changes from before this controller are still being written to it

    def note(self, contact: float) -> None:
        """The cache has changes of this group.

        :param contact: when etcd was last known to have told everything (seconds since the epoch)
        """
        changes = self._view.changes(self._group, self._revision)
        with self._lock:
            if changes is None:
                # It was listed (again), or these are the first changes since then: what is newest has to be looked up.
                self._newest = None
                live = self._view.informer.cache.newest(self._group)
                revision, refs = live or self._view.informer.cache.revision, True
                if not self._revision:
                    self._times = ChangeTimes(max(0, live - 1) or revision)
            elif not changes:
                return
            else:
                revision, refs = changes[-1][1].revision, any(name not in _NO_REFS for name, _ in changes)
            self._revision = max(self._revision, revision)
            if not refs:
                return
            moved = [change.revision for name, change in changes or () if name not in _NO_REFS and change.after]
            if self._newest is not None:
                self._newest = max([self._newest, *moved])
            now = time.time()
            at = now if now - contact < _LIVE else max(contact, self._pushed_at(changes, now))
            self._times.note(revision, at)

    def _pushed_at(self, changes: Sequence[tuple[str, KeyChange]] | None, now: float) -> float:
        """When the first of these changes was pushed: this controller has not heard of it when that happened."""
        pushes = [change.after for name, change in changes or () if name == PUSH and change.after is not None]
        push = PushRecord.of(pushes[0] if pushes else self._view.newest_push(self._group))
        return min(now, (seconds_of(push.time) if push else None) or now)

    def newest(self) -> int:
        """The newest revision that moved one of the group's refs."""
        with self._lock:
            if self._newest is None:
                entries = self._view.view(self._group).entries
                self._newest = max((kv.mod_revision for name, kv in entries.items() if name not in _NO_REFS), default=0)
            return self._newest

    def heard_at(self, revision: int) -> float | None:
        """When the change at this revision was heard of; None where that is not known."""
        with self._lock:
            return self._times.after(revision - 1)

    def behind_since(self, site: str, revision: int) -> float:
        """Since when a site that has everything up to this revision, and is behind, lacks something.

        One that was never seen lacks everything: what counts is since when it is there.
        """
        if revision <= 0:
            return self._never_seen.setdefault(site, time.time())
        self._never_seen.pop(site, None)
        with self._lock:
            known = self._times.after(revision) or self._looked_up.get(revision)
        if known is not None:
            return known
        self.unsure = True
        push = self._view.informer.cache.get(self._group, self._view.keyspace.ref(self._group, PUSH))
        record = PushRecord.of(push) if push is not None and push.mod_revision > revision else None
        # The oldest change that it lacks was not made after the newest.
        return min(self._known_at, (seconds_of(record.time) if record else None) or self._known_at)

    def look_up(self, git_dir: Path, revisions: Sequence[int]) -> bool:
        """Read in the local log since when sites at these revisions lack something; whether that says something new."""
        self.look_at = time.monotonic() + _AGAIN
        entries = ref_log.read(git_dir)
        found = {}
        for revision in revisions:
            later = [entry for entry in entries if revision < entry.revision]
            first = min(later, key=lambda entry: entry.revision, default=None)
            at = seconds_of(first.time) if first is not None else None
            if at is not None:
                found[revision] = min(at, time.time())
        self.unsure = len(found) < len(set(revisions))
        with self._lock:
            before, self._looked_up = self._looked_up, found
        return before != found

    def forget(self, revision: int) -> None:
        """Every site has all changes up to this revision."""
        with self._lock:
            self._times.forget(revision)
