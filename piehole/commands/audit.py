"""Compare what the group agreed on with what every site holds.

A site whose progress record is as new as the group's newest change and carries a digest is compared by that alone
(:mod:`piehole.replicate.ref_digest`); any other one is asked for its refs, as a fetch would ask. What differs is compared again with a
newer reading of the group, since pushes go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

from piehole.deadline import Deadline
from piehole.errors import GitError, Halted, PieholeError, UsageError
from piehole.group import rollback_guard
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.long_work import doing
from piehole.refs import PIEHOLE_REFS, is_managed, is_zero, short, zero
from piehole.replicate import ref_digest
from piehole.replicate.plan import DesiredState, Value, desired_state
from piehole.repository import verification
from piehole.transfer.git_fetch import list_refs
from piehole.transfer.urls import parse_url

FORMAT: Final = 1
IN_SYNC: Final = "in sync"
BEHIND: Final = "behind"
AHEAD: Final = "ahead"
MISSING: Final = "missing"
UNREACHABLE: Final = "unreachable"
LEFT: Final = "left"
_RANK: Final = (IN_SYNC, LEFT, BEHIND, AHEAD, MISSING, UNREACHABLE)

_PATIENCE: Final = 10.0  # seconds for each request to etcd
_LISTING: Final = 60.0  # seconds for the refs of one site
_AT_ONCE: Final = 8  # sites


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one site that is not as it should be: the sentence, and the command that fixes it."""

    state: str
    what: str
    fix: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class SiteAudit:
    """One site. ``by``: how it was compared: ``digest``, ``refs`` (asked for over the network), ``disk`` (this site), ``""``: not at all.

    ``unknown``: refs that it has and the group has not; they do not count.
    """

    site: str
    this: bool = False
    by: str = ""
    revision: int | None = None
    refs: int = 0
    left: bool = False
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    verified: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def state(self) -> str:
        """The worst of what was found."""
        if self.left:
            return LEFT
        return max((one.state for one in self.findings), key=_RANK.index, default=IN_SYNC)


@dataclass(frozen=True, slots=True)
class Audit:
    """One group, as seen from this site. ``revision``: of etcd, when the group was read; ``notes``: what changed among the sites meanwhile."""

    replica: Replica
    revision: int = 0
    refs: int = 0
    locked: Mapping[str, str] = field(default_factory=dict)
    sites: tuple[SiteAudit, ...] = ()
    notes: tuple[str, ...] = ()
    halted: Halted | None = None

    @property
    def in_sync(self) -> bool:
        return self.halted is None and all(one.state in (IN_SYNC, LEFT) for one in self.sites)

    def as_json(self) -> dict[str, Any]:
        """The form that ``piehole audit --json`` promises (piehole.cli.audit)."""
        config = self.replica.config
        return {
            "repository": str(config.git_dir),
            "group": config.group,
            "site": config.site,
            "revision": self.revision,
            "refs": self.refs,
            "in_sync": self.in_sync,
            "halted": {"token": self.halted.token, "why": str(self.halted)} if self.halted else None,
            "locked": dict(self.locked),
            "notes": list(self.notes),
            "sites": [_site_json(one) for one in self.sites],
        }


def _site_json(one: SiteAudit) -> dict[str, Any]:
    return {
        "site": one.site,
        "this": one.this,
        "state": one.state,
        "by": one.by or None,
        "revision": one.revision,
        "refs": one.refs,
        "findings": [{"state": f.state, "ref": f.ref or None, "what": f.what, "fix": f.fix} for f in one.findings],
        "unknown": list(one.unknown),
        "verified": dict(one.verified) or None,
        "note": one.note or None,
    }


def audit(replica: Replica, *, fresh: bool = False) -> Audit:
    """Compare one group with all of its sites.

    :param fresh: ask every site for its refs, also where its digest says that it is in sync
    :raises EtcdError: etcd could not be used
    :raises GitError: git failed where it must not
    """
    before = list_sites(replica, Deadline(_PATIENCE))
    # Read after the sites' progress: what a site has published is not newer than this.
    state = replica.reader.list_group(Deadline(_PATIENCE))
    halted = rollback_guard.check_group(replica.config, state.group.value if state.group else None)
    found = Audit(replica, state.revision, halted=halted)
    if halted is not None:
        return found
    comparison = _Comparison(replica, state, fresh)
    sites: list[SiteAudit] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        doing("comparing the sites", 0, len(before), "sites")
        for one in pool.map(comparison.site, before):
            sites.append(one)
            doing("comparing the sites", len(sites), len(before), "sites")
    asked = [one for one in sites if one.by != "digest"]
    after = {one.site: one for one in list_sites(replica, Deadline(_PATIENCE))} if asked else {}
    if asked:
        sites = [_left_meanwhile(one, after) for one in sites]
    joined = sorted(after.keys() - {one.site for one in before})
    own = comparison.desired(replica.config.exclude)
    return replace(
        found,
        refs=sum(not is_zero(value.oid) for value in own.refs.values()),
        locked=own.locked,
        sites=tuple(sites),
        notes=tuple(f"the site {site!r} joined while this ran, and was not compared: run it again" for site in joined),
    )


def _left_meanwhile(one: SiteAudit, after: Mapping[str, GroupSite]) -> SiteAudit:
    now = after.get(one.site)
    if one.left or (now is not None and not now.left):
        return one
    note = "it left the group while this ran, so what it holds does not count"
    if now is None:
        note = "its record vanished from etcd while this ran, so it does not count; its controller registers it again"
    return replace(one, left=True, findings=(), unknown=(), note=note)


