"""The desired state is read again twice, for the refs of one plan: before their objects are fetched, and while git holds their locks.

The first read says what to prepare, the second what may be done. Between the plan and the move lies a fetch. Meanwhile pushes here may
have moved a ref there and back, and the consensus with it: git's check of the old value passes, and the planned value would bring back
what the group has left behind. Under the locks no push here can get past its swap (git asks its hook only once it has the lock), so what
the group wants by then is older than nothing that is here.
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
from piehole.refs import HEAD, Command, decode, encode, is_zero
from piehole.replicate.plan import DesiredState, Plan, desired_state
from piehole.replicate.pushes_here import PushesHere

_FEW: Final = 50  # Up to so many refs are read one by one.
_PATIENCE: Final = 10.0  # seconds for the read before the fetch
# Seconds for the read under the locks, and for each thousand refs more: pushes to these refs fail meanwhile, since they do not get the locks.
_SECONDS: Final = 2.0
_LONGEST: Final = 10.0


def refreshed(replica: Replica, desired: DesiredState, refs: Collection[str], seen: int) -> DesiredState:
    """The desired state with the values of these refs and HEAD read again, now that the local refs have been read.

    The view may be older than the local refs: a push that went through here just now would look like a change made by hand. Nothing
    would come of it, since the group is read again under the locks; but its tip would be kept, objects be fetched for nothing, and a
    ref be called stuck that is not.

    :param seen: the view's revision
    :raises Halted: this is another etcd than the view's, or etcd went back
    """
    deadline = Deadline(_PATIENCE)
    if len(refs) > _FEW:
        return _desired(replica.reader.list_group(deadline), seen, replica.config)
    names = {*refs, HEAD}
    return desired.with_values(names, _read(replica, names, seen, deadline))


class StillWanted:
    """Which moves of one plan the group still wants (:data:`piehole.repository.ref_moves.MoveFilter`).

    A move may go while the value that it was planned with is unchanged; one that only makes room, while something that it makes room for
    may go, too. A ref that is pushed to all the time would never be caught that way: it may also go to a value that was followed by a
    third one, as long as no push is on record here that could have brought the ref there and back.
    """

    def __init__(
        self,
        replica: Replica,
        planned: Plan,
        moves: Sequence[Command],
        desired: DesiredState,
        seen: int,
        pushes: PushesHere,
    ) -> None:
        """
        :param moves: those of the plan that are going to be made
        :param desired: what the plan was made from
        :param seen: a revision at which all of ``desired`` was so, or an earlier one that etcd had reached
        """
        self._replica = replica
        self._desired = desired
        self._seen = seen
        self._pushes = pushes
        self._before = {move.ref: move.old for move in moves if not (move.creates or move.deletes)}
        self._for: dict[str, set[str]] = {}
        going = {move.ref for move in moves}
        for ref in going & planned.room.keys():
            for blocker in planned.room[ref]:
                self._for.setdefault(blocker, set()).add(ref)

    def __call__(self, moves: Sequence[Command]) -> set[str]:
        """
        :raises Halted: this is another etcd than the plan's, or etcd went back
        :raises EtcdError: etcd gave no answer soon
        """
        refs = {move.ref for move in moves}
        asked = refs.union(*(self._for.get(ref, ()) for ref in refs))
        few = len(asked) <= _FEW
        now = _read(self._replica, asked, self._seen, Deadline(_SECONDS)) if few else self._read_changed(asked)
        same = {ref for ref in asked if _opinion(now, ref) == _opinion(self._desired, ref)}
        going = {ref for ref in refs & same if ref not in self._for or self._for[ref] & same}
        going |= self._passed_by(refs - same, now)
        # A push that has come since the plan finds the ref at its old value once these locks are gone.
        return going - self._pushes.leave([move for move in moves if move.ref in going])

    def _passed_by(self, refs: Collection[str], now: DesiredState) -> set[str]:
        """Those that the group has moved on from to a third value, and that no push here can have moved since they were read."""
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

    def _read_changed(self, refs: Collection[str]) -> DesiredState:
        """Listing a large group takes longer than its locks may be held: only what has changed is asked for.

        A key that was removed meanwhile is not noticed. Then the ref moves to what the group had last, as if it had moved before: nobody
        has gone on from there, else there would be a key again, and a newer one.
        """
        deadline = Deadline(min(_SECONDS + len(refs) / 1000, _LONGEST))
        config, keyspace = self._replica.config, self._replica.keyspace
        names = sorted(encode(ref) for ref in refs)
        first, last = (keyspace.ref(config.group, decode(names[n])) for n in (0, -1))
        changed = self._replica.etcd.range(first, last + b"\0", min_mod_revision=self._seen + 1, deadline=deadline)
        _read(self._replica, (), self._seen, deadline)  # whether it is the group still
        split = ((keyspace.split_ref(kv.key), kv) for kv in changed.kvs)
        entries = {place[1]: kv for place, kv in split if place is not None and place[0] == config.group}
        return self._desired.with_values(entries, desired_state(entries, config.object_format, config.exclude))


def _read(replica: Replica, refs: Collection[str], seen: int, deadline: Deadline) -> DesiredState:
    # A move is never to "nothing" and back, so these commands only say which keys to read.
    commands = [Command(ref, "?", "?") for ref in refs]
    return _desired(replica.reader.read(commands, deadline), seen, replica.config)


def _desired(state: GroupState, seen: int, config: Config) -> DesiredState:
    """
    :param seen: a revision that this etcd has reached
    :raises Halted: the state is of another etcd, or of another group
    """
    if state.revision < seen:
        raise Halted(WENT_BACK, f"etcd is at revision {state.revision}, and was at {seen} a moment ago: nothing moves.")
    halted = rollback_guard.check_group(config, state.group.value if state.group else None)
    if halted is not None:
        raise halted
    return desired_state(state.entries, config.object_format, config.exclude)


def _opinion(desired: DesiredState, ref: str) -> tuple[str, int] | str | None:
    """What the group says of a ref. A key that was made again is another one: which of two conflicting keys goes depends on that."""
    value = desired.refs.get(ref)
    return desired.locked.get(ref) if value is None else (value.oid, value.create_revision)
