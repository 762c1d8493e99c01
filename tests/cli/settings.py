"""The settings of a group, as an administrator sees and changes them."""

from __future__ import annotations

import json
from typing import Any

from piehole.deadline import Deadline
from piehole.group.alive import Presence
from tests.support.command_line import Answer, piehole_in_process
from tests.support.groups import Group


def group(world: Group, *arguments: str, site: str = "a") -> Answer:
    action, *rest = arguments
    return piehole_in_process("group", action, "-C", world[site].repository, *rest)


def record(world: Group) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.etcd.get(f"{world.prefix}/group/g") or "{}")
    return found


def write_record(world: Group, **fields: object) -> None:
    world.etcd.put(f"{world.prefix}/group/g", json.dumps(record(world) | fields))


def revision(world: Group, name: str) -> int:
    found = world.etcd.look(world.key(name))
    return found.mod_revision if found else 0


def living(world: Group, *sites: str) -> None:
    """The controllers of these sites have given a sign of life."""
    for site in sites:
        replica = world[site].replica()
        Presence(replica.etcd, replica.keyspace, f"of {site}").give({site: {replica.config.site_id}}, Deadline(5))
