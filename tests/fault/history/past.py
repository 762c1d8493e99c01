"""The consensus history of one group, revision by revision, from the events that etcd told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key (named without prefix and group); ``value`` is None for a deletion of the key itself."""

    revision: int
    name: str
    value: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Moment:
    """All that one revision changed. ``push`` and ``fence`` are the records that it wrote, ``{}`` where it wrote none."""

    revision: int
    refs: dict[str, str | None] = field(default_factory=dict)
    push: dict[str, Any] = field(default_factory=dict)
    fence: dict[str, Any] = field(default_factory=dict)


def moments(events: Iterable[Event]) -> list[Moment]:
    """The events by revision, in order."""
    found: dict[int, Moment] = {}
    for event in sorted(events, key=lambda one: one.revision):
        moment = found.setdefault(event.revision, Moment(event.revision))
        if event.name.startswith("refs/"):
            moment.refs[event.name] = event.value.removesuffix("\n") if event.value is not None else None
        elif event.name == "@push":
            moment.push.update(_record(event.value))
        elif event.name == "@fence":
            moment.fence.update(_record(event.value))
    return list(found.values())


def gaps(events: Iterable[Event]) -> list[str]:
    """Where an event is missing: a key's version grows by one with each put and begins with 1 after a deletion."""
    versions: dict[str, int] = {}
    found = []
    for event in sorted(events, key=lambda one: one.revision):
        known = versions.get(event.name, 0)
        expected = known + 1 if event.value is not None else 0
        if event.value is None and not known:
            found.append(f"{event.name} was deleted at revision {event.revision}, and nothing tells of its creation")
        elif event.version != expected:
            found.append(f"{event.name} has version {event.version} at revision {event.revision}, not {expected}")
        versions[event.name] = event.version
    return found


def _record(value: str | None) -> dict[str, Any]:
    try:
        record = json.loads(value or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
