"""What a chaos run happens in: a real etcd of three members, three to five sites, and a relay on every link between them."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from piehole.repository.hook_files import HOOKS
from piehole.repository.stale_locks import old_locks
from tests.fault.history.clock import Clock
from tests.fault.history.evidence import Ending, Look, Loss, Read
from tests.fault.history.objects import Pool
from tests.fault.history.operations import OperationLog
from tests.fault.history.place import Place, mount_disk, unmount_disk
from tests.fault.history.recorder import Recorder
from tests.fault.history.relay import Relays
from tests.fault.history.witness import Witness
from tests.support import git
from tests.support.etcd import EtcdCluster
from tests.support.etcd_raw import RawEtcdError
from tests.support.groups import Group

ROOT: Final = Path(__file__).resolve().parents[3]
_WRITE_HOOKS: Final = (
    "import sys, pathlib, piehole.repository.hook_files; piehole.repository.hook_files.write(pathlib.Path(sys.argv[1]))"
)
_CRASHES: Final = ("Traceback", "controller.broken", "answer.crashed", "turn.crashed")
_SETTINGS: Final = {"piehole.hookTimeout": "4", "piehole.catchUp": "0.4", "piehole.copiesTimeout": "2"}
_DISK_SITE: Final = 1
_CLOCK_SITE: Final = 2


@dataclass
class Bed:
    """:param source: the tree whose ``piehole``, ``controller`` and ``hooks`` are run
    :param copies: what the group promises; ``witness`` sees its swaps where that is more than one
    """

    folder: Path
    cluster: EtcdCluster
    group: Group
    relays: Relays
    places: list[Place]
    pool: Pool
    log: OperationLog
    recorder: Recorder
    source: Path = ROOT
    copies: int = 1
    witness: Witness | None = None
    looks: list[Look] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    lacks: tuple[str, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def place(self, name: str) -> Place:
        return next(place for place in self.places if place.site.name == name)

    def look(self, name: str, passed: int = 0, claimed: int = 0) -> None:
        """Take down what users see at a site. From any thread; looks of one site are in the order of time."""
        place = self.place(name)
        with self._lock, place.disk:
            # What a record claimed that was made before the site lost its disk says nothing about the new one.
            if not place.is_lost and (not claimed or claimed > place.lost_at_revision):
                self.looks.append(Look(name, place.site.refs(), passed, claimed, time.monotonic()))

    def revision(self) -> int:
        """etcd's, from whichever member answers.

        :raises RawEtcdError: none does
        """
        for member in self.cluster.members[:-1]:
            try:
                return member.raw.revision()
            except RawEtcdError:
                continue
        return self.cluster.members[-1].raw.revision()

    def install(self, place: Place, *, replace: bool = False) -> None:
        """Make the repository, and make it a site of the group."""
        self.group.settings["piehole.readGate"] = place.read_gate
        place.site.build(endpoints=[link.endpoint for link in place.links], replace=replace)
        if self.source != ROOT:
            git_dir = place.site.repository
            command = [sys.executable, "-c", _WRITE_HOOKS, str(git_dir)]
            subprocess.run(command, env=self.group.environment, check=True, timeout=60)
            for hook in HOOKS:
                assert f"{self.source}/hooks/entry.py" in (git_dir / "hooks" / hook).read_text(), (
                    f"{hook} does not run {self.source}"
                )

    def promise(self) -> None:
        """Have the group promise its copies, and see each swap from now on."""
        if self.copies < 2:
            return
        witness = Witness(
            self.pool,
            self.group.prefix,
            self.copies,
            lambda: {place.site.name: place.site.repository for place in self.places if not place.is_lost},
        )
        for place in self.places:
            for link in place.links:
                link.inspect = witness.look
        self.witness = witness
        self.places[0].site.piehole("group", "set", "copies", str(self.copies))

    def heal(self) -> None:
        """Everything runs and is connected."""
        for member in self.cluster.members:
            member.resume()
            if not member.alive:
                member.launch()
        for place in self.places:
            place.heal()
        self.cluster.wait_healthy()

    def converged(self, timeout: float) -> str:
        """Wait until all sites are in step; returns why not, ``""`` where they are.

        A lock that git had taken a moment before it was killed, and that no hook had seen, is left to an administrator: so what `status`
        reports as nobody's is removed, once nobody pushes any more, before the sites get a second chance.
        """
        try:
            self.group.in_step(timeout=timeout)
        except AssertionError as error:
            if not self._remove_nobodys_locks():
                return str(error)
            return self.converged(timeout)
        self.recorder.wait_for(self.group.etcd.revision())
        return ""

    def _remove_nobodys_locks(self) -> bool:
        found = [
            place.site.repository / name
            for place in self.places
            for name, sentence in old_locks(place.site.repository).items()
            if "where no git process holds it any more" in sentence  # one that a record names is piehole's to remove
        ]
        for lock in found:
            lock.unlink(missing_ok=True)
        return bool(found)

    def endings(self) -> list[Ending]:
        """What each site holds now; its controller is ended first, so that nothing moves meanwhile."""
        found = []
        for place in self.places:
            crash = "" if place.site.running else "it ended by itself"
            place.site.kill()
            repository = place.site.repository
            done = _fsck(repository)
            if done.returncode and "for commit-graph" in done.stderr:
                # `git repack -a -d` after a ref is gone leaves a graph that lists its commits. The next `git gc` writes it anew.
                git.git(repository, "commit-graph", "write", "--reachable")
                done = _fsck(repository)
            walked = git.git(repository, "rev-list", "--all", check=False)
            found.append(
                Ending(
                    place.site.name,
                    place.site.refs(),
                    frozenset(walked.stdout.split()),
                    fsck=(f"{done.stdout}{done.stderr}".strip() if done.returncode else "") + walked.stderr.strip(),
                    crash=crash or _crash(place.site.log_text()),
                )
            )
        return found


def _fsck(repository: Path) -> subprocess.CompletedProcess[str]:
    return git.git(repository, "fsck", "--full", "--strict", "--no-dangling", "--no-progress", check=False)


@contextmanager
def make_bed(
    folder: Path,
    binary: Path,
    *,
    sites: int = 3,
    source: Path = ROOT,
    copies: int = 1,
    read_gates: Sequence[str] = ("off",),
) -> Iterator[Bed]:
    """A bed whose sites are founded, joined and running, with nothing pushed yet.

    :param read_gates: of the sites, in turn
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ends:
        cluster = EtcdCluster(binary, folder / "etcd", 3)
        ends.callback(cluster.kill)
        cluster.start()
        relays = Relays()
        ends.callback(relays.end)
        prefix = f"/piehole-{uuid4().hex}"
        group = Group(folder / "group", cluster.endpoints, prefix, settings=_SETTINGS)
        ends.callback(group.end)
        # Else `-m` takes the working directory for the place of the packages.
        group.environment.update({"PYTHONPATH": str(source), "PYTHONSAFEPATH": "1"})
        pool = Pool(git.make_bare(folder / "pool.git"))
        recorder = Recorder(cluster.endpoints, prefix, lambda *_: None)
        bed = Bed(folder, cluster, group, relays, [], pool, OperationLog(), recorder, source, copies)
        bed.recorder = Recorder(cluster.endpoints, prefix, _Watcher(bed))
        bed.recorder.start()
        ends.callback(bed.recorder.end)
        for number in range(sites):
            bed.places.append(_make_place(folder, bed, number, ends))
        for place, mode in zip(bed.places, itertools.cycle(read_gates), strict=False):
            place.read_gate = mode
            bed.install(place)
        for place in bed.places:
            place.launch()
        for place in bed.places:
            place.site.wait_served()
        if bed.places[_CLOCK_SITE].clock is None:
            bed.lacks = ("clock",)
        bed.promise()
        yield bed


