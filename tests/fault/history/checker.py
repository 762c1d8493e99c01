"""Does what etcd and the sites hold agree with what everybody was told? Pure: a list of violations, empty where all is well.

What can be proven from the outside of every push: its name stands in the push record that its swap wrote, so each revision of
the consensus is some operation's, or nobody's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.fault.history.evidence import Evidence, Look, Loss, Violation
from tests.fault.history.keeping import nowhere, stale, uncopied
from tests.fault.history.operations import ZERO, Change, Operation
from tests.fault.history.past import Moment, gaps, moments


def check(evidence: Evidence) -> list[Violation]:
    """
    ========== ==========================================================================================
    gap        the history itself is incomplete, so nothing else counts
    unasked    a revision changed refs, and no operation, administrator or reaping did that
    twice      one operation changed the consensus at two revisions
    half       an operation changed other refs, or other values, than it was to change: half an atomic pair
    fork       a swap did not compare: the value before it is neither its old value nor its ancestor
    lost       an acknowledged operation is not in the history, nor was the group there already while it was sent
    refused    a refused one is
    order      one that was acknowledged before another began comes after it
    invented   a site showed a value that the consensus never had
    vanished   a ref went away at a site, and there is no tombstone for it
    early      a progress record claimed a revision that the site's refs had not reached
    diverged   after healing a site's refs are not the consensus
    unsound    after healing `git fsck` complains
    dropped    a commit that was acknowledged or seen at a site is reachable there no more
    uncopied   a swap was sent that names a commit which fewer sites had at that moment than the group promises
    nowhere    an acknowledged commit is at no site
    stale      a read through the gate had not what was answered, or read, before it was asked for
    robbed     a lock was removed while the process lived that held it, or a ref was lost that is not the group's
    crashed    a controller ended by itself, or met an error that it was not made for
    ========== ==========================================================================================
    """
    found = [Violation("gap", text) for text in gaps(evidence.events)]
    past = moments(evidence.events)
    by_name = {one.name: one for one in evidence.operations}
    authors = _authors(past, evidence.operations, by_name)
    found += _chain(past, authors, evidence.parents)
    found += _outcomes(authors, evidence.operations)
    found += _order(authors)
    values = _values(past)
    found += _looks(evidence.looks, values, evidence.losses)
    found += _endings(evidence, values)
    found += uncopied(evidence, authors) + nowhere(evidence, authors) + stale(evidence, authors)
    found += [Violation("robbed", text) for text in evidence.robbed]
    return found


# ---- who did what


Authors = list[tuple[Moment, Operation | None]]


def _authors(past: Sequence[Moment], operations: Sequence[Operation], by_name: Mapping[str, Operation]) -> Authors:
    """Each revision that changed refs with the operation that it is of; reapings are left out."""
    hands = [one for one in operations if one.by_hand]
    used: set[str] = set()
    state: dict[str, str] = {}
    authors: Authors = []
    for moment in past:
        if not moment.refs:
            continue
        author = by_name.get(str(moment.push.get("pusher", ""))) if moment.push else None
        if not moment.push and not _is_reaping(moment, state):
            author = next((one for one in hands if one.name not in used and _made(one, moment)), None)
            used |= {author.name} if author else set()
        if author is not None or moment.push or not _is_reaping(moment, state):
            authors.append((moment, author))
        state.update({ref: value if value is not None else ZERO for ref, value in moment.refs.items()})
    return authors


def _is_reaping(moment: Moment, state: Mapping[str, str]) -> bool:
    return bool(moment.fence) and all(
        value is None and state.get(ref, ZERO) == ZERO for ref, value in moment.refs.items()
    )


def _made(operation: Operation, moment: Moment) -> bool:
    """An administrator is told the revision; one who was not told knows the change itself, if it was sent at all."""
    if operation.revision:
        return operation.revision == moment.revision
    return operation.outcome == "unknown" and _asked(operation) == moment.refs


def _asked(operation: Operation) -> dict[str, str | None]:
    return {change.ref: change.new for change in operation.changes}


# ---- the consensus alone


def _chain(past: Sequence[Moment], authors: Authors, parents: Mapping[str, str]) -> list[Violation]:
    authored = {moment.revision: author for moment, author in authors}
    found: list[Violation] = []
    state: dict[str, str | None] = {}
    for moment in past:
        if moment.revision in authored:
            author = authored[moment.revision]
            if author is None:
                who = moment.push.get("pusher", "nobody")
                found.append(Violation("unasked", f"revision {moment.revision} set {moment.refs} for {who}"))
            else:
                found += _step(moment, author, state, parents)
        state.update(moment.refs)
    return found


def _step(
    moment: Moment, author: Operation, state: Mapping[str, str | None], parents: Mapping[str, str]
) -> list[Violation]:
    found = []
    asked = _asked(author)
    if moment.refs != asked:
        text = f"{author.name} ({author.kind}) was to set {asked}; revision {moment.revision} set {moment.refs}"
        found.append(Violation("half", text))
    if author.by_hand:
        return found
    for change in author.changes:
        before = state.get(change.ref) or ZERO
        if change.ref not in moment.refs or before == change.old:
            continue
        if change.new is None or before == ZERO or not _descends(change.new, before, parents):
            text = (
                f"{author.name} ({author.kind} at {author.site}) moved {change.ref} from {change.old} to {change.new} "
                f"at revision {moment.revision}, where the group had {before}"
            )
            found.append(Violation("fork", text))
    return found


def _descends(new: str, old: str, parents: Mapping[str, str]) -> bool:
    while new and new != old:
        new = parents.get(new, "")
    return new == old


def _outcomes(authors: Authors, operations: Iterable[Operation]) -> list[Violation]:
    revisions: defaultdict[str, list[int]] = defaultdict(list)
    for moment, author in authors:
        if author is not None:
            revisions[author.name].append(moment.revision)
    found = []
    for one in operations:
        at = revisions[one.name]
        what = f"{one.name} ({one.kind} of {', '.join(change.ref for change in one.changes)} at {one.site or 'etcd'})"
        if len(at) > 1:
            found.append(Violation("twice", f"{what} is at the revisions {at}"))
        if one.outcome == "ok" and not at and not _was_there(one, authors):
            found.append(Violation("lost", f"{what} was acknowledged and is not in the history"))
        if one.outcome == "refused" and at:
            found.append(Violation("refused", f"{what} was refused and is at {at}: {one.words[-200:]!r}"))
    return found


def _was_there(operation: Operation, authors: Authors) -> bool:
    """Whether at one moment while it ran the group may have had all that it asked for: then it is told so, and nothing is written.

    Of two deletions of one ref, the first with an unknown outcome, the second may find nothing left to do.
    """
    return all(_may_be_at(change, operation, authors) for change in operation.changes)


def _may_be_at(change: Change, operation: Operation, authors: Authors) -> bool:
    writers = [(author, moment.refs[change.ref]) for moment, author in authors if author and change.ref in moment.refs]
    following = [*(writer for writer, _ in writers[1:]), *([None] if writers else [])]
    return any(
        value == change.new
        and writer.began < operation.ended
        and (after is None or after.outcome == "unknown" or after.ended > operation.began)
        for (writer, value), after in zip(writers, following, strict=True)
    )


def _order(authors: Authors) -> list[Violation]:
    """The consensus orders operations as time did: none stands after one that began only when it had ended."""
    found = []
    latest: Operation | None = None
    for moment, author in authors:
        if author is None:
            continue
        if latest is not None and author.outcome == "ok" and author.ended < latest.began:
            text = f"{author.name} ended before {latest.name} began, and comes after it, at revision {moment.revision}"
            found.append(Violation("order", text))
        if latest is None or author.began > latest.began:
            latest = author
    return found


# ---- the sites


Values = dict[str, list[tuple[int, str | None]]]


def _values(past: Iterable[Moment]) -> Values:
    """What each ref has been, with revisions, oldest first."""
    found: defaultdict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for moment in past:
        for ref, value in moment.refs.items():
            found[ref].append((moment.revision, value))
    return dict(found)


def _looks(looks: Iterable[Look], values: Values, losses: Sequence[Loss]) -> list[Violation]:
    found: list[Violation] = []
    before: dict[str, Look] = {}
    for look in looks:
        last = before.get(look.site)
        if last is not None and any(loss.site == look.site and last.at <= loss.at <= look.at for loss in losses):
            last = None  # it began anew
        for ref, oid in look.refs.items():
            if all(value != oid for _, value in values.get(ref, ())):
                found.append(Violation("invented", f"{look.site} showed {ref} at {oid}, which the group never had"))
        for ref, oid in last.refs.items() if last else ():
            if ref not in look.refs and not _buried(values.get(ref, ()), oid):
                text = f"{ref} was at {oid} at {look.site}, is gone there, and nobody deleted it"
                found.append(Violation("vanished", text))
        before[look.site] = look
        found += _claimed(look, values)
    return found


def _buried(values: Sequence[tuple[int, str | None]], oid: str) -> bool:
    """Whether a tombstone came at any time after the ref had this value."""
    since = min((revision for revision, value in values if value == oid), default=0)
    return any(value == ZERO and revision > since for revision, value in values)


def _claimed(look: Look, values: Values) -> list[Violation]:
    """Every managed ref has the value it had at that revision or a later one; what is no oid counts as handled."""
    found = []
    for ref, changes in values.items() if look.passed else ():
        older = [value for revision, value in changes if revision <= look.passed]
        at = older[-1] if older else None
        # What was no oid any more when the record was made counts as handled, too.
        meanwhile = [value for revision, value in changes if look.passed < revision < look.claimed]
        if any(value is None or len(value) != len(ZERO) for value in (at, *meanwhile)):
            continue
        fine = {at, *(value for revision, value in changes if revision > look.passed)}
        if look.refs.get(ref, ZERO) not in fine:
            text = (
                f"{look.site} claimed revision {look.passed}, where {ref} was {at}, and had {look.refs.get(ref, ZERO)}"
            )
            found.append(Violation("early", text))
    return found


def _endings(evidence: Evidence, values: Values) -> list[Violation]:
    found: list[Violation] = []
    consensus = {ref: changes[-1][1] for ref, changes in values.items()}
    live = {ref: value for ref, value in consensus.items() if value not in (None, ZERO)}
    owned = _commits(evidence)
    for ending in evidence.endings:
        for ref in sorted(live.keys() | ending.refs.keys()):
            if ending.refs.get(ref) != live.get(ref):
                text = f"{ending.site} has {ref} at {ending.refs.get(ref)}, the group at {live.get(ref)}"
                found.append(Violation("diverged", text))
        if ending.crash:
            found.append(Violation("crashed", f"the controller of {ending.site}: {ending.crash[:400]}"))
        if ending.fsck:
            found.append(Violation("unsound", f"git fsck at {ending.site}: {ending.fsck[:400]}"))
        for oid in sorted(owned[ending.site] - ending.reachable):
            found.append(Violation("dropped", f"{ending.site} had {oid}, and no ref or kept tip reaches it there"))
    return found


def _commits(evidence: Evidence) -> defaultdict[str, set[str]]:
    """The commits that each site surely had, acknowledged there or seen there, since it began with an empty disk."""
    owned: defaultdict[str, set[str]] = defaultdict(set)
    since: defaultdict[str, float] = defaultdict(float)
    for loss in evidence.losses:
        since[loss.site] = max(since[loss.site], loss.back)
    for one in evidence.operations:
        if one.outcome == "ok" and not one.by_hand and one.ended >= since[one.site]:
            owned[one.site] |= {change.new for change in one.changes if change.new and change.new != ZERO}
    for look in evidence.looks:
        if look.at >= since[look.site]:
            owned[look.site] |= set(look.refs.values())
    return owned
