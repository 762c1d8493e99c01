"""Fetching the objects of a plan from whichever peers have them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError, TransferError
from piehole.etcd.model import KeyValue, Range
from piehole.group import keys, sites
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.replicate import peers
from piehole.replicate.peers import FetchAttempt, HedgedFetch, HedgedOutcome, Peer, PeerHealth
from piehole.replicate.plan import Value
from piehole.transfer import connectivity
from piehole.transfer.fetch import Fetched, fetch
from piehole.transfer.keep_files import Hold
from piehole.transfer.watchdog import Limits

_LACKS: Final = re.compile(r"does not have ([0-9a-f]{40,64})")  # transfer.fetch promises these words
_FEW: Final = 16  # peers that are looked up at first: in a group of a thousand sites each fetch would else read a thousand records
_PATIENCE: Final = 5.0  # seconds for each request to etcd about the peers
_KNOWN_FOR: Final = 60.0  # seconds for which the peers are asked by the addresses that they had
_ORIGINS: Final = 8  # push records that are looked up for one fetch,
_SHARES: Final = 64  # and where no peer has all of it


@dataclass(frozen=True, slots=True)
class FetchSummary:
    """What came. ``lacking``: the wanted oids that are still not here, each with the reason. ``parents``: of commits that came, where known."""

    lacking: Mapping[str, str]
    peers: tuple[str, ...] = ()
    bytes: int = 0
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Oids to be fetched at once, first of all from ``origin``. ``by_origin``: they are one site's share."""

    oids: list[str]
    origin: str = ""
    by_origin: bool = False


