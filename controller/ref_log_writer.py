"""Writes the changes of the group's refs to the local log (:mod:`piehole.group.ref_log`), which ``piehole log`` reads.

The changes come from the informer's cache. Where the cache no longer remembers them all, one view of the group is compared with the
next: values between the two are missed, and etcd's own history has them, as far back as it goes. Where the pusher is no longer known,
nothing is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from controller.cache import KeyChange
from piehole.errors import PieholeError
from piehole.etcd.model import KeyValue
from piehole.group import keys, ref_log
from piehole.group.group_state import GroupState
from piehole.group.records import PushRecord
from piehole.group.ref_log import LogEntry

# All changes after a revision, each with its name, the oldest first; None where they are not known.
Past = Sequence[tuple[str, KeyChange]] | None
_LOOKED_UP: Final = 100  # revisions whose push record is asked of etcd, in one writing


class RefLogWriter:
    """Changes are noted by the worker that reconciles (cheap), and written by another one.

    :param none: the zero oid, for "there was no such ref"
    :param lookup: the push at a revision; None where a change by hand was made; raises an EtcdError where neither is known
    :param past: the changes after a revision
    :param known: called with the changes of which it has become known who has made them
    """

    def __init__(
        self,
        git_dir: Path,
        none: str,
        lookup: Callable[[int], PushRecord | None],
        past: Callable[[int], Past],
        known: Callable[[Sequence[LogEntry]], None] = lambda _: None,
    ) -> None:
        self._git_dir = git_dir
        self._none = none
        self._lookup = lookup
        self._past = past
        self._known = known
        self._lock = threading.Lock()
        self._last: GroupState | None = None
        self._first: int | None = None  # the revision from which on this process notes
        self._since: int | None = None
        self._pending: list[tuple[LogEntry, bool]] = []

    def note(self, state: GroupState) -> None:
        """Note what has changed up to this state of the group.

        :raises OSError: the existing log cannot be read
        """
        if self._since is None:
            self._since = max((entry.revision for entry in ref_log.read(self._git_dir)), default=state.revision)
            self._first = self._since
        if self._last is not None and state.revision < self._last.revision:
            # etcd was restored from a backup: earlier states say nothing.
            self._last, self._since = None, state.revision
        # Read after the state was made, so it has all changes up to that state.
        past = self._past(self._since)
        if past is not None:
            found = list(_changes([named for named in past if named[1].revision <= state.revision], self._none))
        else:
            found = list(
                _differences(self._last.entries if self._last is not None else {}, state, self._since, self._none)
            )
        with self._lock:
            self._pending += found
        self._last, self._since = state, max(self._since, state.revision)
        self._known([entry for entry, certain in found if certain])

    def recent(self, size: int) -> tuple[list[LogEntry], bool]:
        """The entries in about the last ``size`` bytes of the log and those that will follow, and whether there are no older ones.

        :raises OSError: the log cannot be read
        """
        written, complete = ref_log.recent(self._git_dir, size)
        after = max((entry.revision for entry in written), default=self._first)
        past = self._past(after) if after is not None else None
        return [*written, *(entry for entry, _ in _changes(past or (), self._none))], complete

    def write(self) -> None:
        """Append what was noted to the log.

        :raises OSError: the disk is full or cannot be written
        """
        with self._lock:
            pending, self._pending = self._pending, []
        asked: dict[int, PushRecord | None] = {}
        entries: list[LogEntry] = []
        found: list[LogEntry] = []
        for entry, certain in pending:
            revision = entry.revision
            if certain:
                entries.append(entry)
                continue
            if revision not in asked and len(asked) < _LOOKED_UP:
                try:
                    asked[revision] = self._lookup(revision)
                except PieholeError:
                    continue
            if revision in asked:
                found.append(_signed(entry, asked[revision]))
                entries.append(found[-1])
        try:
            ref_log.append(self._git_dir, entries)
        except OSError:
            # They are not noted again. Lines that were written before the disk was full come twice, and count as one when read.
            with self._lock:
                self._pending = [*((entry, True) for entry in entries), *self._pending]
            raise
        self._known(found)


def _changes(past: Sequence[tuple[str, KeyChange]], none: str) -> Iterator[tuple[LogEntry, bool]]:
    """The entry of each change, and whether its pusher is known."""
    pushes = {change.revision: change.after for name, change in past if name == keys.PUSH}
    for name, change in past:
        if name in (keys.PUSH, keys.FENCE) or change.after is None:
            continue
        old = none if change.before is None else _text(change.before)
        entry = LogEntry(change.revision, name, old, _text(change.after), "", "", "")
        yield _by(pushes.get(change.revision), entry)


def _differences(
    before: Mapping[str, KeyValue], now: GroupState, since: int, none: str
) -> Iterator[tuple[LogEntry, bool]]:
    """The entry of each key that has changed after revision ``since``, by revision, and whether its pusher is known."""
    push = now.entries.get(keys.PUSH)
    fresh = sorted(
        ((kv.mod_revision, name, kv) for name, kv in now.entries.items() if kv.mod_revision > since),
        key=lambda change: change[:2],
    )
    for revision, name, kv in fresh:
        if name in (keys.PUSH, keys.FENCE):
            continue
        held = before.get(name)
        known = held is not None and held.create_revision == kv.create_revision and held.version + 1 == kv.version
        old = _text(held) if held is not None and known else none if kv.version == 1 else ""
        entry = LogEntry(revision, name, old, _text(kv), "", "", "")
        yield _by(push if push is not None and push.mod_revision == revision else None, entry)


def _by(push: KeyValue | None, entry: LogEntry) -> tuple[LogEntry, bool]:
    """The entry with its pusher, and whether that is known."""
    return (entry, False) if push is None else (_signed(entry, PushRecord.of(push)), True)


def _signed(entry: LogEntry, push: PushRecord | None) -> LogEntry:
    if push is None:
        return entry
    kind = str(push.extra.get("kind", ""))
    return replace(entry, site=push.site, pusher=push.pusher, time=push.time, kind=kind, push=push.id)


def _text(kv: KeyValue) -> str:
    return ref_log.value_text(kv.value)
