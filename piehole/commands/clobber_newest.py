"""``piehole clobber --newest``: move the consensus to the newest state that any site holds, after etcd was restored from a backup.

For each ref, the values of the group, of this repository and of every other site are compared. A value that has all the others
in its history is the newest and becomes the group's, so refs move only forward. An administrator decides about all other refs,
which are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from piehole.commands import clobber
from piehole.commands.clobber import Situation
from piehole.deadline import Deadline
from piehole.errors import GitError, PieholeError, UsageError
from piehole.group import bulk_write
from piehole.group.group_state import live
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.long_work import doing
from piehole.refs import HEAD, decode, is_managed, is_oid, short
from piehole.replicate.dry_run import DryRun
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.peers import PeerHealth
from piehole.replicate.plan import Value
from piehole.transfer import connectivity
from piehole.transfer.git_fetch import list_refs
from piehole.transfer.keep_files import Hold
from piehole.transfer.urls import parse_url

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_AT_ONCE: Final = 8
_DRY: Final = "a dry run fetches nothing"

Holdings = Mapping[str, Mapping[str, str]]  # by site: its managed refs and their oids


@dataclass(frozen=True, slots=True)
class NewestRequest:
    """Which refs (none: all managed ones), and which sites are not asked; what only these sites hold is ignored."""

    refs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one ref: ``oid`` is its new value (``""``: unchanged), ``why`` an administrator must decide (``""``: no need)."""

    oid: str = ""
    why: str = ""


def situation(replica: Replica, request: NewestRequest, hold: Hold | None) -> Situation:
    """Ask every site, fetch objects that are newer than those here, and find what would change.

    :param hold: protects fetched objects from being pruned; it must last until the situation is carried out. None: nothing is fetched
    :raises Halted: etcd holds another group, or another machine has this site's name
    :raises UsageError: HEAD is asked for, or a site to leave out does not exist
    :raises PieholeError: a site cannot be asked, or two names would conflict
    :raises EtcdError: etcd could not be used
    """
    if HEAD in request.refs:
        raise UsageError("HEAD has no newest value: use `piehole clobber HEAD` at the site that is right.")
    seen = clobber.examine(replica)
    holdings = _ask(replica, request.without)
    elsewhere = {name for refs in holdings.values() for name in refs}
    asked = clobber.meant(replica, seen, request.refs, elsewhere=elsewhere)
    holdings[replica.config.site] = {name: oid for name, oid in bulk_write.local_refs(replica).items() if name != HEAD}
    names = sorted(asked or {name for refs in holdings.values() for name in refs} | set(seen.desired.refs))
    values = {name: _values(seen, holdings, name) for name in names}
    lacking = _fetch(replica, seen, {oid for found in values.values() if len(found) > 1 for oid in found}, hold)
    verdicts: dict[str, Verdict] = {}
    for name, found_values in values.items():
        doing("comparing refs", len(verdicts), len(values), "refs")
        verdicts[name] = _judge(replica, seen, name, _holders(holdings, name), found_values, lacking)
    wanted = {name: verdict.oid for name, verdict in verdicts.items() if verdict.oid}
    undecided = [name for name, verdict in verdicts.items() if verdict.why]
    remarks = [f"{name}: {verdicts[name].why}" for name in undecided]
    found = clobber.describe(replica, seen, bulk_write.changes(seen.state, wanted), remarks, undecided=undecided)
    return replace(found, holders=_holding(replica, holdings, wanted.values()))


def newest(oids: Sequence[str], contains: Callable[[str, str], bool]) -> str:
    """The oid that has all the others in its history; ``""`` if there is none.

    :param contains: whether the history of the first oid holds the second
    """
    best = ""
    for oid in oids:
        if not best or contains(oid, best):
            best = oid
    return best if all(oid == best or contains(best, oid) for oid in oids) else ""


