"""``piehole clobber``: make this repository's refs the consensus, after an administrator decided that this site is right.

It overwrites any value of the group, locked ones too, but only values that it has shown, and never with an oid whose history is
incomplete on this disk: the consensus must not name objects that no site has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from piehole.commands import accept, copied_write
from piehole.deadline import Deadline
from piehole.errors import NO_ACCESS, Halted, PieholeError, UsageError
from piehole.etcd.model import Compare, Put
from piehole.group import bulk_write, progress, ref_names, rollback_guard
from piehole.group.bulk_write import KeyWrite
from piehole.group.group_state import live
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.refs import HEAD, PIEHOLE_REFS, decode, is_managed, is_oid, is_ref_name, is_zero, parents, short
from piehole.replicate.dry_run import DryRun, direction, dry_run
from piehole.transfer.connectivity import incomplete

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_EXPLAINED: Final = 500  # changes; classifying more would take too long


@dataclass(frozen=True, slots=True)
class ClobberRequest:
    """Which refs (none: all managed ones and HEAD), and whether those that are missing here are deleted in the group."""

    refs: tuple[str, ...] = ()
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What would change, and what is left alone.

    ``missing``: refs that the group has and this repository lacks. ``undecided``: refs whose value an administrator must choose; as
    long as there are some, a halted site stays halted, since following etcd would choose for them. ``whole``: no change is written
    where another one of its transaction cannot be. ``holders``: for some new values, the sites that hold them, each with its id.
    """

    seen: DryRun
    changes: tuple[KeyWrite, ...]
    missing: tuple[str, ...]
    restores: bool
    halted: Halted | None
    lines: tuple[str, ...]
    undecided: tuple[str, ...] = ()
    whole: bool = False
    holders: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def resumes(self) -> bool:
        """Whether a halted site continues after this."""
        return self.halted is not None and not self.undecided

    @property
    def needed(self) -> bool:
        return bool(self.changes or self.restores or self.resumes)


def meant(
    replica: Replica, seen: DryRun, refs: Sequence[str], *, elsewhere: Iterable[str] = (), absent: bool = False
) -> tuple[str, ...]:
    """The full names of the refs that were named.

    :param elsewhere: refs of other sites: they count where none of the group or of this site can be meant
    :param absent: whether a full name may be that of no ref
    :raises UsageError: a name cannot be a managed ref, or means several
    :raises PieholeError: there is no such ref
    """
    known = {HEAD, *seen.observed.refs, *seen.observed.symbolic}
    known |= {name for name, kv in seen.state.entries.items() if live(kv)}
    past = {*seen.state.entries, *elsewhere}
    found = []
    for text in refs:
        exact = text.startswith("refs/") and (absent or not is_managed(text, replica.config.exclude))
        name = text if exact else ref_names.full_name(text, known, past, where="the group and this repository have")
        if name != HEAD and not (is_ref_name(name) and is_managed(name, replica.config.exclude)):
            raise UsageError(
                f"{name!r} is no managed ref: names below {PIEHOLE_REFS} and those that piehole.exclude names are no part of the group."
            )
        found.append(name)
    return tuple(dict.fromkeys(found))


def situation(replica: Replica, request: ClobberRequest) -> Situation:
    """Compare this repository with the group, and find what would change.

    :raises Halted: etcd holds another group, or another machine has this site's name
    :raises PieholeError: an object that a ref needs is not in this repository, or two names would conflict
    :raises EtcdError: etcd could not be used
    """
    seen = examine(replica)
    request = replace(request, refs=meant(replica, seen, request.refs, absent=request.delete))
    changes, missing = _changes(replica, seen, request, bulk_write.local_refs(replica))
    remarks = _left_alone(seen, missing)
    if request.delete:
        here = [name for name in request.refs if name in seen.observed.refs]
        remarks += [
            f"{name}: is here, so it is not deleted: `git push . :{name}` here deletes it in the group" for name in here
        ]
    return describe(replica, seen, changes, remarks, missing=missing)


