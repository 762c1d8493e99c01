"""Local refs moved together: each from its explicit old value, under git's locks, and only while they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from piehole.errors import GitError, GitSilent
from piehole.fastpath import inflight, processes
from piehole.fastpath.failpoints import Step, reached
from piehole.long_work import doing
from piehole.refs import Command, parents
from piehole.repository.ref_transaction import RefTransaction
from piehole.repository.repository import Repository

_ONE_TRANSACTION = 10_000  # refs
# So many new refs are packed at once where that is possible; fewer get a file each.
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class Unmoved:
    """The refs that stayed: ``failed`` with git's words, ``unwanted`` since the group no longer wanted the move under git's locks."""

    failed: Mapping[str, str] = field(default_factory=dict)
    unwanted: frozenset[str] = frozenset()

    def __or__(self, other: Unmoved) -> Unmoved:
        return Unmoved({**self.failed, **other.failed}, self.unwanted | other.unwanted)


# Called with the moves of one transaction while git holds the locks of their refs, and each ref has its old value; returns those of
# these refs that may still move. What it raises ends everything, and moves nothing of that transaction.
MoveFilter = Callable[[Sequence[Command]], Collection[str]]


class RefMover:
    """Moves refs of one repository, each from its explicit old value, and tells which could not be moved.

    Deletions go in an earlier transaction than creations, so that ``a`` can make room for ``a/b``. Where a transaction
    fails, its halves are tried: one ref that is locked must not hold up the others.
    """

    def __init__(
        self, repository: Repository, message: str, still_wanted: MoveFilter, begun: RefTransaction | None = None
    ) -> None:
        """
        :param message: for the reflogs
        :param still_wanted: called once for each transaction; where it does not return all refs, those that it returned are tried again
        :param begun: the first transaction, with the same message: git was started while something else was waited for
        """
        self._repository = repository
        self._git_dir = repository.git_dir
        self._message = message
        self._still_wanted = still_wanted
        self._begun = begun

    def move(self, moves: Sequence[Command]) -> Unmoved:
        """Move these refs, and return those that stayed.

        :raises GitSilent: git hangs; earlier transactions have moved their refs
        """
        # git does not show a symbolic ref to nowhere, and --no-deref would overwrite it.
        targets = {move.ref: self._repository.symref_target(move.ref) for move in moves if move.creates}
        unmoved = Unmoved(
            {ref: f"it is a symbolic ref here (to {to})" for ref, to in targets.items() if to is not None}
        )
        sound = [move for move in moves if move.ref not in unmoved.failed]
        moved = 0
        for group in ([m for m in sound if m.deletes], [m for m in sound if not m.deletes]):
            # A ref that was to make room and stays leaves none: git would refuse the new ref.
            obstructed = _obstructed(group, unmoved.unwanted)
            unmoved |= Unmoved(unwanted=obstructed)
            doing("moving refs", moved, len(sound), "refs")
            left = self._create_packed([move for move in group if move.ref not in obstructed])
            moved += len(group) - len(left)
            for start in range(0, len(left), _ONE_TRANSACTION):
                doing("moving refs", moved + start, len(sound), "refs")
                unmoved |= self._move_together(left[start : start + _ONE_TRANSACTION])
            moved += len(left)
        return unmoved

    def _move_together(self, moves: Sequence[Command]) -> Unmoved:
        unwanted: frozenset[str] = frozenset()
        try:
            # An aborted transaction has released its locks: the group is asked again under the next ones.
            while moves and (declined := self._move_wanted(moves)):
                unwanted |= declined
                moves = [move for move in moves if move.ref not in declined]
        except GitSilent:
            raise
        except GitError as error:
            if len(moves) == 1:
                return Unmoved({moves[0].ref: error.stderr or str(error)}, unwanted)
            middle = len(moves) // 2
            halves = (moves[:middle], moves[middle:])
            first, second = (self._move_together(half) for half in halves)
            return Unmoved(unwanted=unwanted) | first | second
        return Unmoved(unwanted=unwanted)

    def _move_wanted(self, moves: Sequence[Command]) -> frozenset[str]:
        """Make all of these moves in one transaction, or none; return the refs that are no longer wanted."""
        transaction = self._begun or RefTransaction(self._git_dir, self._message, len(moves))
        self._begun = None
        with self._noting(transaction, moves) as note_locks, transaction:
            transaction.prepare([_line(move, self._repository.zero) for move in moves])
            note_locks()
            declined = frozenset(move.ref for move in moves).difference(self._still_wanted(moves))
            if not declined:
                transaction.commit()
                _moved()
        return declined

    @contextmanager
    def _noting(self, transaction: RefTransaction, moves: Sequence[Command]) -> Iterator[Callable[[], None]]:
        """Note these moves, and give what notes their locks once git holds them. The record stays until git has released them: where git
        is killed, :mod:`piehole.repository.stale_locks` knows them by it.
        """
        record = self._record_of(transaction, moves)

        def note_locks() -> None:
            if record is not None:
                record.note_locks([move.ref for move in moves], deletes=any(move.deletes for move in moves))

        try:
            yield note_locks
        finally:
            if record is not None and not transaction.was_killed:
                Path(record.path).unlink(missing_ok=True)

    def _record_of(self, transaction: RefTransaction, moves: Sequence[Command]) -> inflight.Record | None:
        try:
            name = processes.identity(transaction.pid)
            lines = ((move.ref, move.old, move.new) for move in moves)
            return inflight.note_moves(str(self._git_dir), name, lines) if name else None
        except OSError:
            return None  # a full disk, say: then an administrator has to remove the locks of a git that is killed

    def _create_packed(self, moves: Sequence[Command]) -> Sequence[Command]:
        """Create all of these refs at once, where they are many and that is possible; return the moves that remain to be made."""
        if len(moves) < _MANY or not all(move.creates for move in moves):
            return moves
        from piehole.repository import packed_refs  # what it imports costs a hook 8 ms

        if not packed_refs.possible(self._git_dir):
            return moves
        try:
            declined = self._pack_wanted(moves)
        except GitSilent:
            raise
        except GitError:  # one ref that is locked, for one, must not hold up the others
            return moves
        if not declined:
            return ()
        # The transaction was aborted, so the group is asked again about the others, too.
        left = self._create_packed([move for move in moves if move.ref not in declined])
        return [*left, *(move for move in moves if move.ref in declined)]

    def _pack_wanted(self, moves: Sequence[Command]) -> frozenset[str]:
        """Create all of these refs by one file of packed refs, or none; return those that are no longer wanted."""
        from piehole.repository import packed_refs

        with packed_refs.PackedRefs(
            self._git_dir, self._repository.object_format, {move.ref: move.new for move in moves}
        ) as refs:
            # Git only holds the locks: its transaction is always aborted.
            locks = RefTransaction(self._git_dir, "", len(moves))
            unused = Command(packed_refs.UNUSED, self._repository.zero, self._repository.zero)
            with self._noting(locks, [*moves, unused]) as note_locks, locks:
                locks.prepare(refs.locks)
                note_locks()
                refs.check()
                declined = frozenset(move.ref for move in moves).difference(self._still_wanted(moves))
                if not declined:
                    refs.publish()
                    _moved()
        return declined


def _moved() -> None:
    reached(Step.REFS_MOVED)


def _obstructed(moves: Sequence[Command], staying: frozenset[str]) -> frozenset[str]:
    """Creations that cannot be made beside these names (directory/file)."""
    if not staying:
        return frozenset()
    above = {parent for name in staying for parent in parents(name)}
    beside = (move.ref for move in moves if move.creates)
    return frozenset(ref for ref in beside if ref in above or not staying.isdisjoint(parents(ref)))


def _line(move: Command, zero_oid: str) -> str:
    if move.deletes:
        return f"delete {move.ref}\0{move.old}\0"
    # An old value of zero means "must not exist"; an empty one would mean "whatever it is".
    return f"update {move.ref}\0{move.new}\0{zero_oid if move.creates else move.old}\0"
