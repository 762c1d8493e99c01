"""What ``piehole install`` does with refs that exist already: those of the founder become the group's, those of a joiner are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from piehole import git
from piehole.commands import copied_write
from piehole.deadline import Deadline
from piehole.errors import PieholeError, UsageError
from piehole.etcd.model import Compare, Put
from piehole.group import bulk_write, keys, ref_names
from piehole.group.bulk_write import KeyWrite
from piehole.group.group_state import GroupState, live
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.push.copies import TooFewCopies
from piehole.refs import HEAD, is_zero, value_of
from piehole.transfer import connectivity

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_ROUNDS: Final = 5  # of adopting while others push
_NOT_ADOPTED: Final = (
    "Refs that the group lacks stay here and are not part of it; refs that have another value in the group will be moved to that value, "
    "and their tips are kept below refs/piehole/kept/. `piehole install --adopt` adopts all refs that it can without moving a ref back."
)


class Adoption:
    """:param names: None, or the refs that a joiner adopts; empty: all that can be without moving any back"""

    def __init__(self, replica: Replica, names: Sequence[str] | None, pusher: str, say: Callable[[str], None]) -> None:
        self._replica = replica
        self._names = names
        self._pusher = pusher
        self._say = say

    def check(self, *, founding: bool, whole: bool) -> None:
        """Refuse refs that cannot be adopted, before anything is changed.

        :param whole: also check that all objects that the local refs need are here
        :raises UsageError: a ref to adopt is not here
        :raises PieholeError: a ref of the founder names an object that is not here, or a local history is incomplete
        """
        self._check_names()
        if founding:
            self._refuse_broken()
        if whole:
            self._refuse_incomplete()

    def _check_names(self) -> None:
        if not self._names:
            return
        here = bulk_write.local_refs(self._replica)
        found = {}
        for text in self._names:
            ref_names.check_name(text)
            found[text] = ref_names.the_one(text, [name for name in ref_names.candidates(text) if name in here])
        unknown = sorted(text for text, name in found.items() if not name)
        if unknown:
            raise UsageError(
                f"--adopt names {', '.join(unknown)}, and {self._replica.git_dir} has no managed ref of that name."
                f"{ref_names.suggestion(unknown[0], here)}"
            )
        self._names = tuple(found.values())

    def _refuse_broken(self) -> None:
        """Refuse refs whose objects are missing: the group must not name objects that no site has.

        :raises PieholeError: a ref names an object that is not here
        """
        wanted = {name: oid for name, oid in bulk_write.local_refs(self._replica).items() if name != HEAD}
        here = connectivity.existing(self._replica.git_dir, set(wanted.values()))
        broken = [name for name, oid in wanted.items() if oid not in here]
        if broken:
            raise PieholeError(
                f"nothing was changed: {', '.join(broken[:10])}{' …' if len(broken) > 10 else ''} of {self._replica.git_dir} name objects that it "
                "does not have. See `git fsck`; bring the objects here or delete the refs, then install again."
            )

    def _refuse_incomplete(self) -> None:
        """Refuse incomplete histories. Peers send only what the local tips do not contain, so an object that a tip lacks would never arrive.

        :raises PieholeError: something that a ref needs is missing
        """
        git_dir = self._replica.git_dir

        def ask(arguments: Sequence[str], stdin: bytes) -> bool:
            return git.run(git_dir, arguments, stdin=stdin, ok=(0, 1, 128)).returncode == 0

        doing("checking that everything that the refs need is here")
        tips = sorted(set(self._replica.repository.observe().refs.values()))
        if tips and not connectivity.is_self_contained(ask, tips):
            raise PieholeError(
                f"nothing was changed: {git_dir} lacks objects that its refs need (`git fsck --connectivity-only` names them). If it is a copy "
                "of another site's repository, that one changed while it was copied: copy once more."
            )

    def preview(self, state: GroupState, *, founding: bool) -> list[KeyWrite]:
        """The refs that would be adopted; say which would not."""
        if founding:
            return self._founding(state)
        differing = self._differing(state)
        chosen = self._chosen(state, differing)
        left = [change for change in differing if change not in chosen]
        for change in left:
            self._say(f"would not adopt {change.name} ({change.after[:12]} here, {self._held(state, change)})")
        if left:
            self._say(_NOT_ADOPTED)
        return chosen

    def _founding(self, state: GroupState) -> list[KeyWrite]:
        """What the founder writes: its refs and HEAD, as far as the group has no value for them yet."""
        return [one for one in bulk_write.changes(state, bulk_write.local_refs(self._replica)) if one.before is None]

    def found(self) -> None:
        """The founding site's refs become the consensus. Interrupted, it continues when it is run again."""
        deadline = Deadline(_PATIENCE)
        state = self._replica.reader.list_group(deadline)
        wanted = self._founding(state)
        refused = self._write(bulk_write.guarded(self._replica, state, wanted))
        if refused:
            raise PieholeError(
                f"somebody else moved {', '.join(change.name for change in refused[:10])} in the group {self._replica.config.group!r} meanwhile. "
                "Run `piehole install` again to go on."
            )
        refs = sum(1 for change in wanted if change.name != HEAD)
        self._say(f"adopted {refs} ref{'' if refs == 1 else 's'} of this repository")
        if state.group is None:
            return
        group = GroupRecord.parse(state.group.value)
        done = GroupRecord(group.id, group.object_format, {n: v for n, v in group.extra.items() if n != "adopting"})
        key = self._replica.keyspace.group(self._replica.config.group)
        guard = Compare(key, mod_revision=state.group.mod_revision)
        # Refused, somebody else has written the record meanwhile, and the next run of this looks again.
        self._replica.etcd.txn([guard], [Put(key, done.dump())], deadline=Deadline(_PATIENCE))

    def join(self) -> None:
        """List the refs that differ. Change the group only where ``--adopt`` asks for it."""
        state = self._replica.reader.list_group(Deadline(_PATIENCE))
        differing = self._differing(state)
        adopted = 0
        chosen = self._chosen(state, differing)
        for _ in range(_ROUNDS):
            if not chosen:
                break
            guards = [
                Compare(
                    self._replica.keyspace.group(self._replica.config.group),
                    mod_revision=state.group.mod_revision if state.group else 0,
                ),
                Compare(
                    self._replica.keyspace.ref(self._replica.config.group, keys.FENCE),
                    mod_revision=state.mod(keys.FENCE),
                ),
            ]
            refused = self._write(bulk_write.guarded(self._replica, state, chosen), guards)
            adopted += len(chosen) - len(refused)
            state = self._replica.reader.list_group(Deadline(_PATIENCE))
            differing = self._differing(state)
            chosen = self._chosen(state, differing) if refused else []
        if self._names is not None:
            self._say(f"adopted {adopted} ref{'' if adopted == 1 else 's'} of this repository")
        for change in differing:
            self._say(f"not adopted: {change.name} ({change.after[:12]} here, {self._held(state, change)})")
        if differing:
            self._say(_NOT_ADOPTED)

    def _write(self, changes: Sequence[KeyWrite], guards: Sequence[Compare] = ()) -> list[KeyWrite]:
        """
        :raises PieholeError: fewer sites hold the refs than the group promises
        """
        try:
            return copied_write.write(self._replica, changes, self._pusher, self._say, guards=guards)
        except TooFewCopies as error:
            raise PieholeError(
                f"the site is installed, and no ref was adopted: {error} Run `piehole install --adopt` again for that."
            ) from error

    def _differing(self, state: GroupState) -> list[KeyWrite]:
        return [
            change for change in bulk_write.changes(state, bulk_write.local_refs(self._replica)) if change.name != HEAD
        ]

    def _held(self, state: GroupState, change: KeyWrite) -> str:
        conflict = state.conflict(change.name)
        if change.before is None:
            return f"the group has {conflict}, and a name cannot be both" if conflict else "the group has no such ref"
        if not live(state.entries.get(change.name)):
            return "the group has deleted it"
        return f"the group has {change.before[:80].decode(errors='replace').strip()}"

    def _chosen(self, state: GroupState, differing: Sequence[KeyWrite]) -> list[KeyWrite]:
        """The refs to adopt: those named, or all that move no ref back. Never a locked ref, nor one whose name conflicts."""
        wanted = self._names
        if wanted is None:
            return []
        named = [change for change in differing if not wanted or change.name in wanted]
        free = [change for change in named if not state.conflict(change.name) and not self._locked(change)]
        here = connectivity.existing(self._replica.git_dir, {change.after for change in free})
        return [
            change
            for change in free
            if change.after in here and (wanted or change.before is None or self._forward(change))
        ]

    def _locked(self, change: KeyWrite) -> bool:
        try:
            value_of(change.before, self._replica.config.object_format)
        except ValueError:
            return True
        return False

    def _forward(self, change: KeyWrite) -> bool:
        before = value_of(change.before, self._replica.config.object_format)
        return before is not None and not is_zero(before) and self._replica.repository.contains(change.after, before)