def examine(replica: Replica) -> DryRun:
    """Read the group and this repository; refuse an etcd that is not this repository's.

    :raises Halted: etcd holds another group, or another machine has this site's name
    :raises EtcdError: etcd could not be used
    """
    seen = dry_run(replica, Deadline(_PATIENCE))
    _refuse_foreign(replica, seen)
    return seen


def describe(
    replica: Replica,
    seen: DryRun,
    changes: Sequence[KeyWrite],
    remarks: Sequence[str],
    *,
    missing: Sequence[str] = (),
    undecided: Sequence[str] = (),
) -> Situation:
    """The situation for these changes, described line by line; ``remarks`` follow the changes.

    :raises PieholeError: an object that a ref needs is not in this repository, or two names would conflict
    """
    _refuse_incomplete(
        replica.git_dir, {c.name: c.after for c in changes if is_oid(c.after, replica.config.object_format)}
    )
    _refuse_conflicts(seen, changes)
    restores = seen.state.group is None
    halted = _rollback(replica, seen) if restores else seen.halted
    lines = [*_lines(replica, changes), *remarks]
    if restores:
        lines.insert(
            0,
            f"the group's record is missing in etcd: it is restored with the id {replica.config.group_id}, and promises no copies",
        )
    if halted is not None:
        lines.append(f"{halted.token}: {halted}")
    if halted is not None and not undecided:
        lines.append("after this, the site follows etcd again; for the other refs:")
        lines += accept.consequences(replica, seen, besides={change.name for change in changes})
    return Situation(seen, tuple(changes), tuple(missing), restores, halted, tuple(lines), tuple(undecided))


def carry_out(
    replica: Replica, found: Situation, pusher: str, say: Callable[[str], None], kind: str = "clobber"
) -> bool:
    """Write the changes; return False if somebody changed the group meanwhile, so that it must be examined again.

    :param say: gets what the administrator must know though all was written
    :param kind: the word that `piehole log` shows
    :raises TooFewCopies: fewer sites hold the new values than the group promises
    :raises EtcdError: etcd could not be used; running it again continues
    """
    config, key = replica.config, replica.keyspace.group(replica.config.group)
    guard = found.seen.state.group.mod_revision if found.seen.state.group else 0
    if found.restores:
        record = GroupRecord(config.group_id, config.object_format)
        result = replica.etcd.txn([Compare(key)], [Put(key, record.dump())], deadline=Deadline(_PATIENCE))
        if not result.succeeded:
            return False
        guard = result.revision
    guards = [Compare(key, mod_revision=guard)]
    if copied_write.write(
        replica, found.changes, pusher, say, kind=kind, guards=guards, whole=found.whole, holders=found.holders
    ):
        return False
    if found.resumes:
        accept.accept(replica)
    elif found.halted is None and found.seen.state.site is None:
        progress.check(replica, Deadline(_PATIENCE))
    return True


def _refuse_foreign(replica: Replica, seen: DryRun) -> None:
    if seen.state.group is not None:
        accept.refuse_foreign(replica, seen)
        return
    if not replica.config.group_id:
        raise PieholeError(
            f"{replica.git_dir} has never joined the group {replica.config.group!r}. Run `piehole install`."
        )
    wrong = rollback_guard.check_site(replica.config, seen.state.site.value if seen.state.site else None)
    if wrong is not None:
        raise wrong


def _rollback(replica: Replica, seen: DryRun) -> Halted | None:
    """Whether etcd or this disk went back, when the group's record is missing."""
    try:
        disk = rollback_guard.load(replica.git_dir)
    except PieholeError as error:
        return Halted(NO_ACCESS, str(error))
    found = seen.state.progress
    return rollback_guard.check_progress(replica.config, disk, found.value if found else None, seen.state.revision)


