"""``piehole check``: check the installation and say how to fix each problem. Each module checks one subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from piehole.commands import config
from piehole.commands.check import chained_hooks, credentials, disk, etcd_links, gitolite, group, neighbours, objects
from piehole.group.replica import Replica
from piehole.repository.fitness import Fault, faults

__all__ = ["Checkup", "Fault", "examine"]


@dataclass(frozen=True, slots=True)
class Checkup:
    """The faults and warnings that were found. ``answered``: whether any etcd endpoint answered; if none did, the group was not checked."""

    found: tuple[Fault, ...]
    answered: bool

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.found if not fault.warning)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.found if fault.warning)


def examine(replica: Replica) -> Checkup:
    """Check everything that can be checked without changing anything but the note of what was found of the objects.

    :raises GitError: git cannot even read the configuration
    """
    links = etcd_links.links(replica)
    found = [
        *faults(replica.git_dir),
        *config.faults(replica.git_dir),
        *disk.faults(replica),
        *chained_hooks.faults(replica.git_dir),
    ]
    found += objects.faults(replica)
    found += gitolite.faults(replica.git_dir)
    found += [
        *credentials.faults(replica.config.credentials),
        *neighbours.duplicates(replica),
        *etcd_links.faults(links),
    ]
    answered = any(not link.error for link in links)
    if answered:
        found += _with_etcd(replica)
    return Checkup(tuple(found), answered)


def _with_etcd(replica: Replica) -> Iterator[Fault]:
    yield from etcd_links.limits(replica)
    yield from group.faults(replica)
    yield from neighbours.peers(replica)
    yield from objects.of_other_sites(replica)
