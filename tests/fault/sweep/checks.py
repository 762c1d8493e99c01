"""What must hold after each story, whatever happened in it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from tests.fault.sweep.bed import Bed, Faulty
from tests.fault.sweep.pushes import ZERO, Attempt
from tests.fault.sweep.story import Told
from tests.support import git
from tests.support.wait import until

_AFTER_A_WHILE = 12.0  # seconds
_LOOK_EVERY = 0.7  # seconds


@dataclass(frozen=True)
class Value:
    """One value that a ref's key has had; ``pusher`` as its push record has it, ``""`` where there was none."""

    revision: int
    value: str | None
    pusher: str


def violations(bed: Bed, told: Told) -> list[str]:
    """Everything that does not hold, a line each."""
    histories = _histories(bed, told)
    found = [fault for ref, values in histories.items() for fault in chain(ref, values, told.log.attempts)]
    found += promises(told.log.attempts, histories)
    found += together(told.log.attempts, histories)
    for site in bed.sites:
        found += _unlike(bed, site, told)
        found += _unsound(site)
        found += _unreachable(site, told)
    return found + _leftovers(bed)


# ---- pure


def chain(ref: str, values: list[Value], attempts: list[Attempt]) -> list[str]:
    """Each value was brought by a push that a user made, and from a value that is the one before, or that its commit contains."""
    by_name = {one.name: one for one in attempts}
    found = []
    before: str | None = None
    for value in values:
        if value.value is None:
            if before != ZERO:
                found.append(f"{ref}: the key went at revision {value.revision}, and was at {before}")
        elif value.pusher not in by_name:
            found.append(f"{ref}: nobody pushed {value.value} (revision {value.revision}, pusher {value.pusher!r})")
        elif by_name[value.pusher].moves.get(ref) != value.value:
            found.append(f"{ref}: {value.pusher} did not push {value.value}")
        elif value.value == before:
            found.append(f"{ref}: {value.value} twice in a row")
        before = value.value
    return found


def promises(attempts: list[Attempt], histories: dict[str, list[Value]]) -> list[str]:
    """Acknowledged: exactly once. Refused: never. Unknown: at most once. Pushes of the same value are one."""
    outcomes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for one in attempts:
        for ref, new in one.moves.items():
            outcomes[ref, new].add(one.outcome)
    found = []
    for (ref, new), made in outcomes.items():
        times = sum(value.value == new for value in histories.get(ref, []))
        wanted = {1} if "ok" in made else {0, 1} if "unknown" in made else {0}
        if times not in wanted:
            found.append(f"{ref}: {new} is {times} times in the history, and the pushes of it ended {sorted(made)}")
    refused = {one.name for one in attempts if one.outcome == "refused"}
    found += [
        f"{ref}: the push of {value.pusher} was refused, and is in the history at revision {value.revision}"
        for ref, values in histories.items()
        for value in values
        if value.pusher in refused and value.value is not None
    ]
    return found


def together(attempts: list[Attempt], histories: dict[str, list[Value]]) -> list[str]:
    """The refs of one atomic push have one revision, or none is there."""
    found = []
    for one in attempts:
        revisions = [
            {value.revision for value in histories.get(ref, []) if value.pusher == one.name and value.value == new}
            for ref, new in one.moves.items()
        ]
        if any(at != revisions[0] for at in revisions):
            found.append(f"{one.name}: its refs moved apart: {dict(zip(one.moves, revisions, strict=True))}")
    return found


# ---- asking etcd and git


def _histories(bed: Bed, told: Told) -> dict[str, list[Value]]:
    group = bed.group
    pushers = {
        change.revision: str(json.loads(change.value or "{}").get("pusher", ""))
        for change in group.etcd.history(group.key("@push"), told.since)
    }
    refs = {ref for one in told.log.attempts for ref in one.moves}
    return {
        ref: [
            Value(change.revision, change.value, pushers.get(change.revision, ""))
            for change in group.etcd.history(group.key(ref), told.since)
        ]
        for ref in sorted(refs)
    }


