"""Fetching the objects of a plan from whichever peers have them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import PieholeError, TransferError
from piehole.group.replica import Replica
from piehole.long_work import BYTES, doing
from piehole.replicate import peers
from piehole.replicate.holdings import Holdings
from piehole.replicate.peer_directory import PATIENCE, PeerDirectory
from piehole.replicate.peers import FetchAttempt, HedgedFetch, HedgedOutcome, Peer, PeerHealth, divided, lacked
from piehole.replicate.plan import Value
from piehole.transfer import connectivity
from piehole.transfer.fetch import Fetched, fetch
from piehole.transfer.keep_files import Hold
from piehole.transfer.watchdog import Limits

_FEW: Final = 16  # peers that are looked up at first: in a group of a thousand sites each fetch would else read a thousand records
_SHARES: Final = 64  # push records that are looked up where no peer has all of what is wanted


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
        failed: Callable[[str, str], None] | None = None,
        fence: Callable[[], int] = lambda: 0,
        holdings: Holdings | None = None,
    ) -> None:
        """
        :param failed: called with a site that could not be fetched from and the reason, also where another one had the objects
        :param fence: the mod_revision of the group's fence in the cached view. A site whose record changes writes the fence
        """
        self._replica = replica
        self.directory = PeerDirectory(replica, health, fence)
        self._limits = limits or Limits()
        self._failed = failed
        self._holdings = holdings or Holdings()

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
        held = self._holdings.lend(wanted, hold, stop)
        if not held:
            return self._fetch_missing(wanted, haves, hold, stop, origin)
        missing = {oid: value for oid, value in wanted.items() if oid not in held}
        came = self._fetch_missing(missing, haves, hold, stop, origin)
        parents = {oid: tip.parents for oid, tip in held.items() if tip.parents is not None}
        senders = (tip.site for tip in held.values() if tip.site)
        return replace(came, peers=tuple(dict.fromkeys([*senders, *came.peers])), parents={**came.parents, **parents})

    def _fetch_missing(
        self, wanted: Mapping[str, Value], haves: Sequence[str], hold: Hold, stop: threading.Event | None, origin: str
    ) -> FetchSummary:
        if not wanted:
            return FetchSummary({})
        if origin:
            fresh = self._from_origin(origin, wanted, haves, hold, stop)
            if fresh is not None:
                return fresh
        git_dir = self._replica.git_dir
        doing("looking which objects are here already")
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
        candidates, others = self.directory.candidates(asked, _FEW)
        lacking: dict[str, str] = {}
        used: list[str] = []
        received = 0
        batches = [_Batch(sorted(missing))]
        while batches:
            batch = batches.pop()
            if stop is not None and stop.is_set():
                lacking.update(dict.fromkeys(batch.oids, "this piehole is being stopped"))
                continue
            result = self.from_any(self.directory.first(candidates, batch.origin), batch.oids, haves, hold, stop)
            if result.fetched is None and others and not (stop is not None and stop.is_set()):
                candidates, others = self.directory.candidates(asked)
                result = self.from_any(self.directory.first(candidates, batch.origin), batch.oids, haves, hold, stop)
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
        candidates, _ = self.directory.candidates({})
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
        candidates = self.directory.candidates({})[0] if oids else []
        for oid in oids:
            if stop is None or not stop.is_set():
                self.from_any(candidates, [oid], haves, hold, stop)

    def _from_origin(
        self, origin: str, wanted: Mapping[str, Value], haves: Sequence[str], hold: Hold, stop: threading.Event | None
    ) -> FetchSummary | None:
        """Fetch what was pushed a moment ago from the site that took the push, at the address known here; None where that failed.

        Whether it is here already is not asked: it hardly ever is, and a peer sends nothing that the haves contain.
        """
        known = self.directory.known_for(origin, wanted)
        if not known:
            return None
        if any((self._replica.git_dir / "objects" / oid[:2] / oid[2:]).exists() for oid in wanted):
            return None
        result = self.from_any(known, sorted(wanted), haves, hold, stop)
        if result.fetched is None:
            return None
        return FetchSummary({}, (result.site,), result.fetched.bytes, result.fetched.parents)

    def _parts(self, batch: _Batch, wanted: Mapping[str, Value], failures: Mapping[str, str]) -> list[_Batch]:
        """The batches to ask for next, after no peer could give all of this one.

        Where several sites take pushes at once none has all of them, but each has its own.
        """
        if not batch.by_origin and len({lacked(why) for why in failures.values()}) > 1:
            shares = self._by_origin(batch.oids, wanted)
            if len(shares) > 1:
                return [_Batch(oids, site, True) for site, oids in shares.items()]
        return [replace(batch, oids=part) for part in divided(batch.oids, failures)]

    def _by_origin(self, oids: Sequence[str], wanted: Mapping[str, Value]) -> dict[str, list[str]]:
        """The oids by the site that pushed them, ``""`` where that is not known."""
        deadline = Deadline(PATIENCE)
        revisions = sorted({wanted[oid].mod_revision for oid in oids}, reverse=True)[:_SHARES]
        pushed = {revision: self.directory.pushed_at(revision, deadline) for revision in revisions}
        shares: dict[str, list[str]] = {}
        for oid in oids:
            shares.setdefault(pushed.get(wanted[oid].mod_revision, ""), []).append(oid)
        return shares

    def from_any(
        self,
        candidates: Sequence[Peer],
        wants: Sequence[str],
        haves: Sequence[str],
        hold: Hold,
        stop: threading.Event | None,
        *,
        known: bool = True,
        more: Callable[[], Sequence[Peer]] = tuple,
        received: Callable[[int], None] | None = None,
    ) -> HedgedOutcome:
        """Fetch from the first peer that can, and note which peers failed.

        :param known: the haves are known to exist
        :param more: peers that may have the objects by now
        :param received: called with the bytes of each attempt so far
        """

        def attempt_fetch(attempt: FetchAttempt) -> Fetched:
            return self._fetch(attempt, wants, haves, known=known, received=received)

        # Whoever has nothing yet is not filled from a corrupt site, but for what only that one has.
        first, last_resort = peers.for_first_clone(candidates) if not haves else (candidates, ())
        result = HedgedFetch(first, attempt_fetch, hold, more).run(stop)
        if result.fetched is None and last_resort and len(wants) == 1:
            if all(lacked(why) for why in result.failures.values()):
                result = HedgedFetch(last_resort, attempt_fetch, hold).run(stop)
            else:
                result = replace(result, failures={**result.failures, **peers.not_asked(last_resort)})
        for name, why in result.failures.items():
            if lacked(why) is None:  # a peer that does not have an object yet has not failed
                self.directory.health.failed(name)
                if self._failed is not None:
                    self._failed(name, why)
        if result.fetched is not None:
            self.directory.health.succeeded(result.site)
        return result

    def _fetch(
        self,
        attempt: FetchAttempt,
        wants: Sequence[str],
        haves: Sequence[str],
        *,
        known: bool = True,
        received: Callable[[int], None] | None = None,
    ) -> Fetched:
        what = f"fetching from {attempt.peer.site}"
        doing(what, 0, unit=BYTES)

        def progressed(count: int) -> None:
            attempt.received = count
            if received is not None:
                received(count)
            doing(what, count, unit=BYTES)

        with self._measured(attempt):
            return fetch(
                self._replica.git_dir,
                attempt.peer.url,
                wants,
                haves,
                allowed=self._replica.config.allow_protocol,
                limits=self._limits,
                object_format=self._replica.config.object_format,
                present=haves if known else (),
                shared=self._replica.config.shared,
                hold=attempt.hold,
                progress=progressed,
                stop=attempt.stop,
            )

    @contextmanager
    def _measured(self, attempt: FetchAttempt) -> Iterator[None]:
        """Tell of this attempt whoever wants to know."""
        measure = self.directory.health.fetched
        if measure is None:
            yield
            return
        began, result = monotonic(), "failed"
        try:
            yield
            result = "ok"
        except PieholeError as error:
            result = "cancelled" if attempt.stop.is_set() else "lacking" if lacked(str(error)) else "failed"
            raise
        finally:
            measure(attempt.peer.site, result, attempt.received, monotonic() - began)