class _Comparison:
    """One reading of the group, compared with one site after the other, from several threads."""

    def __init__(self, replica: Replica, state: GroupState, fresh: bool) -> None:
        self._replica = replica
        self._state = state
        self._fresh = fresh

    def desired(self, exclude: Sequence[str], state: GroupState | None = None) -> DesiredState:
        return desired_state((state or self._state).entries, self._replica.config.object_format, exclude)

    def site(self, one: GroupSite) -> SiteAudit:
        config = self._replica.config
        this = one.site == config.site and one.id == config.site_id
        progress = one.progress
        found = SiteAudit(one.site, this, left=one.left, revision=progress.revision if progress else None)
        if one.left:
            return found
        if one.fault:
            fix = f"run `piehole install` at {one.site} again, or `piehole leave --site {one.site}` where it is gone for good"
            return replace(found, findings=(Finding(UNREACHABLE, one.fault, fix),))
        if progress is not None:
            found = replace(found, verified=progress.verified)
        corrupt = verification.corrupt(config.git_dir) if this else one.corrupt
        exclude = config.exclude if this else progress.exclude if progress else ()
        desired = self.desired(exclude)
        count = sum(not is_zero(value.oid) for value in desired.refs.values())
        proven = progress is not None and bool(progress.digest) and one.revision >= desired.newest
        if proven and progress is not None and not self._fresh and not this:
            proven = progress.digest == ref_digest.digest_of_group(desired)
            if proven:
                return replace(found, by="digest", refs=count, findings=_objects(one.site, corrupt, this))
        try:
            held = self._held(one, this)
        except PieholeError as error:
            return replace(found, findings=(*_objects(one.site, corrupt, this), _unreachable(one, error, desired)))
        differing = _differing(desired, held)
        if differing:
            # Unless they have moved meanwhile.
            newer = self._replica.reader.list_group(Deadline(_PATIENCE))
            desired = self.desired(exclude, newer)
            differing &= _differing(desired, held)
        moved = tuple(self._finding(one, ref, held, desired, this) for ref in sorted(differing))
        unknown = sorted(
            ref for ref in held if ref not in desired.refs and ref not in desired.locked and is_managed(ref, exclude)
        )
        findings = (*_objects(one.site, corrupt, this), *moved)
        return replace(
            found,
            by="disk" if this else "refs",
            refs=count,
            findings=findings,
            unknown=tuple(unknown),
        )

    def _held(self, one: GroupSite, this: bool) -> Mapping[str, str]:
        """The refs of a site.

        :raises PieholeError: it cannot be asked
        """
        config = self._replica.config
        if this:
            return self._replica.repository.observe().refs
        peer = parse_url(one.url, config.allow_protocol)
        found = list_refs(self._replica.git_dir, peer, object_format=config.object_format, patience=_LISTING)
        return {
            ref: oid
            for ref, oid in found.items()
            if ref.startswith("refs/") and not ref.startswith(PIEHOLE_REFS) and not ref.endswith("^{}")
        }

    def _finding(self, one: GroupSite, ref: str, held: Mapping[str, str], desired: DesiredState, this: bool) -> Finding:
        none = zero(self._replica.config.object_format)
        here, wanted = held.get(ref, none), desired.refs[ref]
        at = "at this site" if this else f"at {one.site}"
        values = f"{ref} is at {short(here)} {at}, the group has {short(wanted.oid)}"
        once = f"`piehole reconcile --once {self._replica.git_dir}`" if this else f"`piehole reconcile --once` {at}"
        where = f"run {once}, or see that its controller runs"
        claimed = one.revision >= wanted.mod_revision
        if not claimed or self._contains(wanted, here):
            return Finding(BEHIND, values, where, ref)
        if is_zero(here):
            return Finding(
                MISSING, f"{ref} is missing {at}, which has published that it has it ({short(wanted.oid)})", where, ref
            )
        return Finding(
            AHEAD,
            f"{values}: it was moved there without a push",
            f"{where}; it goes back to the group's value, and the tip is kept",
            ref,
        )

    def _contains(self, wanted: Value, here: str) -> bool:
        return not is_zero(here) and not is_zero(wanted.oid) and self._replica.repository.contains(wanted.oid, here)


def _differing(desired: DesiredState, held: Mapping[str, str]) -> set[str]:
    return {
        ref for ref, value in desired.refs.items() if held.get(ref, "") != ("" if is_zero(value.oid) else value.oid)
    }


def _objects(site: str, corrupt: str, this: bool) -> tuple[Finding, ...]:
    if not corrupt:
        return ()
    fix = "`piehole audit --deep --repair` here" if this else f"`piehole audit --deep --repair` at {site}"
    at = "this site" if this else site
    return (
        Finding(
            MISSING,
            f"objects that {at} claims to have are missing or damaged: {corrupt}",
            f"{fix}, where its controller does not repair it",
        ),
    )


def _unreachable(one: GroupSite, error: PieholeError, desired: DesiredState) -> Finding:
    late = sum(value.mod_revision > one.revision for value in desired.refs.values())
    told = f"; by its progress record it lacks {late} of the group's newest changes" if late else ""
    if isinstance(error, UsageError):
        return Finding(
            UNREACHABLE,
            f"{one.site} cannot be asked for its refs: {error}",
            "`git config --add piehole.allowProtocol …` here, or `piehole install --url` there",
        )
    said = error.stderr if isinstance(error, GitError) and error.stderr else str(error)
    fix = f"see that this account can run `git ls-remote {one.url}`; a site that is lost for good: `piehole leave --site {one.site}`"
    return Finding(UNREACHABLE, f"{one.site} cannot be asked for its refs: {' '.join(said.split())}{told}", fix)
