"""The peers of one repository as the group's records name them, and which of them to ask first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.etcd.model import KeyValue, Range
from piehole.group import keys, sites
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.replicate import peers
from piehole.replicate.peers import Peer, PeerHealth
from piehole.replicate.plan import Value

PATIENCE: Final = 5.0  # seconds for each request to etcd about the peers
_KNOWN_FOR: Final = 60.0  # seconds for which the peers are asked by the addresses that they had
_ORIGINS: Final = 8  # push records that are looked up for one fetch


class PeerDirectory:
    """Safe to share between threads.

    :param fence: the mod_revision of the group's fence in the cached view. A site whose record changes writes the fence
    """

    def __init__(self, replica: Replica, health: PeerHealth, fence: Callable[[], int]) -> None:
        self.health = health
        self._replica = replica
        self._fence = fence
        # The peers, when they were looked up, and the fence at that time.
        self._known: tuple[list[Peer], float, int] = ([], float("-inf"), 0)

    def known_for(self, origin: str, wanted: Mapping[str, Value]) -> list[Peer]:
        """The peers by the addresses known here, best first; none where these may be out of date, or lack the site ``origin``."""
        known, at, fence = self._known
        if time.monotonic() - at > _KNOWN_FOR or fence != self._fence() or all(peer.site != origin for peer in known):
            return []
        return self._in_order(known, wanted, origin)

    def named(self, names: Collection[str], *, first: str, anew: bool = False) -> list[Peer]:
        """The peers of these names that are sites of the group, at the addresses known here where no site was registered since.

        :param first: the one to ask first
        :param anew: have the addresses read again
        :raises EtcdError: the peers could not be looked up
        """
        known, _, fence = self._known
        if anew or fence != self._fence() or not {peer.site for peer in known}.issuperset(names):
            self.candidates({})
            known = self._known[0]
        return self.first([peer for peer in known if peer.site in names], first)

    def candidates(self, wanted: Mapping[str, Value], few: int = 0) -> tuple[list[Peer], bool]:
        """The peers to ask, best first, and whether there are others.

        :param few: so many are enough, the site that pushed apart; 0: all
        """
        config, deadline, fence = self._replica.config, Deadline(PATIENCE), self._fence()
        push = Range(self._replica.keyspace.ref(config.group, keys.PUSH))
        # All in one round trip: where etcd's members are far apart, each costs as much as the fetch itself.
        listed = sites.read_sites(self._replica, deadline, push, limit=few)
        everybody, newest = listed.sites, listed.more[0]
        origin = self._origin(wanted, newest.kvs, deadline)
        if listed.cut and origin and all(one.site != origin for one in everybody):
            everybody = [*sites.find_site(self._replica, origin, deadline), *everybody]
        # One without an id has a record that cannot be read: `piehole sites` and `piehole check` name it.
        found = [
            Peer(one.site, one.url, one.revision, one.left, bool(one.corrupt))
            for one in everybody
            if one.id and one.site != config.site
        ]
        self._known = (found, time.monotonic(), fence)
        return self._in_order(found, wanted, origin), listed.cut

    def _in_order(self, found: list[Peer], wanted: Mapping[str, Value], origin: str) -> list[Peer]:
        revision = max((value.mod_revision for value in wanted.values()), default=0)
        return peers.order(found, revision, origin, self.health.suspect)

    def _origin(self, wanted: Mapping[str, Value], newest: Sequence[KeyValue], deadline: Deadline) -> str:
        """The site that made the newest of the pushes that brought these values; else the one that pushed last of all."""
        last = newest[0].mod_revision if newest else 0
        for revision in sorted({value.mod_revision for value in wanted.values()}, reverse=True)[:_ORIGINS]:
            if revision == last:
                break
            site = self.pushed_at(revision, deadline)
            if site:
                return site
        push = PushRecord.of(newest[0] if newest else None)
        return push.site if push is not None else ""

    def pushed_at(self, revision: int, deadline: Deadline) -> str:
        """The site whose push this revision is, ``""`` where that is not known."""
        try:
            push = self._replica.reader.push_at(revision, deadline)
        except PieholeError:
            return ""
        return push.site if push is not None else ""

    def first(self, candidates: Sequence[Peer], origin: str) -> list[Peer]:
        """The candidates with this site before all others, unless it failed lately."""
        return sorted(candidates, key=lambda peer: peer.site != origin or self.health.suspect(peer.site))
