"""Brings objects here from whichever peer has them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from piehole import keys, peers
from piehole.deadline import Deadline
from piehole.errors import PieholeError, TransferError
from piehole.local import Local
from piehole.peers import Health, Peer
from piehole.plan import Value
from piehole.records import Progress, PushRecord, RecordError, SiteRecord
from piehole.transfer import connectivity
from piehole.transfer.fetch import Fetched, fetch
from piehole.transfer.hold import Hold
from piehole.transfer.limits import Limits

# A peer that has sent nothing for so long (seconds) gets a rival: the next peer is asked beside it.
_HEDGE: Final = 2.0
_ORIGINS: Final = 8  # push records that are looked up for one fetch


@dataclass(frozen=True, slots=True)
class Supplied:
    """What came. ``lacking``: the wanted oids that are not here, with a sentence why."""

    lacking: Mapping[str, str]
    peers: tuple[str, ...] = ()
    bytes: int = 0


class Supply:
    """Fetches for one repository."""

    def __init__(
        self,
        local: Local,
        health: Health,
        *,
        limits: Limits | None = None,
        progress: Callable[[str, int], None] | None = None,
        patience: float = 5.0,
    ) -> None:
        """
        :param progress: told the site that sends and the bytes received so far
        :param patience: seconds to wait for etcd when it is asked about the peers
        """
        self._local = local
        self._health = health
        self._limits = limits or Limits()
        self._progress = progress
        self._patience = patience

    def bring(
        self, wanted: Mapping[str, Value], haves: Sequence[str], hold: Hold, stop: threading.Event | None = None
    ) -> Supplied:
        """Have the closure of every wanted oid here, proven and protected from pruning until ``hold`` ends.

        :param haves: tips that local refs hold
        :raises EtcdError: the peers could not be looked up
        """
        if not wanted:
            return Supplied({})
        git_dir = self._local.git_dir
        missing = connectivity.missing(git_dir, list(wanted), bases=haves)
        present = [oid for oid in wanted if oid not in missing]
        lacking: dict[str, str] = {}
        try:
            connectivity.secure(git_dir, present, hold=hold)
        except TransferError:
            # Something pruned them between the two looks: they are as good as missing.
            missing = set(wanted)
        if not missing:
            return Supplied({})
        candidates = self._candidates({oid: wanted[oid] for oid in missing})
        used: list[str] = []
        received = 0
        batches = [sorted(missing)]
        while batches:
            batch = batches.pop()
            if stop is not None and stop.is_set():
                lacking.update(dict.fromkeys(batch, "this piehole is being stopped"))
                continue
            try:
                site, fetched = self._from_any(candidates, batch, haves, hold, stop)
            except TransferError as error:
                # One oid that nobody has must not hold up the others.
                if len(batch) > 1:
                    half = len(batch) // 2
                    batches += [batch[half:], batch[:half]]
                else:
                    lacking[batch[0]] = str(error)
                continue
            used.append(site)
            received += fetched.bytes
        return Supplied(lacking, tuple(dict.fromkeys(used)), received)

    def _candidates(self, wanted: Mapping[str, Value]) -> list[Peer]:
        """The peers to ask, best first."""
        k, config = self._local.keyspace, self._local.config
        deadline = Deadline(self._patience)
        sites = self._local.etcd.list_prefix(k.sites(config.group), deadline=deadline)
        progress = self._local.etcd.list_prefix(k.all_progress(config.group), deadline=deadline)
        passed: dict[str, int] = {}
        for kv in progress.kvs:
            name = k.split_site(k.all_progress(config.group), kv.key)
            try:
                if name is not None:
                    passed[name] = Progress.parse(kv.value).revision
            except RecordError:
                continue  # such a site is asked last
        found: list[Peer] = []
        for kv in sites.kvs:
            name = k.split_site(k.sites(config.group), kv.key)
            if name is None or name == config.site:
                continue
            try:
                record = SiteRecord.parse(kv.value)
            except RecordError:
                continue  # `piehole sites` and `piehole check` name it
            found.append(Peer(name, record.url, passed.get(name, -1)))
        revision = max(value.mod_revision for value in wanted.values())
        return peers.order(found, revision, self._origin(wanted, deadline), self._health.suspect)

    def _origin(self, wanted: Mapping[str, Value], deadline: Deadline) -> str:
        """The site that made the newest of the pushes that brought these values; else the one that pushed last of all."""
        key = self._local.keyspace.ref(self._local.config.group, keys.PUSH)
        for revision in [*sorted({value.mod_revision for value in wanted.values()}, reverse=True)[:_ORIGINS], 0]:
            try:
                found = self._local.etcd.range(key, revision=revision, deadline=deadline).kvs
                if found and revision in (0, found[0].mod_revision):
                    return PushRecord.parse(found[0].value).site
            except PieholeError:  # compacted meanwhile, or no record: then it is not known who pushed
                continue
        return ""

    def _from_any(
        self,
        candidates: Sequence[Peer],
        wants: Sequence[str],
        haves: Sequence[str],
        hold: Hold,
        stop: threading.Event | None,
    ) -> tuple[str, Fetched]:
        """Fetch from the first peer that can; one that stays silent gets the next one beside it, so none is waited for.

        :raises TransferError: no peer could
        """
        if not candidates:
            raise TransferError("there is no other site that could have its objects")
        attempts = _Race(candidates, lambda peer, cancel, seen: self._fetch(peer, wants, haves, hold, cancel, seen))
        site, fetched, failures = attempts.run(stop)
        for name in failures:
            self._health.failed(name)
        if fetched is None:
            raise TransferError(
                "no peer has its objects: " + "; ".join(f"{name}: {why}" for name, why in failures.items())
            )
        self._health.succeeded(site)
        return site, fetched

    def _fetch(
        self,
        peer: Peer,
        wants: Sequence[str],
        haves: Sequence[str],
        hold: Hold,
        cancel: threading.Event,
        seen: Callable[[], None],
    ) -> Fetched:
        def progressed(received: int) -> None:
            seen()
            if self._progress is not None:
                self._progress(peer.site, received)

        return fetch(
            self._local.git_dir,
            peer.url,
            wants,
            haves,
            allowed=self._local.config.allow_protocol,
            limits=self._limits,
            object_format=self._local.config.object_format,
            hold=hold,
            progress=progressed,
            stop=cancel,
        )


class _Race:
    """Asks peers one after the other, and the next one early where the current one is silent."""

    def __init__(
        self, candidates: Sequence[Peer], attempt: Callable[[Peer, threading.Event, Callable[[], None]], Fetched]
    ) -> None:
        self._waiting = list(candidates)
        self._attempt = attempt
        self._answers: queue.Queue[tuple[str, Fetched | PieholeError | None]] = queue.Queue()
        self._cancels: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def run(self, stop: threading.Event | None) -> tuple[str, Fetched | None, dict[str, str]]:
        """``(site, what came, failures)``; nothing came where every peer failed. Returns when no attempt is left running."""
        failures: dict[str, str] = {}
        try:
            self._start_next()
            while self._cancels:
                if stop is not None and stop.is_set():
                    failures.setdefault(next(iter(self._cancels)), "stopped")
                    break
                try:
                    site, answer = self._answers.get(timeout=0.2 if stop is not None and not self._waiting else _HEDGE)
                except queue.Empty:
                    self._start_next()
                    continue
                if answer is None:  # a sign of life: no rival is needed
                    continue
                del self._cancels[site]
                if isinstance(answer, Fetched):
                    return site, answer, failures
                failures[site] = str(answer)
                if not self._cancels:
                    self._start_next()
            return "", None, failures
        finally:
            for cancel in self._cancels.values():
                cancel.set()
            for thread in self._threads:
                thread.join()

    def _start_next(self) -> None:
        if not self._waiting:
            return
        peer = self._waiting.pop(0)
        cancel = self._cancels[peer.site] = threading.Event()

        def work() -> None:
            try:
                answer: Fetched | PieholeError = self._attempt(
                    peer, cancel, lambda: self._answers.put((peer.site, None))
                )
            except PieholeError as error:
                answer = error
            except Exception as error:  # noqa: BLE001 -- a fault in one attempt is that attempt's failure, told with its words
                answer = TransferError(f"{type(error).__name__}: {error}")
            self._answers.put((peer.site, answer))

        thread = threading.Thread(target=work, name=f"fetch from {peer.site}", daemon=True)
        self._threads.append(thread)
        thread.start()
