"""Whether every site can hold a new ref's name, as far as the sites have published what they can hold."""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import CONFLICT, EtcdError
from piehole.group.group_state import live
from piehole.group.limits import SiteLimits, may_be_refused
from piehole.group.replica import Replica
from piehole.push.rules import Refuse
from piehole.refs import Command

_KNOWN_FOR: Final = 60.0  # seconds
_NAMES_FOR: Final = 0.5  # seconds, so that a push of many refs lists the group once


class SiteLimitsCheck:
    """Asks etcd only about names that some disk may not be able to hold, and at most once a minute."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._known: tuple[float, dict[str, SiteLimits]] = (float("-inf"), {})
        self._names: tuple[float, Collection[str]] = (float("-inf"), ())

    def refusal(self, command: Command, deadline: Deadline) -> Refuse | None:
        """Refuse a new name that some site cannot hold. Where etcd cannot be asked, the swap will say so."""
        if not command.creates or command.deletes or not may_be_refused(command.ref):
            return None
        try:
            limits = self._limits(deadline)
            others = self._others(deadline) if any(one.folds_case or one.composes for one in limits.values()) else ()
        except EtcdError:
            return None
        for site, one in limits.items():
            why = one.objection(command.ref, others)
            if why:
                return Refuse(
                    CONFLICT,
                    f"cannot create {command.ref}: the site {site} cannot hold it ({why}); choose another name",
                )
        return None

    def _others(self, deadline: Deadline) -> Collection[str]:
        at, names = self._names
        if monotonic() - at > _NAMES_FOR:
            names = [name for name, kv in self._replica.reader.list_group(deadline).entries.items() if live(kv)]
            self._names = (monotonic(), names)
        return names

    def _limits(self, deadline: Deadline) -> dict[str, SiteLimits]:
        at, known = self._known
        if monotonic() - at > _KNOWN_FOR:
            from piehole.group import (
                sites,
            )  # few pushes need it, and one without a controller pays for what is imported

            everybody = sites.list_sites(self._replica, deadline)
            known = {one.site: one.limits for one in everybody if not one.left}
            self._known = (monotonic(), known)
        return known
