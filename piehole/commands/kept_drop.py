"""``piehole kept drop``: ask every site to remove objects for good, and say which sites have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from piehole.commands import clobber, kept
from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.group import drops
from piehole.group.drops import DROPPED, DropRequest
from piehole.group.group_state import live
from piehole.group.replica import Replica
from piehole.group.sites import list_sites
from piehole.long_work import doing
from piehole.refs import HELD_REFS, KEPT_REFS, decode, is_managed, is_oid, short
from piehole.replicate import drop
from piehole.replicate.dry_run import DryRun

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_LOOK_EVERY: Final = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """What one site has done about one object. ``result`` is ``""`` where it has not answered yet."""

    oid: str
    site: str
    result: str
    why: str
    time: str

    @property
    def is_done(self) -> bool:
        return self.result == DROPPED

    def as_json(self) -> dict[str, Any]:
        return {"oid": self.oid, "site": self.site, "result": self.result, "why": self.why, "time": self.time}


def find(replica: Replica, words: Sequence[str]) -> list[str]:
    """The objects that these words mean: whole oids, or the beginning of one that was asked for already or is kept here.

    :raises UsageError: a word is no oid
    :raises PieholeError: no such object, or more than one
    :raises EtcdError: etcd could not be used
    """
    asked = drops.read(replica, Deadline(_PATIENCE))
    found = []
    for word in words:
        begun = [oid for oid in asked if oid.startswith(kept.check_oid(replica, word))]
        found.append(begun[0] if len(begun) == 1 else kept.find(replica, word))
    return list(dict.fromkeys(found))


def examine(replica: Replica, oids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of these objects are to be asked for anew, and lines that say what goes with each of them.

    What was asked for already and is not here any more is left out.

    :raises Halted: this site must not act on what etcd holds
    :raises PieholeError: a ref contains one of them, or that cannot be told
    :raises EtcdError: etcd could not be used
    """
    seen = clobber.examine(replica)
    if seen.halted is not None:
        raise seen.halted
    requests = drops.read(replica, Deadline(_PATIENCE))
    here = drop.is_there(replica, oids)
    new = [oid for oid in oids if oid not in requests or (oid in here and _is_done_here(replica, requests[oid]))]
    lines: list[str] = []
    if any(oid in here for oid in new):
        _refuse_behind(replica, seen)
    for oid in new:
        if oid not in here:
            lines.append(f"{oid}: not here; the other sites look")
            continue
        found = drop.holders(replica, oid, seen.observed.refs)
        foreign = [ref for ref in found if not ref.startswith((KEPT_REFS, HELD_REFS))]
        if foreign:
            raise PieholeError(_contained(replica, oid, foreign))
        names = [ref.removeprefix(KEPT_REFS) for ref in found if ref.startswith(KEPT_REFS)]
        with_it = f" with the kept tip{'s' if names[1:] else ''} {', '.join(map(short, names))}" if names else ""
        lines.append(f"{oid}: goes{with_it}, and with all that nothing else here contains")
    return new, lines


def ask(replica: Replica, oids: Sequence[str], pusher: str) -> None:
    """Ask all sites to remove these objects, and begin here.

    :raises EtcdError: etcd could not be used
    """
    drops.ask(replica, oids, pusher, Deadline(_PATIENCE))
    doing("removing them here")
    drop.work(replica, _of(drops.read(replica, Deadline(_PATIENCE)), oids))


def standings(replica: Replica, oids: Sequence[str]) -> list[Standing]:
    """What each site that has not left has done about these objects; of all requests where none are named.

    :raises EtcdError: etcd could not be used
    """
    requests = drops.read(replica, Deadline(_PATIENCE))
    everybody = [one for one in list_sites(replica, Deadline(_PATIENCE)) if not one.left]
    found = []
    for request in (_of(requests, oids) if oids else requests).values():
        for one in everybody:
            outcome = request.answer_of(one.site, one.id)
            time_ = request.answers[one.site].time if outcome is not None else ""
            result, why = (outcome.result, outcome.why) if outcome is not None else ("", "")
            found.append(Standing(request.oid, one.site, result, why, time_))
    return found


def wait(replica: Replica, oids: Sequence[str], seconds: float) -> list[Standing]:
    """The standings when all sites have done it, or after so many seconds.

    :raises EtcdError: etcd could not be used
    """
    deadline = Deadline(seconds)
    while True:
        found = standings(replica, oids)
        doing("waiting for the other sites", sum(one.is_done for one in found), len(found), "answers")
        if all(one.is_done for one in found) or deadline.passed:
            return found
        time.sleep(min(_LOOK_EVERY, deadline.remaining()))


def forget(replica: Replica, oids: Sequence[str], *, dry: bool = False) -> None:
    """Remove the requests for these objects, which all sites have followed.

    :param dry: only look whether they have

    :raises PieholeError: some site has yet to do it
    :raises EtcdError: etcd could not be used
    """
    left = [one for one in standings(replica, oids) if not one.is_done]
    if left:
        raise PieholeError(
            f"{left[0].site} has yet to drop {short(left[0].oid)}: the request stays until it has. If that site is gone, "
            f"`piehole leave --site {left[0].site}` first."
        )
    for oid in () if dry else oids:
        drops.forget(replica, oid, Deadline(_PATIENCE))


def _of(requests: dict[str, DropRequest], oids: Sequence[str]) -> dict[str, DropRequest]:
    return {oid: requests[oid] for oid in oids if oid in requests}


def _is_done_here(replica: Replica, request: DropRequest) -> bool:
    outcome = request.answer_of(replica.config.site, replica.config.site_id)
    return outcome is not None and outcome.result == DROPPED


def _refuse_behind(replica: Replica, seen: DryRun) -> None:
    """Refuse where the group has a commit that is not here: nobody could tell whether it contains the object."""
    config = replica.config
    values = {
        name: decode(kv.value.removesuffix(b"\n"))
        for name, kv in seen.state.entries.items()
        if is_managed(name, config.exclude) and live(kv)
    }
    behind = {
        name: oid
        for name, oid in values.items()
        if is_oid(oid, config.object_format) and seen.observed.refs.get(name) != oid
    }
    if behind:
        ref, oid = next(iter(behind.items()))
        raise PieholeError(
            f"nothing was asked for: this site has not reached {ref} at {short(oid)} yet, so it cannot tell whether the group still "
            "contains it. Wait until `piehole status` says that it is in step."
        )


def _contained(replica: Replica, oid: str, refs: Sequence[str]) -> str:
    of_group = [ref for ref in refs if is_managed(ref, replica.config.exclude)]
    named = f"{', '.join(refs[:5])}{' …' if refs[5:] else ''}"
    if not of_group:
        return (
            f"nothing was asked for: {named} of this repository contain{'' if refs[1:] else 's'} {short(oid)}. "
            f"Delete it here first (`git update-ref -d {refs[0]}`)."
        )
    return (
        f"nothing was asked for: {short(oid)} is in the history of {named}, and what a ref contains cannot go. Rewrite that history without it "
        "and push it with --force, or delete the ref; what that leaves behind is kept, and can be dropped then."
    )
