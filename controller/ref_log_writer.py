"""What this controller sees the group's refs do, on its way to the local log (``piehole log`` reads it, :mod:`piehole.group.ref_log`).

What the informer has heard is noted, change by change. Where that was too much, one view of the group is compared with the next: values
that came and went between the two are not seen; etcd's own history has them, as far back as it goes. Where the pusher is no longer
known, nothing is written: the log guesses nothing.
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
    """Seen by the worker of the repository (cheap), written by the upkeep.

    :param none: the zero oid, for "there was no such ref"
    :param lookup: the push at a revision; None where the change was made by hand; an EtcdError where that is not known
    """

    def __init__(
        self,
        git_dir: Path,
        none: str,
        lookup: Callable[[int], PushRecord | None],
        past: Callable[[int], Past] = lambda _: None,
    ) -> None:
        self._git_dir = git_dir
        self._none = none
        self._lookup = lookup
        self._past = past
        self._lock = threading.Lock()
        self._last: GroupState | None = None
        self._since: int | None = None
        self._pending: list[tuple[LogEntry, bool]] = []

    def see(self, state: GroupState) -> bool:
        """Take note of the group's keys now; whether there is something to write.

        :raises OSError: the log of before cannot be read
        """
        if self._since is None:
            self._since = max((entry.revision for entry in ref_log.read(self._git_dir)), default=state.revision)
        if self._last is not None and state.revision < self._last.revision:
            self._last, self._since = (
                None,
                state.revision,
            )  # etcd was put back in time: what was seen before says nothing
        # (Asked after the state was made, so it names all that the state has.)
        past = self._past(self._since)
        if past is not None:
            found = list(told([one for one in past if one[1].revision <= state.revision], self._none))
        else:
            found = list(changes(self._last.entries if self._last is not None else {}, state, self._since, self._none))
        with self._lock:
            self._pending += found
            pending = bool(self._pending)
        self._last, self._since = state, max(self._since, state.revision)
        return pending

    def write(self) -> int:
        """Append what was seen to the log; returns how many lines.

        :raises OSError: the disk is full or cannot be written
        """
        with self._lock:
            pending, self._pending = self._pending, []
        asked: dict[int, PushRecord | None] = {}
        entries: list[LogEntry] = []
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
                entries.append(_signed(entry, asked[revision]))
        try:
            ref_log.append(self._git_dir, entries)
        except OSError:
            # Nobody sees these again. What was written before the disk was full comes twice, and is read as one.
            with self._lock:
                self._pending = [*((entry, True) for entry in entries), *self._pending]
            raise
        return len(entries)


def told(past: Sequence[tuple[str, KeyChange]], none: str) -> Iterator[tuple[LogEntry, bool]]:
    """What these changes were; whether it is known who made them."""
    pushes = {change.revision: change.after for name, change in past if name == keys.PUSH}
    for name, change in past:
        if name in (keys.PUSH, keys.FENCE) or change.after is None:
            continue
        old = none if change.before is None else _text(change.before)
        entry = LogEntry(change.revision, name, old, _text(change.after), "", "", "")
        yield _by(pushes.get(change.revision), entry)


def changes(before: Mapping[str, KeyValue], now: GroupState, since: int, none: str) -> Iterator[tuple[LogEntry, bool]]:
    """What has changed after revision ``since``, in the order of revisions; whether it is known who did it."""
    push = now.entries.get(keys.PUSH)
    fresh = sorted(
        ((kv.mod_revision, name, kv) for name, kv in now.entries.items() if kv.mod_revision > since),
        key=lambda one: one[:2],
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
    """The entry with who pushed it, and whether that is known."""
    return (entry, False) if push is None else (_signed(entry, PushRecord.of(push)), True)


def _signed(entry: LogEntry, push: PushRecord | None) -> LogEntry:
    return entry if push is None else replace(entry, site=push.site, pusher=push.pusher, time=push.time)


def _text(kv: KeyValue) -> str:
    return ref_log.value_text(kv.value)
