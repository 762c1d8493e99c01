"""How far each site of a group has replicated, and why this one is behind. Writes nothing but what an examination has found."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from piehole.commands.lag import age, times_after
from piehole.deadline import Deadline
from piehole.errors import EtcdError, Halted
from piehole.fastpath import controller_socket
from piehole.fastpath.controller_socket import ask_status
from piehole.group import alive
from piehole.group.outlook import CopiesOutlook, outlook
from piehole.group.records import GroupRecord, RecordError
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites, ref_revisions
from piehole.refs import short
from piehole.replicate import examination
from piehole.replicate.dry_run import DryRun, dry_run
from piehole.replicate.local_changes import pending_words
from piehole.repository import verification
from piehole.repository.controller_pointer import second_controller
from piehole.repository.stale_locks import old_locks

FORMAT: Final = 1
IN_STEP: Final = "in step"
BEHIND: Final = "behind"
NEVER_SEEN: Final = "never seen"
LEFT: Final = "left"
CORRUPT: Final = "corrupt"

_POLL: Final = 0.2  # seconds
_LEAST: Final = 0.1  # seconds for an examination of objects


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """One site. ``behind``: how many refs have moved since its progress record; ``since``: when the first
    change was made that it lacks, if known.

    ``heard``: seconds since its controller last said that it lives; None where that is not known.
    """

    group_site: GroupSite
    state: str
    behind: int = 0
    since: str = ""
    heard: float | None = None

    @property
    def silent(self) -> bool:
        """Whether its controller has said nothing for too long: what others push does not get there."""
        return self.heard is not None and self.heard > alive.SILENT_AFTER and self.state != LEFT


@dataclass(frozen=True, slots=True)
class Status:
    """One repository. ``trouble``: etcd could not be read, so only the state of this disk is known.

    ``controller``: what the controller says that serves it, None where none answers; ``second``: another one that was refused here.
    ``corrupt``: what of the objects here is missing or damaged, as far as that is known. ``copies``: whether the group can keep its
    promise of copies for a push to this site; None where the group's record cannot be used.
    """

    replica: Replica
    newest: int = 0
    revision: int = 0
    halted: Halted | None = None
    pending: Mapping[str, str] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    unadopted: Sequence[str] = ()
    corrupt: str = ""
    controller: Sequence[str] | None = None
    second: str = ""
    sites: Sequence[SiteStatus] = ()
    copies: CopiesOutlook | None = None
    trouble: EtcdError | None = None

    @property
    def in_step(self) -> bool:
        """Whether this site has every value of the group. Locked and unadopted refs do not count."""
        return not (self.trouble or self.halted or self.pending or self.stuck or self.corrupt)

    @property
    def converged(self) -> bool:
        """Whether every site that has not left has every value of the group."""
        return self.in_step and all(one.state in (IN_STEP, LEFT) for one in self.sites)

    @property
    def healthy(self) -> bool:
        """Whether a controller serves this repository, none of another site is known to be silent, and there are sites enough for copies."""
        copied = self.copies is None or self.copies.kept
        return self.controller is not None and copied and not any(one.silent for one in self.sites)

    def overdue(self, one: SiteStatus) -> bool:
        """Whether the objects of a site were proven too long ago, by the setting of this site."""
        every, config = self.replica.config.verify_every, self.replica.config
        if one.group_site.site == config.site:
            return bool(verification.waits_too_long(config.git_dir, every))
        progress = one.group_site.progress
        proven = progress.verified.get("proven") if progress else None
        return one.state != LEFT and isinstance(proven, str) and verification.overdue(proven, every)

    def as_json(self) -> dict[str, Any]:
        """The form that ``piehole status --json`` promises (piehole.cli.status)."""
        config = self.replica.config
        return {
            "repository": str(config.git_dir),
            "group": config.group,
            "site": config.site,
            "revision": self.revision,
            "newest": self.newest,
            "in_step": self.in_step,
            "converged": self.converged,
            "healthy": self.healthy,
            "error": str(self.trouble) if self.trouble else None,
            "halted": {"token": self.halted.token, "why": str(self.halted)} if self.halted else None,
            "corrupt": self.corrupt or None,
            "controller": self.controller is not None,
            "controller_says": list(self.controller or ()),
            "second_controller": self.second or None,
            "pending": dict(self.pending),
            "stuck": dict(self.stuck),
            "locked": dict(self.locked),
            "unadopted": list(self.unadopted),
            "sites": [self._site_json(one) for one in self.sites],
            "copies": self.copies.as_json() if self.copies else None,
        }

    def _site_json(self, one: SiteStatus) -> dict[str, Any]:
        progress = one.group_site.progress
        return {
            "site": one.group_site.site,
            "this": one.group_site.site == self.replica.config.site,
            "state": one.state,
            "behind": one.behind,
            "since": one.since or None,
            "seconds": age(one.since),
            "heard": one.heard,
            "silent": one.silent,
            "revision": progress.revision if progress else None,
            "reported": progress.time if progress else None,
            "url": one.group_site.url,
            "fault": one.group_site.fault or None,
            "verified": dict(progress.verified) if progress and progress.verified else None,
            "overdue": self.overdue(one),
        }


def status(replica: Replica, patience: float, examine: float = examination.QUICK) -> Status:
    """The status of one repository and of all sites of its group.

    :param patience: seconds to wait for etcd
    :param examine: seconds to examine objects; if that is too short for anything, the mark of a corrupt repository is all that counts
    :raises GitError: git failed where it must not
    :raises EtcdRefused: etcd answered and said no
    """
    locks = {name.removesuffix(".lock"): why for name, why in old_locks(replica.git_dir).items()}
    # Examined first: the controller, which is asked then, repairs what was found.
    long_enough = examine >= _LEAST
    corrupt = examination.corrupt(replica, examine) if long_enough else verification.corrupt(replica.git_dir)
    controller, second = _controller(replica.git_dir), second_controller(replica.git_dir)
    now = Status(replica, stuck=locks, corrupt=corrupt, controller=controller, second=second)
    deadline = Deadline(patience)
    try:
        seen = dry_run(replica, deadline)
        everybody = list_sites(replica, deadline)
        heard = alive.heard(replica, everybody, deadline)
    except EtcdError as error:
        return replace(now, trouble=error)
    pending = _pending(replica, seen)
    # The controller knows why its last try failed, which cannot be seen from here.
    tried = {ref: why for ref, why in _stuck_by(now.controller or ()).items() if pending.pop(ref, None) is not None}
    now = replace(
        now,
        newest=seen.desired.newest,
        revision=seen.state.revision,
        halted=seen.halted,
        pending=pending,
        stuck={**seen.planned.stuck, **tried, **locks},
        locked=seen.planned.locked,
        unadopted=seen.planned.unadopted,
    )
    known = heard or {}
    sites = [replace(one, heard=known.get(one.group_site.site)) for one in _sites(now, seen, everybody, deadline)]
    return replace(now, sites=sites, copies=_copies(now, seen, everybody, heard))


def _copies(
    now: Status, seen: DryRun, everybody: Sequence[GroupSite], heard: Mapping[str, float] | None
) -> CopiesOutlook | None:
    try:
        record = GroupRecord.parse(seen.state.group.value) if seen.state.group else None
    except RecordError:
        return None
    site, halted = now.replica.config.site, now.halted is not None
    return None if record is None else outlook(record, everybody, heard, receiving=site, halted=halted)


def _controller(git_dir: Path) -> list[str] | None:
    try:
        return ask_status(str(git_dir))
    except controller_socket.NoController:
        return None


def _stuck_by(lines: Sequence[str]) -> dict[str, str]:
    words = [line.split(" ", 2) for line in lines]
    return {word[1]: word[2] for word in words if word[0] == "stuck" and len(word) == 3}


def _pending(replica: Replica, seen: DryRun) -> dict[str, str]:
    """The changes that a reconcile would still make here, and what it waits for."""
    moves = seen.planned.moves
    bases = [oid for ref, oid in seen.observed.refs.items() if ref.startswith("refs/heads/")][:64]
    wanted = [move.new for move in moves if not move.deletes]
    lacking: Collection[str] = ()
    if wanted:
        from piehole.transfer import connectivity  # which nothing else here needs

        lacking = connectivity.check_closures(replica.git_dir, wanted, bases=bases).missing
    found = dict.fromkeys(seen.planned.deferred, "a push is moving it right now")
    for move in moves:
        why = "; its objects are not here yet" if move.new in lacking else ""
        found[move.ref] = f"{short(move.old)} here, the group has {short(move.new)}{why}"
    if seen.planned.head:
        found["HEAD"] = f"{seen.observed.head or 'detached'} here, the group has {seen.planned.head}"
    return found | {ref: f"{found[ref]}: {pending_words(move)}" for ref, move in seen.changed.items()}


def _lacking(replica: Replica, wanted: Sequence[str], bases: Sequence[str]) -> Collection[str]:
    from piehole.transfer import connectivity  # which a site in step does not need

    return connectivity.check_closures(replica.git_dir, wanted, bases=bases).missing


def _sites(now: Status, seen: DryRun, everybody: Sequence[GroupSite], deadline: Deadline) -> list[SiteStatus]:
    mods = ref_revisions(seen.state)
    found = []
    for one in everybody:
        newer = [mod for mod in mods.values() if mod > one.revision]
        if one.left:
            found.append(SiteStatus(one, LEFT))
        elif one.site == now.replica.config.site:
            # This site is judged by its refs, whether or not its progress has been published.
            state = CORRUPT if now.corrupt else IN_STEP if now.in_step else BEHIND
            found.append(SiteStatus(one, state, len({*now.pending, *now.stuck})))
        elif one.corrupt:
            found.append(SiteStatus(one, CORRUPT, len(newer)))
        elif one.progress is None:
            found.append(SiteStatus(one, NEVER_SEEN, len(newer)))
        else:
            found.append(SiteStatus(one, BEHIND if newer else IN_STEP, len(newer)))
    newest = max(mods.values(), default=0)
    late = {one.group_site.revision for one in found if one.behind and 0 < one.group_site.revision < newest}
    since = times_after(now.replica, sorted(late), newest, deadline) if late else {}
    return [replace(one, since=since.get(one.group_site.revision, "") if one.behind else "") for one in found]


def wait(first: Status, waited: Deadline, patience: float) -> bool:
    """Wait until every site has reached what was the newest when ``first`` was read; whether all have in time.

    :param waited: when to stop waiting
    :raises EtcdError: etcd could not be used
    """
    replica = first.replica
    reached = {one.group_site.site for one in first.sites if one.state == IN_STEP}
    while True:
        missing = [
            one
            for one in list_sites(replica, Deadline(patience))
            if not one.left and one.site not in reached and (one.corrupt or one.revision < first.newest)
        ]
        if not missing:
            return True
        if waited.passed:
            return False
        time.sleep(min(_POLL, waited.remaining()))