def _unlike(bed: Bed, site: Faulty, told: Told) -> list[str]:
    """What is not here as the group has it at the end, which is what the users pushed last."""
    found = []
    here = site.refs()
    for ref, oid in told.finally_.items():
        agreed = bed.group.value(ref)
        if (here.get(ref), agreed) != (oid, oid):
            found.append(f"{ref} is at {here.get(ref)} at {site.name}, {agreed} in the group, and was pushed to {oid}")
    until(lambda: git.git(site.repository, "symbolic-ref", "HEAD").stdout.strip() == told.head, 20, "HEAD follows")
    return found


def _unsound(site: Faulty) -> list[str]:
    while True:
        packs = set((site.repository / "objects" / "pack").iterdir())
        done = git.git(site.repository, "fsck", "--full", "--strict", "--no-dangling", check=False)
        if not done.returncode and not done.stderr.strip():
            return []
        # A repack under its feet takes away packs that fsck has listed.
        if packs == set((site.repository / "objects" / "pack").iterdir()):
            return [f"fsck at {site.name}: {done.stdout}{done.stderr}"]


def _unreachable(site: Faulty, told: Told) -> list[str]:
    """Commits that were acknowledged and that this site had, without a ref or kept tip that holds them now."""
    had = {
        new
        for one in told.log.attempts
        for ref, new in one.moves.items()
        if new != ZERO and one.outcome == "ok" and (one.site == site.name or _was_here(site.repository, ref, new))
    }
    held = set(git.git(site.repository, "rev-list", "--all").stdout.split())
    return [f"{oid} was acknowledged, and is not reachable at {site.name}" for oid in sorted(had - held)]


def _was_here(repository: Path, ref: str, oid: str) -> bool:
    log = repository / "logs" / ref
    return log.exists() and f" {oid} " in log.read_text()


def _leftovers(bed: Bed) -> list[str]:
    """Locks and temporary files that are still there after a while in which nobody pushes."""

    looked = 0.0

    def clean() -> bool:
        nonlocal looked
        if time.monotonic() - looked > _LOOK_EVERY:
            looked = time.monotonic()
            bed.look_around()
        return not any(left(site.repository) for site in bed.sites)

    try:
        until(clean, _AFTER_A_WHILE)
    except AssertionError:
        # A controller sweeps what an error left at its next resync; nobody waits ten minutes for that here.
        for site in bed.sites:
            site.reconcile()
    else:
        return []
    try:
        until(clean, _AFTER_A_WHILE)
    except AssertionError:
        return [f"left at {site.name}: {path}" for site in bed.sites for path in left(site.repository)]
    return []


# Files that stay on purpose: they are locked (flock), and say nothing by being there.
_STAY = frozenset(
    {
        *("piehole/lock", "piehole/state.lock", "piehole/catching-up.lock", "piehole/controller.lock"),
        *("piehole/verified.lock", "piehole/verifying.lock", "piehole/repair.lock", "piehole/removal.lock"),
    }
)
_TRACES = (
    "**/*.lock",
    "**/*.tmp",
    "**/*.new",
    "objects/**/tmp_*",
    "objects/piehole-quarantine-*",
    "objects/pack/*.keep",
    "piehole/inflight/*",
)


def left(repository: Path) -> list[str]:
    # (pathlib's glob raises where a folder vanishes under its feet.)
    found = {
        path for trace in _TRACES for path in glob(trace, root_dir=repository, recursive=True, include_hidden=True)
    }
    packs = repository / "objects" / "pack"
    found |= {
        path.relative_to(repository).as_posix()
        for path in packs.glob("pack-*")
        if path.suffix in (".pack", ".rev", ".idx")
        and not (path.with_suffix(".idx").exists() and path.with_suffix(".pack").exists())
    }
    # git leaves the quarantine of a receive-pack that was killed, and `git prune` takes it away.
    return sorted(one for one in found - _STAY if not one.startswith("objects/tmp_objdir-incoming-"))
