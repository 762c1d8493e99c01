"""The last question before refs move, asked while git holds their locks: does the group still want exactly this?

Between the plan and the move lies a fetch. Meanwhile pushes here may have moved a ref there and back, and the consensus with it: git's
check of the old value passes, and the planned value would bring back what the group has left behind. Under the locks no push here can
get past its swap (git asks its hook only once it has the lock), so what the group wants by then is older than nothing that is here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import WENT_BACK, Halted
from piehole.fastpath import inflight
from piehole.group import rollback_guard
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.refs import Command, decode, encode, is_zero
from piehole.replicate.plan import Desired, Plan, desired_state

# Up to so many refs are read one by one.
FEW: Final = 50
# Seconds for the read, and for each thousand refs more: pushes to these refs fail meanwhile, since they do not get the locks.
_SECONDS: Final = 2.0
_LONGEST: Final = 10.0


def check(state: GroupState, seen: int, config: Config) -> None:
    """Whether this comes from the etcd and the group that the view is of.

    :param seen: a revision that this etcd has reached
    :raises Halted: it does not
    """
    if state.revision < seen:
        raise Halted(WENT_BACK, f"etcd is at revision {state.revision}, and was at {seen} a moment ago: nothing moves.")
    halted = rollback_guard.check_group(config, state.group.value if state.group else None)
    if halted is not None:
        raise halted


class Confirmation:
    """Confirms moves of one plan (:data:`piehole.repository.repository.Confirm`).

    A move may go while the value that it was planned with is unchanged; one that only makes room, while something that it makes room for
    may go, too. A ref that is pushed to all the time would never be caught that way: it may also go to a value that was followed by a
    third one, as long as no push is on record here that could have brought the ref there and back.
    """

    def __init__(self, replica: Replica, planned: Plan, moves: Sequence[Command], desired: Desired, seen: int) -> None:
        """
        :param moves: those of the plan that are going to be made
        :param desired: what the plan was made from
        :param seen: a revision at which all of ``desired`` was so, or an earlier one that etcd had reached
        """
        self._replica = replica
        self._desired = desired
        self._seen = seen
        self._before = {move.ref: move.old for move in moves if not (move.creates or move.deletes)}
        self._for: dict[str, set[str]] = {}
        going = {move.ref for move in moves}
        for ref in going & planned.room.keys():
            for blocker in planned.room[ref]:
                self._for.setdefault(blocker, set()).add(ref)

    def __call__(self, moves: Sequence[Command]) -> set[str]:
        """
        :raises Halted: etcd is not the one, or no longer as new as the one, that the plan is of
        :raises EtcdError: etcd gave no answer soon
        """
        refs = {move.ref for move in moves}
        asked = refs.union(*(self._for.get(ref, ()) for ref in refs))
        now = self._few(asked) if len(asked) <= FEW else self._many(asked)
        same = {ref for ref in asked if _opinion(now, ref) == _opinion(self._desired, ref)}
        going = {ref for ref in refs & same if ref not in self._for or self._for[ref] & same}
        return going | self._passed_by(refs - same, now)

    def _passed_by(self, refs: Collection[str], now: Desired) -> set[str]:
        """Those that the group has moved on from to a third value, and that no push here can have moved since they were looked at."""
        passed = {
            ref
            for ref in refs
            if ref in now.refs
            and not is_zero(now.refs[ref].oid)
            and now.refs[ref].oid != self._before.get(ref, now.refs[ref].oid)
        }
        if not passed:
            return passed
        # A push's record stays until a reconcile clears it away, and this is the one that runs.
        git_dir = str(self._replica.git_dir)
        return passed - {ref for record in inflight.records(git_dir) for ref in record.announced}

    def _few(self, refs: Collection[str]) -> Desired:
        # A move is never to "nothing" and back, so these commands only say which keys to read.
        return self._read([Command(ref, "?", "?") for ref in refs], Deadline(_SECONDS))

    def _many(self, refs: Collection[str]) -> Desired:
        """Listing a large group takes longer than its locks may be held: only what has changed is asked for.

        A key that was removed meanwhile is not noticed. Then the ref moves to what the group had last, as if it had moved before: nobody
        has gone on from there, else there would be a key again, and a newer one.
        """
        deadline = Deadline(min(_SECONDS + len(refs) / 1000, _LONGEST))
        names = sorted(encode(ref) for ref in refs)
        first, last = (self._replica.keyspace.ref(self._replica.config.group, decode(names[n])) for n in (0, -1))
        changed = self._replica.etcd.range(first, last + b"\0", min_mod_revision=self._seen + 1, deadline=deadline)
        self._read([], deadline)  # whether it is the group still
        config = self._replica.config
        split = ((self._replica.keyspace.split_ref(kv.key), kv) for kv in changed.kvs)
        entries = {place[1]: kv for place, kv in split if place is not None and place[0] == config.group}
        fresh = desired_state(entries, config.object_format, config.exclude)
        old = self._desired
        return Desired(
            {ref: value for ref, value in old.refs.items() if ref not in entries} | dict(fresh.refs),
            {ref: value for ref, value in old.locked.items() if ref not in entries} | dict(fresh.locked),
        )

    def _read(self, commands: Sequence[Command], deadline: Deadline) -> Desired:
        config = self._replica.config
        state = self._replica.reader.read(commands, deadline)
        check(state, self._seen, config)
        return desired_state(state.entries, config.object_format, config.exclude)


def _opinion(desired: Desired, ref: str) -> tuple[str, int] | str | None:
    """What the group says of a ref. A key that was made anew is another one: which of two conflicting keys goes depends on that."""
    value = desired.refs.get(ref)
    return desired.locked.get(ref) if value is None else (value.oid, value.create_revision)
