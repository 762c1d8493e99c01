"""One site's part of ``piehole kept drop``: no ref, no reflog and no pack of this repository has the object any more.

With the object goes what only it holds up: the kept tips whose history contains it, and what nothing else reaches. It never goes while a
ref contains it, nor what a push in flight may need (:mod:`piehole.transfer.removal`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError, PieholeError
from piehole.etcd.model import Range
from piehole.fastpath import inflight, processes
from piehole.files import locked
from piehole.group import drops
from piehole.group.drops import BLOCKED, DROPPED, WAITING, DropRequest, Outcome
from piehole.group.replica import Replica
from piehole.refs import HELD_REFS, KEPT_REFS, Command
from piehole.repository import reflogs
from piehole.repository.ref_moves import RefMover
from piehole.transfer import damaged_files, maintenance, removal
from piehole.transfer.keep_files import Hold, sweep
from piehole.transfer.removal import Removal

_PATIENCE: Final = 10.0  # seconds for etcd
_RECONCILES: Final = 2.0  # seconds until the reconciles that are under way have ended
_QUIET: Final = 20.0  # seconds for which a moment without any push is waited for
_OURS: Final = (KEPT_REFS, HELD_REFS)


class _NotNow(PieholeError):
    """Something that passes is in the way."""


class _InUse(PieholeError):
    """A ref contains the object."""


def drop(replica: Replica, oid: str) -> Outcome:
    """Do what can be done now. After :data:`WAITING`, call it again."""
    git_dir = replica.git_dir
    try:
        replica.repository.check_owner()
        # As maintenance has it: nobody else combines packs meanwhile.
        with locked(git_dir / "piehole" / "lock", 0o644, Deadline(0.0)) as alone:
            if not alone or maintenance.gc_runs(git_dir):
                return Outcome(WAITING, "packs are being combined")
            sweep(git_dir)
            return Outcome(DROPPED, _Drop(replica, oid).run())
    except _InUse as error:
        return Outcome(BLOCKED, str(error))
    except (PieholeError, OSError) as error:
        return Outcome(WAITING, str(error))


def work(replica: Replica, requests: Mapping[str, DropRequest], *, again: bool = False) -> set[str]:
    """Do what this site has not done yet of these requests, and say so; the results of what is left: :data:`WAITING`, :data:`BLOCKED`.

    :param again: look again at what was done already: a push from a clone may have brought it back
    :raises EtcdError: etcd could not be used
    """
    config = replica.config
    known = {oid: request.answer_of(config.site, config.site_id) for oid, request in requests.items()}
    done = {oid for oid, outcome in known.items() if outcome is not None and outcome.result == DROPPED}
    todo = requests.keys() - done | (is_there(replica, done) if again and done else set())
    todo |= set(
        removal.begun(replica.git_dir)
    )  # that of a forgotten request, or in a copy of another site's repository
    left = set()
    for oid in sorted(todo):
        outcome = drop(replica, oid)
        if oid in requests:
            drops.answer(replica, requests[oid], outcome, Deadline(_PATIENCE))
        left.add(outcome.result)
    return left - {DROPPED}


def is_there(replica: Replica, oids: Collection[str]) -> set[str]:
    """Those of these objects that this repository has, in whatever way."""
    return set(replica.repository.kinds(list(oids))) | set(removal.begun(replica.git_dir)) & set(oids)


def holders(replica: Replica, oid: str, refs: Mapping[str, str]) -> list[str]:
    """The refs whose history contains this object, which is here.

    :raises GitError: some history is not complete here
    """
    repository = replica.repository
    kind = repository.kinds([oid]).get(oid)
    if kind == "commit":
        found = git.lines(repository.git("for-each-ref", f"--contains={oid}", "--format=%(refname)"))
        return [ref for ref in found if ref in refs]
    if kind is None:
        return []
    # A walk through all histories: first through those of all refs that are no piehole's, then through each of the others.
    git_dir, asked = replica.git_dir, {oid}
    others = {value: ref for ref, value in refs.items() if not ref.startswith(_OURS)}
    if removal.walked(git_dir, others, asked):
        return [next(ref for value, ref in others.items() if removal.walked(git_dir, [value], asked))]
    kept = {value for ref, value in refs.items() if ref.startswith(_OURS)}
    with_it = {value for value in kept if removal.walked(git_dir, [value, *(f"^{other}" for other in others)], asked)}
    return [ref for ref, value in refs.items() if ref.startswith(_OURS) and value in with_it]


class _Drop:
    def __init__(self, replica: Replica, oid: str) -> None:
        self._replica = replica
        self._repository = replica.repository
        self._git_dir = replica.git_dir
        self._oid = oid
        self._removal = Removal(replica.git_dir, oid, replica.config.object_format)

    def run(self) -> str:
        """Drop the object; returns what there is to say: that it was not here, or what could not be looked at.

        :raises _NotNow: something that passes is in the way
        :raises _InUse: a ref contains it
        """
        was_here = self._removal.has_begun or self._begin()
        gone: Sequence[str] = ()
        needed: set[str] = set()
        if self._removal.has_begun:
            if not self._removal.is_set_aside:
                self._set_aside()
            self._wait_for_pushes()
            gone = self._removal.objects
            needed = self._removal.needed(self._repository.observe().refs.values())
            with Hold() as hold:
                if needed:
                    self._removal.put_back(needed, hold)
                self._removal.finish()
        unread = damaged_files.delete_those_with(self._git_dir, {self._oid, *gone}, self._replica.config.object_format)
        if self._oid in needed:
            raise _InUse("a ref contains it again")
        if self._oid in self._repository.kinds([self._oid]):
            self._refuse_alternates()
            raise _NotNow("somebody has written it again meanwhile")
        if unread:
            return f"{', '.join(unread)} cannot be read, and may have it: look, and remove it by hand"
        return "" if was_here else "it was not here"

    def _begin(self) -> bool:
        """Remove all that holds the object up, and write down what goes with it; whether there was anything."""
        refs = self._repository.observe().refs
        by_name = [ref for ref in refs if ref == f"{KEPT_REFS}{self._oid}"]  # its object may be missing
        here = self._oid in self._repository.kinds([self._oid])
        doomed = list(dict.fromkeys([*by_name, *(holders(self._replica, self._oid, refs) if here else ())]))
        foreign = [ref for ref in doomed if not ref.startswith(_OURS)]
        if foreign:
            raise _InUse(f"{foreign[0]} contains it{f', and {len(foreign) - 1} more refs' if foreign[1:] else ''}")
        self._refuse_copies_under_way(doomed)
        self._delete({ref: refs[ref] for ref in doomed})
        if not here:
            return bool(doomed)
        tips = {refs[ref] for ref in doomed}
        tips |= self._in_reflogs(tips)
        others = set(self._repository.observe().refs.values())
        objects = self._only_reached({*tips, self._oid}, others)
        if self._oid not in objects:
            raise _NotNow("a ref has come that contains it")
        self._removal.begin(objects, others)
        return True

    def _only_reached(self, tips: set[str], others: set[str]) -> set[str]:
        """What these tips reach, and neither another ref nor a reflog."""
        lines = "".join(f"{line}\n" for line in (*tips, *(f"^{other}" for other in others))).encode()
        walk = ["-c", "core.commitGraph=false", "rev-list", "--objects", "--stdin"]
        found = {line.partition(" ")[0] for line in git.lines(self._repository.git(*walk, stdin=lines))}
        found -= removal.walked(self._git_dir, others, found)
        kinds = self._repository.kinds(list(reflogs.remembered(self._repository)))
        try:
            return found - removal.walked(self._git_dir, [*kinds, *(f"^{other}" for other in others)], found)
        except GitError:  # a reflog names a history of which a part was pruned; git does without the rest, too
            return found

    def _in_reflogs(self, tips: set[str]) -> set[str]:
        """Have the reflogs forget what contains the object; returns those tips of it that only they had."""
        kinds = self._repository.kinds([*reflogs.remembered(self._repository), self._oid])
        named = {oid for oid, kind in kinds.items() if kind == "commit"}
        if kinds.get(self._oid) == "commit":
            lines = "".join(f"{oid}\n" for oid in (*named, *tips, f"^{self._oid}")).encode()
            walk = ["-c", "core.commitGraph=false", "rev-list", "--ancestry-path", "--stdin"]
            above = set(git.lines(self._repository.git(*walk, stdin=lines))) | {self._oid}
        else:
            others = [f"^{other}" for other in self._repository.observe().refs.values()]
            with_it = {oid for oid in named if removal.walked(self._git_dir, [oid, *others], {self._oid})}
            above = with_it | {self._oid, *tips}
        reflogs.forget(self._repository, above)
        return above & named

    def _refuse_copies_under_way(self, doomed: Sequence[str]) -> None:
        k, config = self._replica.keyspace, self._replica.config
        pushes = {ref.removeprefix(HELD_REFS).partition("/")[0] for ref in doomed if ref.startswith(HELD_REFS)}
        for push in pushes:
            key = k.copies(config.group, push)
            if self._replica.etcd.txn([], [Range(key)], deadline=Deadline(_PATIENCE)).ranges[0].kvs:
                raise _NotNow("a push that contains it is under way")

    def _delete(self, refs: Mapping[str, str]) -> None:
        moves = [Command(ref, oid, self._repository.zero) for ref, oid in refs.items()]
        unmoved = RefMover(self._repository, "piehole: dropped", lambda some: {move.ref for move in some}).move(moves)
        if unmoved.failed:
            raise _NotNow("; ".join(unmoved.failed.values()))

    def _set_aside(self) -> None:
        if self._unknown_pushes() and time.time() - self._removal.begun_at < _QUIET:
            raise _NotNow("pushes are under way")
        with Hold() as hold:
            packs = self._removal.rewrite_packs(hold)
            with removal.alone(self._git_dir, Deadline(_RECONCILES)) as alone:
                if not alone:
                    raise _NotNow("a reconcile is under way")
                pushed = {new for one in self._records() for new in one.coming.values() if new.strip("0")}
                if self._removal.needed({*self._repository.observe().refs.values(), *pushed}):
                    self._removal.finish()  # nothing was set aside yet
                    raise _NotNow("a push that needs a part of it is under way, or was accepted meanwhile")
                pushes = {one.name for one in self._records()} | self._receive_packs()
                if not self._removal.set_aside(packs, pushes):
                    raise _NotNow("a pack with it has come meanwhile")

    def _records(self) -> list[inflight.Record]:
        """The records of pushes that may be under way."""
        return [one for one in inflight.records(str(self._git_dir)) if one.lives is not False]

    def _receive_packs(self) -> set[str]:
        return set(processes.receive_packs(str(self._git_dir.resolve())))

    def _unknown_pushes(self) -> set[str]:
        """The pushes of which nobody knows yet what they bring: where git has found here already what they need, it is about to be missing."""
        known = {one.process for one in self._records() if one.coming}
        return ({one.process for one in self._records()} | self._receive_packs()) - known

    def _wait_for_pushes(self) -> None:
        ended = {one.name for one in inflight.records(str(self._git_dir)) if one.ended}
        left = [name for name in self._removal.pushes if name not in ended and processes.lives(name) is not False]
        if left:
            raise _NotNow("a push that had begun before is still under way")

    def _refuse_alternates(self) -> None:
        alternates = self._git_dir / "objects" / "info" / "alternates"
        if alternates.exists():
            named = ", ".join(alternates.read_text().split())
            raise _InUse(f"it may be in {named}, from which this repository borrows objects: remove it there")
