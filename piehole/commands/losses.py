"""Which refs lost a value by some changes of the group, and what each of them had before. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from piehole.commands.log import REAPED, LoggedMove
from piehole.deadline import seconds
from piehole.errors import UsageError
from piehole.fastpath.hook_messages import SHOWN
from piehole.refs import is_zero


@dataclass(frozen=True, slots=True)
class Selection:
    """The changes that are to be undone: those since a time, and of these pushes, accounts and sites, where any are named."""

    since: datetime.datetime
    pushes: tuple[str, ...] = ()
    pushers: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()

    def takes(self, change: LoggedMove, ids: frozenset[str]) -> bool:
        """:param ids: the ids of the pushes that were named by a revision"""
        entry = change.entry
        return (
            (not self.pushes or entry.push in ids or self._names(entry.push) or str(entry.revision) in self.pushes)
            and (not self.pushers or account(change) in self.pushers)
            and (not self.sites or entry.site in self.sites)
        )

    def _names(self, push: str) -> bool:
        """Whether this push is named by its id, or by the beginning that its user was shown."""
        return any(push == one or (len(one) >= SHOWN and push.startswith(one)) for one in self.pushes)


@dataclass(frozen=True, slots=True)
class Loss:
    """``old`` is what the ref had before the changes, ``""`` where that is not known; ``new`` is what they left in its place.

    ``by``: the change that took ``old`` away; ``later``: the newest change of the ref that is none of those, None where there is none.
    """

    ref: str
    old: str
    new: str
    by: LoggedMove
    later: LoggedMove | None = None


def cutoff(text: str, now: datetime.datetime) -> datetime.datetime:
    """The time that ``10m``, ``2h``, ``3d``, or a date and time in ISO 8601 means.

    :raises UsageError: it is none of these
    """
    try:
        if text.endswith(("s", "m", "h", "d", "w")):  # a number alone looks like a date
            return now - datetime.timedelta(seconds=seconds("--since", text))
        time = datetime.datetime.fromisoformat(text)
        return time if time.tzinfo else time.astimezone()
    except (UsageError, ValueError, OverflowError) as error:
        raise UsageError(
            f"--since {text!r} is no time: give how long ago, such as 90s, 10m, 2h or 3d, or a date and time such as 2026-01-31T14:00."
        ) from error


def account(change: LoggedMove) -> str:
    """The account that pushed, without the words about a signature."""
    return change.entry.pusher.partition(", signed by ")[0]


def since(changes: Sequence[LoggedMove], first: datetime.datetime) -> list[LoggedMove]:
    """The changes of refs from this time on, newest first.

    Changes by hand have no time: those count that came after the last change which is older than this time.
    """
    timed = {id(one): _time(one) for one in changes}
    before = max((one.entry.revision for one in changes if (time := timed[id(one)]) and time < first), default=0)
    return [
        one
        for one in changes
        if one.entry.ref.startswith("refs/")
        and one.kind != REAPED
        and (one.entry.revision > before if (time := timed[id(one)]) is None else time >= first)
    ]


def _time(change: LoggedMove) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(change.entry.time)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def find(
    changes: Iterable[LoggedMove], takes: Callable[[LoggedMove], bool], destroys: Callable[[LoggedMove], bool]
) -> list[Loss]:
    """What each ref lost by the newest run of changes that are taken, with no other change of this ref among them.

    :param changes: newest first
    :param takes: whether a change is one of those that are to be undone
    :param destroys: whether a change deleted its ref, or moved it to what does not contain its old value
    """
    runs: dict[str, list[LoggedMove]] = {}
    later: dict[str, LoggedMove] = {}
    ended: set[str] = set()
    for change in changes:
        ref = change.entry.ref
        if ref in ended:
            continue
        if takes(change):
            runs.setdefault(ref, []).append(change)
        elif ref in runs:
            ended.add(ref)
        else:
            later.setdefault(ref, change)
    found = []
    for ref, run in sorted(runs.items()):
        first = next((change for change in reversed(run) if destroys(change)), None)
        if first is not None and not (first.entry.old and is_zero(first.entry.old)):
            found.append(Loss(ref, first.entry.old, run[0].entry.new, first, later.get(ref)))
    return found
