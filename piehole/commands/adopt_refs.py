"""What an installation does with the refs that are here already: the founder's become the group's, a joiner's are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import PieholeError, UsageError
from piehole.etcd.model import Compare, Put
from piehole.group import bulk_write, keys
from piehole.group.bulk_write import Change
from piehole.group.group_state import Readout, live
from piehole.group.records import GroupRecord
from piehole.group.replica import Local
from piehole.refs import HEAD, is_zero, value_of
from piehole.transfer import connectivity

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_ROUNDS: Final = 5  # of adopting while others push


class Adoption:
    """:param names: None, or the refs that a joiner adopts; empty: all that can be without moving any back"""

    def __init__(self, local: Local, names: Sequence[str] | None, pusher: str, say: Callable[[str], None]) -> None:
        self._local = local
        self._names = names
        self._pusher = pusher
        self._say = say

    def check(self, *, founding: bool, whole: bool) -> None:
        """Before anything is changed.

        :param whole: also look whether all that the refs here need is here
        :raises UsageError: a ref to adopt is not here
        :raises PieholeError: a ref of the founder names an object that is not here, or a history here has gaps
        """
        self._check_names()
        if founding:
            self._refuse_broken()
        if whole:
            self._refuse_incomplete()

    def _check_names(self) -> None:
        if not self._names:
            return
        unknown = set(self._names).difference(bulk_write.local_refs(self._local))
        if unknown:
            raise UsageError(
                f"--adopt names {', '.join(sorted(unknown))}, and {self._local.git_dir} has no managed ref of that name. "
                "Give full names, such as refs/heads/main."
            )

    def _refuse_broken(self) -> None:
        """The group must not name what no disk has.

        :raises PieholeError: a ref names an object that is not here
        """
        wanted = {name: oid for name, oid in bulk_write.local_refs(self._local).items() if name != HEAD}
        here = connectivity.existing(self._local.git_dir, set(wanted.values()))
        broken = [name for name, oid in wanted.items() if oid not in here]
        if broken:
            raise PieholeError(
                f"nothing was changed: {', '.join(broken[:10])}{' …' if len(broken) > 10 else ''} of {self._local.git_dir} name objects that it "
                "does not have. See `git fsck`; bring the objects here or delete the refs, then install again."
            )

    def _refuse_incomplete(self) -> None:
        """Peers are told which tips are here, and send only what these do not have: what a tip lacks would never come.

        :raises PieholeError: something that a ref needs is missing
        """
        git_dir = self._local.git_dir

        def ask(arguments: Sequence[str], stdin: bytes) -> bool:
            return git.run(git_dir, arguments, stdin=stdin, ok=(0, 1, 128)).returncode == 0

        tips = sorted(set(self._local.repository.observe().refs.values()))
        if tips and not connectivity.is_self_contained(ask, tips):
            raise PieholeError(
                f"nothing was changed: {git_dir} lacks objects that its refs need (`git fsck --connectivity-only` names them). If it is a copy "
                "of another site's repository, that one changed while it was copied: copy once more."
            )

    def found(self) -> None:
        """The founding site's refs become the consensus. Interrupted, it continues when it is run again."""
        deadline = Deadline(_PATIENCE)
        readout = self._local.swapper.list_group(deadline)
        wanted = [
            change
            for change in bulk_write.changes(readout, bulk_write.local_refs(self._local))
            if change.before is None
        ]
        refused = bulk_write.write(self._local, bulk_write.beside(self._local, readout, wanted), self._pusher)
        if refused:
            raise PieholeError(
                f"somebody else moved {', '.join(change.name for change in refused[:10])} in the group {self._local.config.group!r} meanwhile. "
                "Run `piehole install` again to go on."
            )
        refs = sum(1 for change in wanted if change.name != HEAD)
        self._say(f"adopted {refs} ref{'' if refs == 1 else 's'} of this repository")
        if readout.group is None:
            return
        group = GroupRecord.parse(readout.group.value)
        done = GroupRecord(group.id, group.object_format, {n: v for n, v in group.extra.items() if n != "adopting"})
        key = self._local.keyspace.group(self._local.config.group)
        guard = Compare(key, mod_revision=readout.group.mod_revision)
        # Refused, somebody else has written the record meanwhile, and the next run of this looks again.
        self._local.etcd.txn([guard], [Put(key, done.dump())], deadline=Deadline(_PATIENCE))

    def join(self) -> None:
        """A joiner changes nothing of the group unless it is told to."""
        readout = self._local.swapper.list_group(Deadline(_PATIENCE))
        differing = self._differing(readout)
        adopted = 0
        chosen = self._chosen(readout, differing)
        for _ in range(_ROUNDS):
            if not chosen:
                break
            guards = [
                Compare(
                    self._local.keyspace.group(self._local.config.group),
                    mod_revision=readout.group.mod_revision if readout.group else 0,
                ),
                Compare(
                    self._local.keyspace.ref(self._local.config.group, keys.FENCE), mod_revision=readout.mod(keys.FENCE)
                ),
            ]
            refused = bulk_write.write(
                self._local, bulk_write.beside(self._local, readout, chosen), self._pusher, guards=guards
            )
            adopted += len(chosen) - len(refused)
            readout = self._local.swapper.list_group(Deadline(_PATIENCE))
            differing = self._differing(readout)
            chosen = self._chosen(readout, differing) if refused else []
        if self._names is not None:
            self._say(f"adopted {adopted} ref{'' if adopted == 1 else 's'} of this repository")
        for change in differing:
            self._say(f"not adopted: {change.name} ({change.after[:12]} here, {self._held(readout, change)})")
        if differing:
            self._say(
                "Refs that the group lacks stay here and are no part of it; those that it has otherwise will be brought to its values, "
                "with the tips from here kept below refs/piehole/kept/. `piehole install --adopt` adopts what moves nothing back."
            )

    def _differing(self, readout: Readout) -> list[Change]:
        return [
            change for change in bulk_write.changes(readout, bulk_write.local_refs(self._local)) if change.name != HEAD
        ]

    def _held(self, readout: Readout, change: Change) -> str:
        conflict = readout.conflict(change.name)
        if change.before is None:
            return f"the group has {conflict}, and a name cannot be both" if conflict else "the group has no such ref"
        if not live(readout.entries.get(change.name)):
            return "the group has deleted it"
        return f"the group has {change.before[:80].decode(errors='replace').strip()}"

    def _chosen(self, readout: Readout, differing: Sequence[Change]) -> list[Change]:
        """What to adopt: what moves nothing back or, where refs are named, those. Never over a lock, nor a conflicting name."""
        wanted = self._names
        if wanted is None:
            return []
        named = [change for change in differing if not wanted or change.name in wanted]
        free = [change for change in named if not readout.conflict(change.name) and not self._locked(change)]
        here = connectivity.existing(self._local.git_dir, {change.after for change in free})
        return [
            change
            for change in free
            if change.after in here and (wanted or change.before is None or self._forward(change))
        ]

    def _locked(self, change: Change) -> bool:
        try:
            value_of(change.before, self._local.config.object_format)
        except ValueError:
            return True
        return False

    def _forward(self, change: Change) -> bool:
        before = value_of(change.before, self._local.config.object_format)
        return before is not None and not is_zero(before) and self._local.repository.contains(change.after, before)