class ObjectFetcher:
    """Fetches missing objects into one repository."""

    def __init__(
        self,
        replica: Replica,
        health: PeerHealth,
        *,
        limits: Limits | None = None,
        progress: Callable[[str, int], None] | None = None,
        failed: Callable[[str, str], None] | None = None,
        fence: Callable[[], int] = lambda: 0,
    ) -> None:
        """
        :param progress: called with the site that sends and the bytes received so far
        :param failed: called with a site that could not be fetched from and the reason, also where another one had the objects
        :param fence: the mod_revision of the group's fence in the cached view. A site whose record changes writes the fence
        """
        self._replica = replica
        self._health = health
        self._limits = limits or Limits()
        self._progress = progress
        self._failed = failed
        self._fence = fence
        # The peers, when they were looked up, and the fence at that time.
        self._known: tuple[list[Peer], float, int] = ([], float("-inf"), 0)

    def fetch(
        self,
        wanted: Mapping[str, Value],
        haves: Sequence[str],
        hold: Hold,
        stop: threading.Event | None = None,
        *,
        origin: str = "",
    ) -> FetchSummary:
        """Have the closure of every wanted oid here, proven and protected from pruning until ``hold`` ends.

        :param haves: tips that local refs hold
        :param origin: the site to which this has just been pushed; given where the haves are known to exist
        :raises EtcdError: the peers could not be looked up
        """
        if not wanted:
            return FetchSummary({})
        if origin:
            fresh = self._from_origin(origin, wanted, haves, hold, stop)
            if fresh is not None:
                return fresh
        git_dir = self._replica.git_dir
        found = connectivity.check_closures(git_dir, list(wanted), bases=haves)
        missing, haves = found.missing, found.bases
        present = [oid for oid in wanted if oid not in missing]
        try:
            if present:
                connectivity.secure(git_dir, present, hold=hold)
        except TransferError:
            # They were pruned between the two checks: they are as good as missing.
            missing = set(wanted)
        if not missing:
            return FetchSummary({})
        asked = {oid: wanted[oid] for oid in missing}
        candidates, others = self._candidates(asked, _FEW)
        lacking: dict[str, str] = {}
        used: list[str] = []
        received = 0
        batches = [_Batch(sorted(missing))]
        while batches:
            batch = batches.pop()
            if stop is not None and stop.is_set():
                lacking.update(dict.fromkeys(batch.oids, "this piehole is being stopped"))
                continue
            result = self._from_any(self._first(candidates, batch.origin), batch.oids, haves, hold, stop)
            if result.fetched is None and others and not (stop is not None and stop.is_set()):
                candidates, others = self._candidates(asked)
                result = self._from_any(self._first(candidates, batch.origin), batch.oids, haves, hold, stop)
            if result.fetched is not None:
                used.append(result.site)
                received += result.fetched.bytes
            elif len(batch.oids) == 1:
                lacking[batch.oids[0]] = result.why
            else:
                # One oid that nobody has must not hold up the others.
                batches += self._parts(batch, wanted, result.failures)
        return FetchSummary(lacking, tuple(dict.fromkeys(used)), received)

    def fetch_all(self, hold: Hold, stop: threading.Event | None) -> Iterator[tuple[str, str]]:
        """Fetch all that the refs of one peer after the other hold, without relying on any object here.

        Yields each site with ``""`` or why it could not send it, for as long as the caller wants more.

        :raises EtcdError: the peers could not be looked up
        """
        candidates, _ = self._candidates({})
        for peer in candidates:
            if stop is not None and stop.is_set():
                return
            attempt = FetchAttempt(peer, hold)
            attempt.stop = stop or attempt.stop
            try:
                self._fetch(attempt, peers.listed(self._replica, peer), ())
            except PieholeError as error:
                yield peer.site, str(error)
            else:
                yield peer.site, ""

    def fetch_each(self, oids: Sequence[str], haves: Sequence[str], hold: Hold, stop: threading.Event | None) -> None:
        """Fetch each of these objects and its closure from whichever peer has it; those that nobody has are left out.

        :raises EtcdError: the peers could not be looked up
        """
        candidates = self._candidates({})[0] if oids else []
        for oid in oids:
            if stop is None or not stop.is_set():
                self._from_any(candidates, [oid], haves, hold, stop)

    def _from_origin(
        self, origin: str, wanted: Mapping[str, Value], haves: Sequence[str], hold: Hold, stop: threading.Event | None
    ) -> FetchSummary | None:
        """Fetch what was pushed a moment ago from the site that took the push, at the address known here; None where that failed.

        Whether it is here already is not asked: it hardly ever is, and a peer sends nothing that the haves contain.
        """
        known, at, fence = self._known
        if time.monotonic() - at > _KNOWN_FOR or fence != self._fence() or all(peer.site != origin for peer in known):
            return None
        if any((self._replica.git_dir / "objects" / oid[:2] / oid[2:]).exists() for oid in wanted):
            return None
        result = self._from_any(self._in_order(known, wanted, origin), sorted(wanted), haves, hold, stop)
        if result.fetched is None:
            return None
        return FetchSummary({}, (result.site,), result.fetched.bytes, result.fetched.parents)

    def _candidates(self, wanted: Mapping[str, Value], few: int = 0) -> tuple[list[Peer], bool]:
        """The peers to ask, best first, and whether there are others.

        :param few: so many are enough, the site that pushed apart; 0: all
        """
        config, deadline, fence = self._replica.config, Deadline(_PATIENCE), self._fence()
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
        return peers.order(found, revision, origin, self._health.suspect)

    def _origin(self, wanted: Mapping[str, Value], newest: Sequence[KeyValue], deadline: Deadline) -> str:
        """The site that made the newest of the pushes that brought these values; else the one that pushed last of all."""
        last = newest[0].mod_revision if newest else 0
        for revision in sorted({value.mod_revision for value in wanted.values()}, reverse=True)[:_ORIGINS]:
            if revision == last:
                break
            site = self._pushed_at(revision, deadline)
            if site:
                return site
        push = PushRecord.of(newest[0] if newest else None)
        return push.site if push is not None else ""

    def _pushed_at(self, revision: int, deadline: Deadline) -> str:
        """The site whose push this revision is, ``""`` where that is not known."""
        try:
            push = self._replica.reader.push_at(revision, deadline)
        except PieholeError:
            return ""
        return push.site if push is not None else ""

    def _first(self, candidates: Sequence[Peer], origin: str) -> list[Peer]:
        """The candidates with this site before all others, unless it failed lately."""
        return sorted(candidates, key=lambda peer: peer.site != origin or self._health.suspect(peer.site))

    def _parts(self, batch: _Batch, wanted: Mapping[str, Value], failures: Mapping[str, str]) -> list[_Batch]:
        """The batches to ask for next, after no peer could give all of this one.

        Where several sites take pushes at once none has all of them, but each has its own.
        """
        if not batch.by_origin and len({_lacked(why) for why in failures.values()}) > 1:
            shares = self._by_origin(batch.oids, wanted)
            if len(shares) > 1:
                return [_Batch(oids, site, True) for site, oids in shares.items()]
        return [replace(batch, oids=part) for part in _divided(batch.oids, failures)]

    def _by_origin(self, oids: Sequence[str], wanted: Mapping[str, Value]) -> dict[str, list[str]]:
        """The oids by the site that pushed them, ``""`` where that is not known."""
        deadline = Deadline(_PATIENCE)
        revisions = sorted({wanted[oid].mod_revision for oid in oids}, reverse=True)[:_SHARES]
        pushed = {revision: self._pushed_at(revision, deadline) for revision in revisions}
        shares: dict[str, list[str]] = {}
        for oid in oids:
            shares.setdefault(pushed.get(wanted[oid].mod_revision, ""), []).append(oid)
        return shares

    def _from_any(
        self,
        candidates: Sequence[Peer],
        wants: Sequence[str],
        haves: Sequence[str],
        hold: Hold,
        stop: threading.Event | None,
    ) -> HedgedOutcome:
        """Fetch from the first peer that can, and note which peers failed."""
        result = HedgedFetch(candidates, lambda attempt: self._fetch(attempt, wants, haves), hold).run(stop)
        for name, why in result.failures.items():
            if _lacked(why) is None:  # a peer that does not have an object yet has not failed
                self._health.failed(name)
                if self._failed is not None:
                    self._failed(name, why)
        if result.fetched is not None:
            self._health.succeeded(result.site)
        return result

    def _fetch(self, attempt: FetchAttempt, wants: Sequence[str], haves: Sequence[str]) -> Fetched:
        def progressed(received: int) -> None:
            attempt.received = received
            if self._progress is not None:
                self._progress(attempt.peer.site, received)

        return fetch(
            self._replica.git_dir,
            attempt.peer.url,
            wants,
            haves,
            allowed=self._replica.config.allow_protocol,
            limits=self._limits,
            object_format=self._replica.config.object_format,
            present=haves,
            shared=self._replica.config.shared,
            hold=attempt.hold,
            progress=progressed,
            stop=attempt.stop,
        )


def _lacked(why: str) -> str | None:
    """The oid that a peer said it does not have."""
    found = _LACKS.search(why)
    return found.group(1) if found else None


def _divided(batch: list[str], failures: Mapping[str, str]) -> list[list[str]]:
    """The parts to ask for next, after no peer could give all of the batch: the one oid that they all lack alone, else halves."""
    lacked = {_lacked(why) for why in failures.values()}
    culprit = lacked.pop() if len(lacked) == 1 else None
    if culprit in batch:
        return [[oid for oid in batch if oid != culprit], [culprit]]
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]
