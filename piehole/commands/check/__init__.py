"""``piehole check``: is this installation sound? Each module looks at one side, and each fault names its mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from piehole.commands.check import chained_hooks, credentials, disk, etcd_links, gitolite, group, neighbours
from piehole.group.replica import Local
from piehole.repository.fitness import Fault, faults

__all__ = ["Checkup", "Fault", "examine"]


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found. ``answered``: whether any endpoint of etcd did; without, the group could not be looked at."""

    found: tuple[Fault, ...]
    answered: bool

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.found if not fault.warning)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.found if fault.warning)


def examine(local: Local) -> Checkup:
    """Look at everything that can be looked at without changing anything.

    :raises GitError: git cannot even read the configuration
    """
    links = etcd_links.links(local)
    found = [*faults(local.git_dir), *disk.faults(local), *chained_hooks.faults(local.git_dir)]
    found += gitolite.faults(local.git_dir)
    found += [*credentials.faults(local.config.credentials), *neighbours.twins(local), *etcd_links.faults(links)]
    answered = any(not link.error for link in links)
    if answered:
        found += _with_etcd(local)
    return Checkup(tuple(found), answered)


def _with_etcd(local: Local) -> Iterator[Fault]:
    yield from etcd_links.limits(local)
    yield from group.faults(local)
    yield from neighbours.peers(local)
