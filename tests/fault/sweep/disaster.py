"""The server that receives a push and the pusher's laptop are destroyed, both with their disks, in a group that promises two copies.

The push moves one ref by force and creates another, all or none. The other sites reconcile nothing until all is destroyed, so that they have
no more than what they were asked to hold. The destroyed disks are set aside, so nothing of them counts; what the other sites have and no
ref reaches is pruned. Then a new machine takes over the site's name.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed
from tests.fault.sweep.pushes import outcome
from tests.fault.sweep.story import OF_A_COPY, OF_A_PUSH
from tests.support import git
from tests.support.assertions import accepted
from tests.support.pushes import finish, start_push
from tests.support.wait import until

ANSWER = "answer"  # no step: the push was answered
LEASE = "lease-ended"  # no step: answered, after the lease of its request has ended right before its swap
_PATIENCE = 60.0  # seconds for what takes one on an idle machine
# Steps that a push reaches only where it is disturbed.
_LOST_ANSWER = (Step.FENCING, Step.FENCED)


@dataclass(frozen=True)
class Disaster:
    """``step``: at which all is destroyed; ``direct``: no controller runs at the site that is pushed to."""

    step: str
    direct: bool = False

    @property
    def name(self) -> str:
        return f"{self.step}{'-direct' if self.direct else ''}"


def disasters() -> list[Disaster]:
    steps = [value for name, value in vars(Step).items() if name.isupper()]
    pushed = [step for step in steps if step in OF_A_PUSH]
    held = [step for step in steps if step in OF_A_COPY]
    with_controller = [Disaster(step) for step in (*pushed, *held, ANSWER) if step != Step.NOTING]
    with_controller.append(Disaster(LEASE))
    return with_controller + [Disaster(step, direct=True) for step in (*pushed, ANSWER, LEASE)]


class DisasterStory:
    def __init__(self, bed: Bed, disaster: Disaster) -> None:
        self._bed = bed
        self._disaster = disaster
        self._home, self._others = bed.sites[0], bed.sites[1:]
        bed.runs += 1
        self._one, self._two = (f"refs/heads/run{bed.runs}/{name}" for name in ("one", "two"))
        self._laptop = bed.group.folder / f"laptop{bed.runs}"
        self._aside = bed.group.folder / f"destroyed{bed.runs}"
        self._aside.mkdir()

    def tell(self, *, begin_again: bool = True) -> list[str]:
        """Everything that does not hold, a line each; at the end three sites are in step.

        :param begin_again: have a new machine take over
        """
        bed, home = self._bed, self._home
        bed.forget()
        bed.mend()
        bed.promise(2)
        git.clone(home.repository, self._laptop)
        git.git(self._laptop, "checkout", "-q", "-B", "work", bed.base)
        first = git.commit(self._laptop, "first")
        forced, new = (self._beside(first, text) for text in ("by force", "a second branch"))
        # A push that was judged by the promise of before is refused, with "push again".
        command = (self._laptop, home.repository, f"{first}:{self._one}")
        until(lambda: git.push(*command).returncode == 0, _PATIENCE, "the first push is accepted")
        bed.group.arrives(self._one, first, timeout=_PATIENCE)
        if self._disaster.direct:
            bed.stop_controller(home)
        told = self._push({self._one: forced, self._two: new})
        found = self._judge(told, first, {self._one: forced, self._two: new})
        if begin_again:
            self._begin_again()
            bed.promise(1)
        return found

    def _beside(self, commit: str, message: str) -> str:
        """A commit that does not contain this one."""
        tree = git.git(self._laptop, "rev-parse", f"{commit}^{{tree}}").stdout.strip()
        return git.git(self._laptop, "commit-tree", tree, "-p", self._bed.base, "-m", message).stdout.strip()

    def _push(self, moves: dict[str, str]) -> str:
        """Push, and destroy everything when it has come to the step; returns what the pusher was told."""
        step, home = self._disaster.step, self._home
        if step in _LOST_ANSWER:
            home.order(Step.SWAPPED, "error")
        sites = self._others if step in OF_A_COPY else [] if step in (ANSWER, LEASE) else [home]
        orders = [(site, site.order(step, "hold")) for site in sites]
        quiet = [(site, site.order(Step.RECONCILING, "hold")) for site in self._others]
        disturb = self._disturbance(step)
        refspecs = [f"+{oid}:{ref}" for ref, oid in moves.items()]
        push = start_push(self._laptop, home.repository, "--atomic", *refspecs)
        if disturb:
            disturb()
        if orders:
            until(
                lambda: any(site.obeyed(order) for site, order in orders),
                _PATIENCE,
                f"the push comes to {step}, or ends: {push.poll()}",
            )
        else:
            push.wait(_PATIENCE)
        self._destroy()
        done = finish(push)
        for site in self._others:
            git.git(site.repository, "gc", "--quiet", "--prune=now", check=False)
        for site, order in (*orders, *quiet):
            if site is not home and site.obeyed(order):
                site.release(order)
        for site in self._others:
            site.forget()
        return outcome(done.returncode, done.stderr)

    def _disturbance(self, step: str) -> Callable[[], None] | None:
        """What happens right before the first swap; None: nothing."""
        if step not in (Step.REBASING, LEASE):
            return None
        hold = self._home.order(Step.PREPARED_BEGUN if step == Step.REBASING else Step.PROPOSING, "hold")

        def disturb() -> None:
            until(lambda: self._home.obeyed(hold), _PATIENCE, "the push is held before its swap")
            if step == LEASE:
                self._end_lease()
            else:
                self._bed.group.put("@fence", "{}")  # so that a second swap is proposed
            self._home.release(hold)

        return disturb

    def _end_lease(self) -> None:
        """What was held for the push goes, and is pruned."""
        self._bed.group.etcd.delete_prefix(self._bed.group.key("@copies/"))
        for site in self._others:
            until(lambda site=site: not _held(site.repository), 25, f"{site} releases what it held")  # type: ignore[misc]
            git.git(site.repository, "gc", "--quiet", "--prune=now")

    def _destroy(self) -> None:
        """The server with all that runs on it, and the laptop."""
        repository = self._home.repository
        self._home.kill()
        while killed := _kill_below(repository):
            until(lambda killed=killed: not any(map(_runs, killed)), 10, "what ran there has ended")  # type: ignore[misc]
        shutil.move(repository, self._aside / repository.name)
        shutil.move(self._laptop, self._aside / "laptop")

    def _judge(self, told: str, first: str, moves: dict[str, str]) -> list[str]:
        found = []
        agreed = {ref: self._bed.group.value(ref) for ref in moves}
        if told == "ok" and agreed != moves:
            found.append(f"the push was acknowledged, and the group has {agreed}")
        if agreed not in (moves, {self._one: first, self._two: None}):
            found.append(f"half of the push is there: {agreed}")
        try:
            self._bed.group.in_step(self._others, timeout=20.0)
        except AssertionError as error:
            found.append(f"the group names what no site has: {error}")
            return found
        for site in self._others:
            done = git.git(site.repository, "fsck", "--full", "--strict", "--no-dangling", check=False)
            if done.returncode:
                found.append(f"fsck at {site.name}: {done.stdout}{done.stderr}")
            held = git.git(site.repository, "rev-list", "--all").stdout.split()
            if first not in held:
                found.append(f"{first} was acknowledged and overwritten, and is not kept at {site.name}")
        return found

    def _begin_again(self) -> None:
        """A new machine takes over the name, and pushes go on there."""
        bed, home = self._bed, self._home
        home.forget()
        home.build(replace=True)
        home.launch()
        bed.mend()
        bed.group.in_step(timeout=_PATIENCE)
        again = bed.commit(bed.base, f"again {bed.runs}")
        accepted(git.push(bed.work, home.repository, f"+{again}:{self._one}"))
        bed.group.arrives(self._one, again, timeout=_PATIENCE)


def _held(repository: Path) -> str:
    return git.git(repository, "for-each-ref", "refs/piehole/held").stdout


def _kill_below(repository: Path) -> list[int]:
    """Kill what works in this repository or names it; returns the pids."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            works_here = os.readlink(entry / "cwd") == str(repository)
            names_it = str(repository).encode() in (entry / "cmdline").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().split(b"\0")[:2]
        except OSError:
            continue  # it ended while we looked
        if works_here or (names_it and b"push" not in command):
            os.kill(int(entry.name), signal.SIGKILL)
            found.append(int(entry.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
