"""Makes the view of one repository from what its controller knows of it, and of the other sites of its group."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from itertools import islice
from shlex import quote
from typing import Final

from controller import overview
from controller.disk_facts import DiskFacts
from controller.group_news import GroupNews
from controller.overview import LastPush, RepositoryView, ShownFault, SiteView
from controller.served_repository import ServedRepository
from controller.site_watch import SiteWatch
from piehole.etcd.model import KeyValue
from piehole.group import alive
from piehole.group.keys import FENCE, PUSH
from piehole.group.outlook import CopiesOutlook, outlook
from piehole.group.records import PushRecord
from piehole.group.sites import GroupSite
from piehole.replicate import plan
from piehole.replicate.local_changes import UNADOPTED
from piehole.repository import verification

_SHOWN: Final = 100  # faults of one kind
_NO_REFS: Final = (PUSH, FENCE)
_COMMAND: Final = re.compile(r"`(piehole [^`]+)`")
_WITH_C: Final = ("accept", "audit", "check", "clobber", "status")  # commands whose -C may follow them at once


def refused(repository: str, why: str, version: int) -> RepositoryView:
    """The view of a repository that is not served."""
    fault = ShownFault(overview.REFUSED, "", why, _fix(why, repository))
    return RepositoryView(repository, "", "", overview.REFUSED, version, faults=(fault,), counts={overview.REFUSED: 1})


def describe(
    served: ServedRepository,
    complaint: str,
    news: GroupNews | None,
    watch: SiteWatch | None,
    disk: DiskFacts | None,
    version: int,
) -> RepositoryView:
    """The view of a served repository. What is not known yet is left out, and counts as behind.

    :param complaint: why it cannot be served as it is configured now, ``""`` where it can
    """
    config, report = served.config, served.report
    group_view = served.etcd_view.view(config.group)
    newest = news.newest() if news is not None else 0
    everybody = watch.sites(config.group) if watch is not None else []
    own = next((one.revision for one in everybody if one.site == config.site and one.id == config.site_id), -1)
    revision = max(own, report.revision) if report is not None and report.converged else own
    faults = _faults(served)
    if complaint:
        faults[overview.REFUSED] = [ShownFault(overview.REFUSED, "", complaint, _fix(complaint, str(config.git_dir)))]
    counts = {kind: len(several) for kind, several in faults.items() if several}
    state = _state(counts, behind=report is None or news is None or revision < newest)
    names = group_view.entries
    sites = tuple(
        _own_site(config.site, state, revision, newest, names, news, one)
        if one.site == config.site
        else _site(one, newest, names, news, watch, config.verify_every)
        for one in everybody
    )
    if not any(one.this for one in sites):  # not registered yet, or the sites are not listed yet
        sites = (_own_site(config.site, state, revision, newest, names, news, None), *sites)
    if news is not None and watch is not None and watch.synced:
        news.forget(min((one.revision for one in sites if one.state != overview.LEFT), default=0))
    return RepositoryView(
        str(config.git_dir),
        config.group,
        config.site,
        state,
        version,
        revision,
        newest,
        len(names) - sum(name in names for name in _NO_REFS),
        sites,
        tuple(fault for several in faults.values() for fault in islice(several, _SHOWN)),
        counts,
        _last_push(group_view.entries.get(PUSH)),
        disk.kept if disk is not None else None,
        _copies(served, watch, everybody),
        disk.proven if disk is not None else "",
        disk is not None and disk.overdue,
    )


def _state(counts: Mapping[str, int], *, behind: bool) -> str:
    for state in (overview.HALTED, overview.CORRUPT, overview.STUCK):
        if counts.get(state):
            return state
    return overview.BEHIND if behind or counts.get(overview.FAILING) else overview.IN_STEP


def _faults(served: ServedRepository) -> dict[str, list[ShownFault]]:
    """All that is wrong at this site, by kind."""
    report, halted = served.report, served.halted
    path = str(served.config.git_dir)
    here = quote(path)
    found: dict[str, list[ShownFault]] = {}
    if halted is not None:
        words = f"{halted.token}: {halted}"
        found[overview.HALTED] = [ShownFault(overview.HALTED, "", words, _fix(str(halted), path))]
    if served.trouble:
        found[overview.FAILING] = [ShownFault(overview.FAILING, "", served.trouble, f"piehole check -C {here}")]
    if report is None:
        return found
    if report.corrupt:
        repair = f"piehole audit --repair -C {here}"
        found[overview.CORRUPT] = [ShownFault(overview.CORRUPT, "", report.corrupt, repair)]
    found[overview.STUCK] = [
        ShownFault(overview.STUCK, ref, why, _fix_of_stuck(ref, why, here)) for ref, why in report.stuck.items()
    ]
    found[overview.LOCKED] = [
        ShownFault(overview.LOCKED, ref, why, f"piehole clobber -C {here} {quote(ref)}")
        for ref, why in report.locked.items()
    ]
    found[overview.UNADOPTED] = [
        ShownFault(overview.UNADOPTED, ref, UNADOPTED, f"piehole clobber -C {here} {quote(ref)}")
        for ref in report.unadopted
    ]
    return found


def _fix_of_stuck(ref: str, why: str, here: str) -> str:
    """(Made anew, not taken from the reason: that may hold what a peer has said.)"""
    if why.startswith(plan.SYMBOLIC):
        return f"git -C {here} symbolic-ref --delete {quote(ref)}"
    if why.startswith(plan.SECOND):
        return f"piehole clobber -C {here} --delete {quote(ref)}"
    return f"piehole check -C {here}"


def _fix(sentence: str, repository: str) -> str:
    """The first command in a sentence of piehole's, so that it works from any folder; or one that examines the repository.

    What is copied into a shell must be words alone: a sentence may name what others have chosen.
    """
    for found in _COMMAND.findall(sentence):
        try:
            words = shlex.split(found)
        except ValueError:
            continue
        if shlex.join(words) == found:
            if words[1] in _WITH_C and "-C" not in words:
                words[2:2] = ["-C", repository]
            return shlex.join(words)
    return f"piehole check -C {quote(repository)}"


def _own_site(
    name: str,
    state: str,
    revision: int,
    newest: int,
    refs: Mapping[str, KeyValue],
    news: GroupNews | None,
    known: GroupSite | None,
) -> SiteView:
    """This site, judged by its refs."""
    late = news is not None and revision < newest
    return SiteView(
        name,
        True,
        state,
        _newer(refs, revision) if late else 0,
        news.behind_since(name, revision) if news is not None and late else None,
        revision,
        known.progress.time if known is not None and known.progress else "",
    )


def _site(
    one: GroupSite,
    newest: int,
    refs: Mapping[str, KeyValue],
    news: GroupNews | None,
    watch: SiteWatch | None,
    every: float,
) -> SiteView:
    if one.left:
        return SiteView(one.site, False, overview.LEFT)
    late = news is not None and one.revision < newest
    proven = str(one.progress.verified.get("proven", "")) if one.progress else ""
    heard = watch.heard_at(one) if watch is not None else None
    silent = heard is not None and watch is not None and watch.listened_at - heard > alive.SILENT_AFTER
    return SiteView(
        one.site,
        False,
        overview.CORRUPT
        if one.corrupt
        else overview.NEVER_SEEN
        if one.progress is None
        else overview.BEHIND
        if late
        else overview.IN_STEP,
        _newer(refs, one.revision) if late else 0,
        news.behind_since(one.site, one.revision) if news is not None and late else None,
        one.revision,
        one.progress.time if one.progress else "",
        heard if silent else None,
        proven,
        bool(proven) and verification.overdue(proven, every),
        one.fault or one.corrupt,
    )


def _newer(refs: Mapping[str, KeyValue], revision: int) -> int:
    return sum(kv.mod_revision > revision and name not in _NO_REFS for name, kv in refs.items())


def _last_push(kv: KeyValue | None) -> LastPush | None:
    push = PushRecord.of(kv)
    if kv is None or push is None:
        return None
    at = verification.seconds_of(push.time)
    kind = str(push.extra.get("kind", ""))
    return LastPush(push.id, push.site, push.pusher, push.time, at, kind, kv.mod_revision)


def _copies(served: ServedRepository, watch: SiteWatch | None, sites: list[GroupSite]) -> CopiesOutlook | None:
    record = watch.group(served.config.group) if watch is not None else None
    if record is None or watch is None or not sites:
        return None
    heard = None
    if watch.knows_signs:
        known = ((one.site, watch.heard_at(one)) for one in sites)
        heard = {site: watch.listened_at - at for site, at in known if at is not None}
    site, halted = served.config.site, served.halted is not None
    return outlook(record, sites, heard, receiving=site, halted=halted)
