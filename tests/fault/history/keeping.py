"""What a group that promises copies owes, and what a reader behind the gate is owed. Pure, as the rest of the checker."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from tests.fault.history.evidence import Evidence, Read, Violation
from tests.fault.history.operations import ZERO, Operation
from tests.fault.history.past import Moment

Authors = Sequence[tuple[Moment, Operation | None]]
_NEVER: Final = float("inf")


# ---- copies


def uncopied(evidence: Evidence, authors: Authors) -> list[Violation]:
    """No swap was sent that names a commit which fewer sites had at that moment. Forgiven is a disk that was lost while the push ran, or
    since the commit was first named: the promise allows for it.
    """
    if evidence.copies < 2:
        return []
    pushes = {one.name: one for one in evidence.operations}
    found = []
    first: dict[str, float] = {}
    for sent in sorted(evidence.sendings, key=lambda one: one.at):
        began = pushes[sent.pusher].began if sent.pusher in pushes else _NEVER
        for oid, holders in sent.holders.items():
            since = min(began, first.setdefault(oid, sent.at))
            lost = {loss.site for loss in evidence.losses if since <= loss.at <= sent.at}
            if len(holders | lost) < evidence.copies:
                text = f"the swap of {sent.pusher} was sent when {', '.join(sorted(holders)) or 'no site'} had {oid}"
                found.append(Violation("uncopied", f"{text} (disks lost meanwhile: {sorted(lost)})"))
    seen = {(sent.push, oid) for sent in evidence.sendings for oid in sent.holders}
    for moment, author in authors:
        if author is None or author.by_hand:
            continue
        for value in moment.refs.values():
            if value and value != ZERO and (str(moment.push.get("id", "")), value) not in seen:
                text = f"revision {moment.revision} names {value} for {author.name}, and nobody saw its swap being sent"
                found.append(Violation("uncopied", text))
    return found


def nowhere(evidence: Evidence, authors: Authors) -> list[Violation]:
    """Every acknowledged commit is at some site, unless it was overwritten and as many disks were lost as the group promises copies."""
    if evidence.copies < 2 or not evidence.endings:
        return []
    anywhere = frozenset[str]().union(*(ending.reachable for ending in evidence.endings))
    wanted = _contained({oid for ending in evidence.endings for oid in ending.refs.values()}, evidence.parents)
    found = []
    for one in _acknowledged(evidence, authors):
        for oid in (change.new for change in one.changes if change.new and change.new != ZERO):
            losses = sum(loss.back >= one.began for loss in evidence.losses)
            if oid not in anywhere and (oid in wanted or losses < evidence.copies):
                text = (
                    f"{one.name} was acknowledged at {one.site}, {losses} disks were lost since, and {oid} is nowhere"
                )
                found.append(Violation("nowhere", text))
    return found


def _acknowledged(evidence: Evidence, authors: Authors) -> list[Operation]:
    """Those whose commits the group has named: a repeated deletion of nothing names none."""
    named = {author.name for _, author in authors if author is not None}
    return [one for one in evidence.operations if one.outcome == "ok" and not one.by_hand and one.name in named]


def _contained(tips: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for tip in tips:
        oid = tip
        while oid and oid not in found:
            found.add(oid)
            oid = parents.get(oid, "")
    return found


# ---- reads


def stale(evidence: Evidence, authors: Authors) -> list[Violation]:
    """What was served without a warning has every push that was answered, and every value that was read, before it was asked for."""
    writes = _writes(authors)
    seen: dict[str, list[tuple[float, int]]] = {ref: [] for ref in writes}
    found = []
    for read in sorted(evidence.reads, key=lambda one: one.ended):
        # A connection does not survive the machine at its other end, though it does here.
        cut = any(
            loss.site == read.site and read.began <= loss.back and loss.at <= read.ended for loss in evidence.losses
        )
        if read.outcome == "fresh" and not cut:
            found += _judge(read, writes, seen)
    return found


Writes = Mapping[str, "RefWrites"]


class RefWrites:
    """The values of one ref, oldest first, and from when on a reader must see which."""

    def __init__(self, values: Sequence[tuple[int, str, float, float]], taken_away: Sequence[int]) -> None:
        """
        :param values: revision, value, and the moments at which its push began and was answered
        :param taken_away: numbers of values that an administrator made, and that are none which a site could have
        """
        self._taken_away = taken_away
        self.revisions = [revision for revision, _, _, _ in values]
        self.values = [value for _, value, _, _ in values]
        self._began = [began for _, _, began, _ in values]
        owed = sorted((at, number) for number, (_, _, _, at) in enumerate(values) if at < _NEVER)
        self._times = [at for at, _ in owed]
        self._newest = list(accumulate((number for _, number in owed), max))

    def owed(self, began: float) -> int:
        """The number of the oldest value that a reader may see who asks at this moment, -1: none at all is fine, too."""
        before = bisect_left(self._times, began)
        return self._newest[before - 1] if before else -1

    def forgiven(self, owed: int, ended: float) -> bool:
        """Whether an administrator has locked the ref or deleted its key since: then a site stays at what it had, which may be older."""
        return any(number > owed and self._began[number] <= ended for number in self._taken_away)

    def first(self, value: str, since: int, until: float) -> int | None:
        """The first number from this one on at which the ref had this value, by a push that had begun until then; -1: before all of them."""
        if since < 0 and value == ZERO:
            return -1
        numbers = range(max(since, 0), len(self.values))
        return next((n for n in numbers if self.values[n] == value and self._began[n] <= until), None)


def _writes(authors: Authors) -> Writes:
    found: defaultdict[str, list[tuple[int, str, float, float]]] = defaultdict(list)
    taken_away: defaultdict[str, list[int]] = defaultdict(list)
    for moment, author in authors:
        # What an administrator did, no reader is owed.
        answered = author.ended if author is not None and author.outcome == "ok" and not author.by_hand else _NEVER
        began = author.began if author is not None else 0.0
        for ref, value in moment.refs.items():
            if value is None or len(value) != len(ZERO):
                taken_away[ref].append(len(found[ref]))
            found[ref].append((moment.revision, value or ZERO, began, answered))
    return {ref: RefWrites(values, taken_away[ref]) for ref, values in found.items()}


def _judge(read: Read, writes: Writes, seen: dict[str, list[tuple[float, int]]]) -> list[Violation]:
    found = []
    for ref, written in writes.items():
        value = read.refs.get(ref, ZERO)
        # Reads come in the order in which they ended, so the newest of those that ended before this one began is found from the end.
        known = next((number for ended, number in reversed(seen[ref]) if ended < read.began), -1)
        owed = max(written.owed(read.began), known)
        if written.forgiven(owed, read.ended):
            owed = -1
        at = written.first(value, owed, read.ended)
        if at is None:
            text = f"{ref} was read as {value} at {read.site}, where revision {written.revisions[owed]} had been answered before"
            found.append(Violation("stale", f"{text} ({written.values[owed]})"))
        else:
            newest = seen[ref][-1][1] if seen[ref] else -1
            if at > newest:
                seen[ref].append((read.ended, at))
    return found