def _make_place(folder: Path, bed: Bed, number: int, ends: ExitStack) -> Place:
    site = bed.group.add(chr(ord("a") + number))
    mounted = number == _DISK_SITE and mount_disk(site.root)
    if mounted:
        ends.callback(unmount_disk, site.root)
    site.root.mkdir(parents=True, exist_ok=True)
    clock = None
    if number == _CLOCK_SITE and (shutil.which("cc") or shutil.which("gcc")):
        clock = Clock(folder)
    links = [bed.relays.to(member.ports[0]) for member in bed.cluster.members]
    place = Place(folder, site, bed.relays, links, source=bed.source, mounted=mounted, clock=clock)
    ends.callback(place.end)
    return place


def _crash(log: str) -> str:
    """The first line that tells of an error which the controller was not made for."""
    return next((line for line in log.splitlines() if any(word in line for word in _CRASHES)), "")


class _Watcher:
    """Looks at a site as soon as it claims to have come further."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    def __call__(self, revision: int, key: str, value: str | None) -> None:
        found = re.fullmatch(rf"{re.escape(self._bed.group.prefix)}/progress/{self._bed.group.name}/([^/]+)", key)
        claimed = re.search(r'"revision": ?(\d+)', value or "")
        if found and claimed and any(place.site.name == found[1] for place in self._bed.places):
            self._bed.look(found[1], int(claimed[1]), revision)
