"""The informer's cache: all keys below its prefix at one revision, in buckets (one per group)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from piehole.deadline import Deadline
from piehole.errors import Compacted
from piehole.etcd.model import Batch, Event, KeyValue, Snapshot


class Gap(Compacted):
    """An event does not follow the cached state, so one before it was lost: list again."""


@dataclass(frozen=True, slots=True)
class View:
    """All keys of one bucket, as they were at ``revision``. It never changes.

    ``listing``: which listing it is built upon. Two views of the same revision differ if etcd was restored from a backup between their
    listings, or if the watch had lost an event.
    """

    revision: int
    entries: Mapping[bytes, KeyValue]
    listing: int


# Changes of one bucket that are remembered; a reader that has missed more of them reads the whole bucket.
REMEMBERED: Final = 256
_LARGE: Final = 4096  # bytes; a larger value is none of piehole's, and is not remembered


class KeyChange(NamedTuple):
    """What a key held before and after a change; None: nothing."""

    revision: int
    key: bytes
    before: KeyValue | None
    after: KeyValue | None


@dataclass(slots=True)
class _Bucket:
    """``lent``: a view shares ``entries``, so the next change must be made to a copy. ``past``: each change after the revision ``since``."""

    since: int
    entries: dict[bytes, KeyValue] = field(default_factory=dict)
    lent: bool = False
    past: deque[KeyChange] = field(default_factory=deque)

    def put(self, kv: KeyValue) -> None:
        self._own()
        self._note(kv.mod_revision, kv.key, kv)
        self.entries[kv.key] = kv

    def remove(self, key: bytes, revision: int) -> None:
        self._own()
        self._note(revision, key, None)
        self.entries.pop(key, None)

    def changes(self, after: int) -> list[KeyChange] | None:
        return None if after < self.since else [change for change in self.past if change.revision > after]

    def _note(self, revision: int, key: bytes, kv: KeyValue | None) -> None:
        self.past.append(KeyChange(revision, key, self.entries.get(key), kv))
        if len(self.past) > REMEMBERED:
            self.since = max(self.since, self.past.popleft().revision)
        if kv is not None and len(kv.value) > _LARGE:
            self.past.clear()
            self.since = max(self.since, revision)

    def _own(self) -> None:
        if self.lent:
            self.entries, self.lent = dict(self.entries), False


_NOTHING: Final[Mapping[bytes, KeyValue]] = MappingProxyType({})


class Cache:
    """Written by the informer alone, read by any thread. One lock; a view costs O(1), whatever the bucket's size.

    Only the first change after a view copies its bucket: without a view, nothing is copied.

    :param bucket: the bucket of a key, or None for a key that is of no interest; always the same for the same key
    """

    def __init__(self, bucket: Callable[[bytes], str | None]) -> None:
        self._bucket = bucket
        self._buckets: dict[str, _Bucket] = {}
        self._revision = 0
        self._listing = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def revision(self) -> int:
        with self._changed:
            return self._revision

    def view(self, bucket: str) -> View:
        """The bucket now; empty where there is none of this name."""
        with self._changed:
            found = self._buckets.get(bucket)
            if found is None:
                return View(self._revision, _NOTHING, self._listing)
            found.lent = True
            return View(self._revision, MappingProxyType(found.entries), self._listing)

    def get(self, bucket: str, key: bytes) -> KeyValue | None:
        """One key now. Unlike a view, it costs the next change nothing."""
        with self._changed:
            return self._entries(bucket).get(key)

    def newest(self, bucket: str) -> int:
        """The revision of the last change of this bucket that came from a watch; 0 where there was none since the listing."""
        with self._changed:
            found = self._buckets.get(bucket)
            return found.past[-1].revision if found is not None and found.past else 0

    def changes(self, bucket: str, after: int) -> list[KeyChange] | None:
        """All changes after a revision, the oldest first; None where they are not all remembered, or etcd was listed again."""
        with self._changed:
            found = self._buckets.get(bucket)
            return None if found is None else found.changes(after)

    def wait_for(self, revision: int, deadline: Deadline) -> bool:
        """Wait until the cache holds everything up to ``revision``; false when the deadline passed or the cache was closed first."""
        with self._changed:
            while self._revision < revision and not self._closed and not deadline.passed:
                self._changed.wait(deadline.remaining())
            return self._revision >= revision

    def close(self) -> None:
        """End all waits: no further change will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def replace(self, snapshot: Snapshot) -> set[str]:
        """Replace everything with a new listing, also an older one; returns the buckets that differ now.

        A key that vanished is a difference of its bucket.
        """
        listed: dict[str, dict[bytes, KeyValue]] = {}
        for kv in snapshot.kvs:
            name = self._bucket(kv.key)
            if name is not None:
                listed.setdefault(name, {})[kv.key] = kv
        known = self._buckets  # only this thread changes it, so comparing needs no lock and holds up no reader
        changed = {name for name in listed.keys() | known.keys() if listed.get(name, {}) != self._entries(name)}
        # No reader may go on from a revision before this listing. Where the bucket differs at the same revision, or etcd was restored from
        # a backup, not from that revision either: what was known of it is not what the listing says.
        since = snapshot.revision if snapshot.revision >= self._revision else self._revision + 1
        after = {
            name: _Bucket(max(since, self._revision + 1), listed.get(name, {}))
            if name in changed
            else _Bucket(since, known[name].entries, lent=True)
            for name in listed.keys() | changed
        }
        with self._changed:
            self._buckets = after
            self._listing += 1
            self._advance(snapshot.revision)
        return changed

    def apply(self, batch: Batch) -> set[str]:
        """Apply the events of a watch; returns the buckets that they changed. Events that are known already are skipped.

        :raises Gap: an event is missing; nothing was applied
        """
        with self._changed:
            fresh = self._checked(event for event in batch.events if event.kv.mod_revision > self._revision)
            for name, event in fresh:
                # (A bucket that is absent was empty at the last listing, and at each revision since.)
                bucket = self._buckets.setdefault(name, _Bucket(event.kv.mod_revision - 1))
                if event.kind == "put":
                    bucket.put(event.kv)
                else:
                    # (An empty bucket stays until the next listing: it remembers what was deleted, and when.)
                    bucket.remove(event.kv.key, event.kv.mod_revision)
            self._advance(max(batch.revision, self._revision))
        return {name for name, _ in fresh}

    def _checked(self, events: Iterable[Event]) -> list[tuple[str, Event]]:
        """The events of interest, each with its bucket, after proving that none before them was lost."""
        fresh: list[tuple[str, Event]] = []
        ahead: dict[bytes, KeyValue | None] = {}  # what this batch makes of a key
        for event in events:
            key = event.kv.key
            name = self._bucket(key)
            if name is None:
                continue
            known = ahead[key] if key in ahead else self._entries(name).get(key)
            if not _follows(event, known):
                raise Gap(f"An event before revision {event.kv.mod_revision} was lost: listing again")
            ahead[key] = event.kv if event.kind == "put" else None
            fresh.append((name, event))
        return fresh

    def _entries(self, name: str) -> Mapping[bytes, KeyValue]:
        bucket = self._buckets.get(name)
        return bucket.entries if bucket is not None else _NOTHING

    def _advance(self, revision: int) -> None:
        self._revision = revision
        self._changed.notify_all()


def _follows(event: Event, known: KeyValue | None) -> bool:
    """A key's version grows by one with each put, and only a key that exists can be deleted."""
    if event.kind == "delete":
        return known is not None
    return event.kv.version == (known.version + 1 if known is not None else 1)
