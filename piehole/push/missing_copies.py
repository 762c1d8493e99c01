"""What a pusher is told where fewer sites hold a push than the group promises."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from piehole.deadline import Deadline
from piehole.errors import EtcdError
from piehole.group import alive, outlook, promise
from piehole.group.outlook import duration
from piehole.group.records import GroupRecord
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Fewer sites than promised hold it. ``warns``: the group's setting lets the push pass all the same."""

    sentence: str
    warns: bool


def missing(
    replica: Replica,
    record: GroupRecord,
    sites: Collection[GroupSite],
    held_by: Collection[str],
    waited: float,
    deadline: Deadline,
) -> Shortfall:
    """Say which sites have not answered, and how old their last word is."""
    members = promise.members(sites)
    needed = promise.needed(record, members)
    here = replica.config.site
    promised = f"the group promises {record.copies} copies"
    if needed > len(members):
        what = f"{promised} and has {_sites(len(members))}: {', '.join(members)}. Add a site"
    else:
        what = (
            f"{promised} ({needed} of {_sites(len(members))}), and after {duration(waited)} only {', '.join([here, *sorted(held_by)])} "
            f"held the new objects. {_reasons(replica, record, sites, held_by, deadline)} Push again when they answer"
        )
    how = "have an administrator lower the promise (`piehole group set copies N`)"
    if record.warns:
        return Shortfall(f"{what}, or {how}. It goes on all the same (copiesElse = warn)", True)
    return Shortfall(f"{what}, or {how}", False)


def _reasons(
    replica: Replica, record: GroupRecord, sites: Collection[GroupSite], held_by: Collection[str], deadline: Deadline
) -> str:
    try:
        heard = alive.heard(replica, sites, deadline)
    except EtcdError:
        heard = None
    unable = outlook.outlook(record, sites, heard, receiving=replica.config.site).unable
    silent = [one.site for one in sites if not one.left and one.site not in (replica.config.site, *held_by)]
    return "; ".join(f"{site}: {unable.get(site) or _alive(site, heard)}" for site in silent) + "."


def _alive(site: str, heard: dict[str, float] | None) -> str:
    since = None if heard is None else heard.get(site)
    return (
        "no answer" if since is None else f"no answer, though its controller gave a sign of life {duration(since)} ago"
    )


def _sites(number: int) -> str:
    return "1 site" if number == 1 else f"{number} sites"
