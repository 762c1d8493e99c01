"""``piehole check``: is this installation sound? Each module looks at one side, and each fault names its mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from piehole.commands.check import chained_hooks, credentials, disk, etcd_links, gitolite, group, neighbours
from piehole.group.replica import Replica
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


def examine(replica: Replica) -> Checkup:
    """Look at everything that can be looked at without changing anything.

    :raises GitError: git cannot even read the configuration
    """
    links = etcd_links.links(replica)
    found = [*faults(replica.git_dir), *disk.faults(replica), *chained_hooks.faults(replica.git_dir)]
    found += gitolite.faults(replica.git_dir)
    found += [*credentials.faults(replica.config.credentials), *neighbours.twins(replica), *etcd_links.faults(links)]
    answered = any(not link.error for link in links)
    if answered:
        found += _with_etcd(replica)
    return Checkup(tuple(found), answered)


def _with_etcd(replica: Replica) -> Iterator[Fault]:
    yield from etcd_links.limits(replica)
    yield from group.faults(replica)
    yield from neighbours.peers(replica)
