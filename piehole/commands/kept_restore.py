"""``piehole kept restore``: bring back what refs had before they were deleted or overwritten, as refs of the group.

It writes only what it has shown, and only over the value that the bad change left: a ref that somebody has moved since stays as it is.
What is brought back must be complete at this site before the group names it, so it is fetched from the other sites where it is not.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from piehole.commands import clobber, kept, log, losses
from piehole.commands.clobber import Situation
from piehole.commands.log import LoggedMove
from piehole.commands.losses import Loss, Selection
from piehole.deadline import Deadline
from piehole.errors import PieholeError, UsageError
from piehole.group import bulk_write, ref_names
from piehole.group.group_state import live
from piehole.group.ref_log import LogEntry
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.refs import decode, is_managed, is_oid, is_ref_name, is_zero, short
from piehole.replicate.dry_run import DryRun
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.plan import Value
from piehole.repository import kept_tips
from piehole.transfer import connectivity
from piehole.transfer.keep_files import Hold

KIND: Final = "restored"
_PATIENCE: Final = 10.0  # seconds for each question to etcd


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """One tip (``oid``, brought back as ``ref``, or as the ref that it was the tip of), or all that a selection of changes took away.

    ``force``: also over what somebody has pushed since.
    """

    oid: str = ""
    ref: str = ""
    selection: Selection | None = None
    force: bool = False


def situation(replica: Replica, request: RestoreRequest, hold: Hold | None) -> Situation:
    """Find what would be brought back, and fetch what of it is not here.

    :param hold: protects fetched objects from being pruned; it must last until the situation is carried out. None: nothing is fetched
    :raises Halted: this site must not act on what etcd holds
    :raises UsageError: the request names something that cannot be
    :raises PieholeError: it is not known what to bring back, or two names would conflict
    :raises EtcdError: etcd could not be used
    """
    seen = clobber.examine(replica)
    if seen.halted is not None:
        raise seen.halted
    changes, wrong = log.known(replica)
    if wrong is not None:
        raise wrong
    if request.selection is None:
        found, unclear = [_single(replica, request, changes)], list[str]()
    else:
        found, unclear = _of_changes(replica, request.selection, changes)
    wanted, moved = _wanted(replica, seen, found, request.force)
    lacking = _bring(replica, seen, set(wanted.values()), hold)
    unknown = [loss for loss in found if not loss.old]
    remarks = unclear + [
        f"{loss.ref}: what it had before revision {loss.by.entry.revision} is not known here; `piehole log` at another site may tell"
        for loss in unknown
    ]
    remarks += moved
    remarks += [f"{ref}: {short(oid)} cannot be had: {lacking[oid]}" for ref, oid in wanted.items() if oid in lacking]
    wanted = {ref: oid for ref, oid in wanted.items() if oid not in lacking}
    writes = bulk_write.guarded(replica, seen.state, bulk_write.changes(seen.state, wanted))
    parts = bulk_write.parts(replica, writes, 1, Deadline(_PATIENCE))
    if parts > 1:
        remarks.append(
            f"etcd takes so many refs only in {parts} transactions, one after the other: other sites may see a part before the rest."
        )
    left = tuple(ref for loss in found if (ref := loss.ref) not in wanted)
    return replace(clobber.describe(replica, seen, writes, remarks, missing=left), whole=True)


def _single(replica: Replica, request: RestoreRequest, changes: Sequence[LoggedMove]) -> Loss:
    oid = kept.find(replica, request.oid)
    left = [one for one in changes if one.entry.old == oid != one.entry.new and one.entry.ref.startswith("refs/")]
    named = request.ref
    if named and not named.startswith("refs/"):
        known = {one.entry.ref for one in left}
        named = ref_names.full_name(
            named, known, {one.entry.ref for one in changes}, where="the group and the log have"
        )
    if named:
        left = [one for one in left if one.entry.ref == named]
    refs = sorted({one.entry.ref for one in left})
    if len(refs) > 1:
        raise PieholeError(
            f"{short(oid)} was the tip of {len(refs)} refs: {', '.join(refs[:5])}{' …' if len(refs) > 5 else ''}. Name the one to bring "
            f"back: `piehole kept restore {oid} {refs[0]}`."
        )
    ref = named or (refs[0] if refs else "")
    if not ref:
        raise PieholeError(
            f"it is not known any more which ref had {short(oid)}. Name one: `piehole kept restore {oid} refs/heads/NAME`."
        )
    if not (is_ref_name(ref) and is_managed(ref, replica.config.exclude)):
        raise UsageError(f"{ref!r} is no managed ref, so the group cannot have it.")
    if left:
        since = left[0].entry.revision
        later = [
            one for one in changes if one.entry.ref == ref and one.entry.revision > since and one.kind != log.REAPED
        ]
        return Loss(ref, oid, left[0].entry.new, left[0], later[0] if later else None)
    # Under a name that it never had: the name must be free.
    nothing = replica.repository.zero
    return Loss(ref, oid, nothing, LoggedMove(LogEntry(0, ref, oid, nothing, "", "", ""), log.HAND))


def _of_changes(replica: Replica, selection: Selection, changes: Sequence[LoggedMove]) -> tuple[list[Loss], list[str]]:
    recent = losses.since(changes, selection.since)
    ids = frozenset(one.entry.push for one in recent if one.entry.push and str(one.entry.revision) in selection.pushes)
    managed = [one for one in recent if is_managed(one.entry.ref, replica.config.exclude)]
    taken = {id(one) for one in managed if selection.takes(one, ids)}
    destroying, unclear = _destroying(replica, [one for one in managed if id(one) in taken])
    accounts = Counter(losses.account(one) or "nobody known (by hand)" for one in managed if id(one) in destroying)
    if len(accounts) > 1 and not selection.pushers and not selection.pushes:
        named = "; ".join(f"{name}: {count}" for name, count in accounts.most_common(8))
        raise PieholeError(
            f"several accounts deleted or overwrote refs in this time ({named}). Say whose changes to undo: `--pusher NAME` (it may be "
            "repeated), or `--push ID` of one push, as `piehole log --json` shows it."
        )
    found = losses.find(managed, lambda one: id(one) in taken, lambda one: id(one) in destroying)
    return found, unclear


def _destroying(replica: Replica, changes: Sequence[LoggedMove]) -> tuple[set[int], list[str]]:
    """Which of these changes deleted a ref or moved it to what does not contain its old value; and remarks where that cannot be told."""
    repository, form = replica.repository, replica.config.object_format
    real = [one for one in changes if not one.entry.old or not is_zero(one.entry.old)]
    deleted = {id(one) for one in real if is_zero(one.entry.new)}
    moved = [
        one for one in real if id(one) not in deleted and is_oid(one.entry.old, form) and is_oid(one.entry.new, form)
    ]
    here = repository.kinds(list(dict.fromkeys(one.entry.new for one in moved)))
    forward = repository.forward([(one.entry.old, one.entry.new) for one in moved])
    lost = {
        id(one)
        for one in moved
        if one.entry.old != one.entry.new and one.entry.new in here and (one.entry.old, one.entry.new) not in forward
    }
    unclear = [
        f"{one.entry.ref}: {short(one.entry.new)} is not here yet, so nobody can tell whether it left {short(one.entry.old)} behind"
        for one in moved
        if one.entry.new not in here
    ]
    return deleted | lost, unclear


def _wanted(replica: Replica, seen: DryRun, found: Sequence[Loss], force: bool) -> tuple[dict[str, str], list[str]]:
    """What each ref is to get; and remarks about those that somebody has moved since."""
    wanted: dict[str, str] = {}
    moved: list[str] = []
    for loss in found:
        if not loss.old or not is_oid(loss.old, replica.config.object_format):
            continue
        kv = seen.state.entries.get(loss.ref)
        now = decode(kv.value.removesuffix(b"\n")) if kv is not None and live(kv) else ""
        if now == loss.old:
            continue
        if now != ("" if is_zero(loss.new) else loss.new) and not force:
            moved.append(
                f"{loss.ref}: {_since(loss, now)}: left alone (--force brings {short(loss.old)} back all the same)"
            )
            continue
        wanted[loss.ref] = loss.old
    return wanted, moved


def _since(loss: Loss, now: str) -> str:
    """What has become of a ref since it was deleted or overwritten."""
    if not loss.by.entry.revision:
        return f"is there already, at {short(now)}"
    who = losses.account(loss.later) if loss.later is not None else ""
    return f"{f'moved to {short(now)}' if now else 'deleted'} since{f' by {who}' if who else ''}"


def _bring(replica: Replica, seen: DryRun, oids: set[str], hold: Hold | None) -> Mapping[str, str]:
    """Have these tips here, whole and kept; those that cannot be had, each with the reason."""
    doing("checking that everything that the tips need is here")
    missing = connectivity.incomplete(replica.git_dir, oids)
    if not missing:
        return {}
    if hold is None:
        return dict.fromkeys(missing, "it is not here, and a dry run fetches nothing")
    wanted = {oid: Value(oid, 0, 0) for oid in sorted(missing)}
    lacking = ObjectFetcher(replica, PeerHealth()).fetch(wanted, list(seen.observed.refs.values()), hold).lacking
    # No ref here holds them until this site has followed the group.
    kept_tips.keep(replica.repository, [oid for oid in wanted if oid not in lacking])
    return lacking


def parse_since(text: str) -> datetime.datetime:
    """
    :raises UsageError: it is no time
    """
    return losses.cutoff(text, datetime.datetime.now(datetime.UTC))