def _changes(
    replica: Replica, seen: DryRun, request: ClobberRequest, mine: dict[str, str]
) -> tuple[list[KeyWrite], list[str]]:
    """Which keys to write, and which refs are missing here and therefore left alone."""
    entries = seen.state.entries
    wanted = {name: mine[name] for name in request.refs if name in mine} if request.refs else dict(mine)
    # A symbolic ref here is neither a value to write nor a reason to delete.
    candidates = [name for name in request.refs or entries if name not in mine and name not in seen.observed.symbolic]
    absent = [
        name
        for name in candidates
        if name in entries and is_ref_name(name) and is_managed(name, replica.config.exclude) and live(entries[name])
    ]
    named = [name for name in request.refs if name not in mine and name not in absent]
    if request.delete:
        wanted.update(dict.fromkeys(absent, replica.repository.zero))
        # Refs that the group has already deleted, or never had, are as requested.
        return bulk_write.changes(seen.state, wanted), [name for name in named if name == HEAD]
    return bulk_write.changes(seen.state, wanted), [*absent, *named]


def _refuse_incomplete(git_dir: Path, wanted: dict[str, str]) -> None:
    """
    :raises PieholeError: something in the history of one of these oids is not in this repository
    """
    oids = {oid for oid in wanted.values() if not is_zero(oid)}
    doing("checking that everything that the refs need is here")
    lacking = incomplete(git_dir, sorted(oids))  # that a local ref holds them proves nothing here
    if lacking:
        named = sorted(f"{name} ({oid})" for name, oid in wanted.items() if oid in lacking)
        raise PieholeError(
            "nothing was changed: this repository does not have all objects of "
            f"{', '.join(named[:10])}{' …' if len(named) > 10 else ''}, and the group must not name what no disk has. "
            "Bring the objects here (`git fetch` from where they are), or name only sound refs."
        )


def _refuse_conflicts(seen: DryRun, changes: Collection[KeyWrite]) -> None:
    """Refuse a directory/file conflict.

    :raises PieholeError: the group would have two refs of which one's name is a folder of the other's
    """
    other_refs = {name for name, kv in seen.state.entries.items() if name.startswith("refs/") and live(kv)}
    other_refs -= {change.name for change in changes}
    above: dict[str, str] = {}
    for name in other_refs:
        above.update(dict.fromkeys(parents(name), name))
    for change in changes:
        if change.name == HEAD or is_zero(change.after):
            continue
        rival = next((name for name in parents(change.name) if name in other_refs), above.get(change.name))
        if rival is not None:
            raise PieholeError(
                f"nothing was changed: {change.name} conflicts with {rival}, which the group has: one name cannot be both a ref and "
                f"a folder of refs. `piehole clobber --delete {rival}` deletes it first, where this repository lacks it, too."
            )


def _lines(replica: Replica, changes: Sequence[KeyWrite]) -> list[str]:
    lines = []
    for number, change in enumerate(changes):
        doing("comparing refs", number, len(changes), "refs")
        before = decode((change.before or b"").removesuffix(b"\n"))
        lines.append(
            f"{change.name}: {_shown(before)} -> {short(change.after)}{_kind_of_move(replica, change, before, number)}"
        )
    return lines


def _left_alone(seen: DryRun, missing: Sequence[str]) -> list[str]:
    lines = []
    for name in missing:
        kv = seen.state.entries.get(name)
        if name in seen.observed.symbolic:
            lines.append(
                f"{name}: a symbolic ref here (to {seen.observed.symbolic[name]}), which is no part of the group: left alone"
            )
        elif name == HEAD:
            lines.append(
                "HEAD: names no branch here: left alone (`git symbolic-ref HEAD refs/heads/…` makes it name one)"
            )
        elif kv is None or not live(kv):
            lines.append(f"{name}: missing here, and the group has none: left alone")
        else:
            held = decode(kv.value.removesuffix(b"\n"))
            lines.append(f"{name}: missing here, the group has {_shown(held)}: left alone (--delete deletes it)")
    return lines


def _shown(value: str) -> str:
    return short(value) if value else "no opinion"


def _kind_of_move(replica: Replica, change: KeyWrite, before: str, number: int) -> str:
    if change.name == HEAD or number >= _EXPLAINED:
        return ""
    if not before:
        return " (new)"
    if not is_oid(before, replica.config.object_format):
        return " (was locked)"
    return f" ({direction(replica.repository, before, change.after)})"