def _ask(replica: Replica, without: Collection[str]) -> dict[str, Mapping[str, str]]:
    """The refs of every other site, by site.

    :raises PieholeError: a site cannot be asked
    :raises UsageError: a site to leave out does not exist
    """
    everybody = list_sites(replica, Deadline(_PATIENCE))
    unknown = sorted(set(without) - {one.site for one in everybody})
    if unknown:
        raise UsageError(f"--without {unknown[0]}: the group has no such site. `piehole sites` lists them.")
    others = [one for one in everybody if one.site not in (replica.config.site, *without) and not one.left]

    def ask(one: GroupSite) -> Mapping[str, str] | str:
        try:
            peer = parse_url(one.url, replica.config.allow_protocol)
            found = list_refs(replica.git_dir, peer, object_format=replica.config.object_format)
        except GitError as error:
            return error.stderr or str(error)
        except PieholeError as error:
            return str(error)
        return {name: oid for name, oid in found.items() if is_managed(name, replica.config.exclude)}

    doing("asking the sites for their refs", 0, len(others), "sites")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = {}
        for one, answer in zip(others, pool.map(ask, others), strict=True):
            answers[one.site] = answer
            doing("asking the sites for their refs", len(answers), len(others), "sites")
    silent = {site: answer for site, answer in answers.items() if isinstance(answer, str)}
    if silent:
        reasons = "; ".join(f"{site}: {why}" for site, why in silent.items())
        options = " ".join(f"--without {site}" for site in silent)
        raise PieholeError(
            f"nothing was changed: not every site can be asked which refs it has ({reasons}). A ref that only such a site holds would be "
            f"ignored, and could be overwritten by a push. Fix that, or continue with {options}, and run this again when the site is back."
        )
    return {site: answer for site, answer in answers.items() if not isinstance(answer, str)}


def _values(seen: DryRun, holdings: Holdings, name: str) -> list[str]:
    """The oids that the group and the sites have for a ref, the group's first; no tombstone."""
    found = [refs[name] for refs in holdings.values() if name in refs]
    kv = seen.state.entries.get(name)
    if live(kv) and name in seen.desired.refs:
        found.insert(0, seen.desired.refs[name].oid)
    return list(dict.fromkeys(found))


def _holders(holdings: Holdings, name: str) -> Mapping[str, str]:
    return {site: refs[name] for site, refs in sorted(holdings.items()) if name in refs}


def _holding(replica: Replica, holdings: Holdings, oids: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each of these oids, the sites that have a ref at it, each with its id; a site that is known to be corrupt is none."""
    sound = {one.site: one.id for one in list_sites(replica, Deadline(_PATIENCE)) if one.id and not one.corrupt}
    return {
        oid: {site: sound[site] for site, refs in holdings.items() if site in sound and oid in refs.values()}
        for oid in dict.fromkeys(oids)
    }


def _fetch(replica: Replica, seen: DryRun, oids: Collection[str], hold: Hold | None) -> Mapping[str, str]:
    """Fetch these objects; return those that no site can provide, each with the reason."""
    if hold is None:
        return dict.fromkeys(connectivity.incomplete(replica.git_dir, sorted(oids)), _DRY)
    wanted = {oid: Value(oid, 0, 0) for oid in sorted(oids)}
    return ObjectFetcher(replica, PeerHealth()).fetch(wanted, list(seen.observed.refs.values()), hold).lacking


def _judge(
    replica: Replica,
    seen: DryRun,
    name: str,
    holders: Mapping[str, str],
    oids: Sequence[str],
    lacking: Mapping[str, str],
) -> Verdict:
    kv = seen.state.entries.get(name)
    held = decode(kv.value.removesuffix(b"\n")) if kv is not None else ""
    values_shown = ", ".join(f"{site} has {short(oid)}" for site, oid in holders.items())
    if kv is not None and live(kv) and not is_oid(held, replica.config.object_format):
        return Verdict(why=f"locked in the group ({held[:40]!r}): left alone")
    if kv is not None and not live(kv):
        fix = f"`piehole clobber {name}` there brings it back"
        return Verdict(why=f"deleted in the group, but {values_shown}: {fix}") if holders else Verdict()
    if held and not holders:
        fix = f"`piehole clobber --delete {name}` deletes it"
        return Verdict(why=f"the group has {short(held)}, and no site has this ref: {fix}")
    absent = [oid for oid in oids if oid in lacking]
    if absent and lacking[absent[0]] == _DRY:
        return Verdict(why=f"{short(absent[0])} is not here, and {_DRY}; {values_shown}")
    if absent:
        fix = f"`piehole clobber {name}` at the site that is right"
        return Verdict(why=f"{short(absent[0])} cannot be fetched ({lacking[absent[0]]}); {values_shown}: {fix}")
    best = newest(oids, replica.repository.contains)
    if not best:
        group = f"the group has {short(held)}, " if held else ""
        return Verdict(why=f"diverged: {group}{values_shown}: `piehole clobber {name}` at the site that is right")
    return Verdict("" if best == held else best)
