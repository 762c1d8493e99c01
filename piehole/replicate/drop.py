"""One site's part of ``piehole kept drop``: no ref, no reflog and no pack of this repository has the object any more.

With the object goes what only it holds up: the kept tips whose history contains it, and what nothing else reaches. It never goes while a
ref contains it, nor what a push in flight may need (:mod:`piehole.transfer.removal`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import PieholeError
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
    left = set()
    for oid in sorted(todo):
        outcome = drop(replica, oid)
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
    others = {value for ref, value in refs.items() if not ref.startswith(_OURS)}
    if oid in _reached(replica, others, ()):
        return [
            ref for ref, value in refs.items() if not ref.startswith(_OURS) and oid in _reached(replica, [value], ())
        ][:1]
    kept = {value: ref for ref, value in refs.items() if ref.startswith(_OURS)}
    with_it = {value for value in kept if oid in _reached(replica, [value], others)}
    return [ref for ref, value in refs.items() if ref.startswith(_OURS) and value in with_it]


def _reached(replica: Replica, tips: Iterable[str], without: Iterable[str], *options: str) -> set[str]:
    lines = [*dict.fromkeys(tips), *(f"^{tip}" for tip in dict.fromkeys(without))]
    asked = "".join(f"{line}\n" for line in lines).encode()
    walk = ["-c", "core.commitGraph=false", "rev-list", "--objects", "--stdin", *options]
    return (
        {line.partition(" ")[0] for line in git.lines(replica.repository.git(*walk, stdin=asked))} if lines else set()
    )


class _Drop:
    def __init__(self, replica: Replica, oid: str) -> None:
        self._replica = replica
        self._repository = replica.repository
        self._git_dir = replica.git_dir
        self._oid = oid
        self._removal = Removal(replica.git_dir, oid, replica.config.object_format)

    def run(self) -> str:
        """Drop the object; what could not be looked at, ``""`` where there is no such thing.

        :raises _NotNow: something that passes is in the way
        :raises _InUse: a ref contains it
        """
        if not self._removal.has_begun:
            self._begin()
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
        return f"{', '.join(unread)} cannot be read, and may have it: look, and remove it by hand" if unread else ""

    def _begin(self) -> None:
        """Remove all that holds the object up, and write down what goes with it."""
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
            return
        tips = {refs[ref] for ref in doomed}
        tips |= self._in_reflogs(tips)
        others = set(self._repository.observe().refs.values())
        objects = _reached(self._replica, {*tips, self._oid}, others, "--not", "--reflog")
        if self._oid in objects:
            self._removal.begin(objects, others)
        else:
            raise _NotNow("a ref has come that contains it")

    def _in_reflogs(self, tips: set[str]) -> set[str]:
        """Have the reflogs forget what contains the object; returns those tips of it that only they had."""
        kinds = self._repository.kinds([*reflogs.remembered(self._repository), self._oid])
        named = {oid for oid, kind in kinds.items() if kind == "commit"}
        if kinds.get(self._oid) == "commit":
            lines = "".join(f"{oid}\n" for oid in (*named, *tips, f"^{self._oid}")).encode()
            walk = ["-c", "core.commitGraph=false", "rev-list", "--ancestry-path", "--stdin"]
            above = set(git.lines(self._repository.git(*walk, stdin=lines))) | {self._oid}
        else:
            others = set(self._repository.observe().refs.values())
            above = {oid for oid in named if self._oid in _reached(self._replica, [oid], others)} | {self._oid, *tips}
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
        if self._pushes() and time.time() - self._removal.begun_at < _QUIET:
            raise _NotNow("pushes are under way")
        with Hold() as hold:
            packs = self._removal.rewrite_packs(hold)
            with removal.alone(self._git_dir, Deadline(_RECONCILES)) as alone:
                if not alone:
                    raise _NotNow("a reconcile is under way")
                if self._removal.needed(self._repository.observe().refs.values()):
                    self._removal.finish()  # nothing was set aside yet
                    raise _NotNow("refs have moved meanwhile")
                if not self._removal.set_aside(packs, self._pushes()):
                    raise _NotNow("a pack with it has come meanwhile")

    def _pushes(self) -> set[str]:
        """The pushes to this repository that may be under way."""
        records = [one.name for one in inflight.records(str(self._git_dir)) if one.lives is not False]
        return {*processes.receive_packs(str(Path(self._git_dir).resolve())), *records}

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
