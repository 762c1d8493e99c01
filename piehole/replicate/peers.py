"""Peers: their order, a memory of those that failed, and one fetch that asks the next peer as well where the current one is slow."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from piehole.errors import PieholeError, TransferError
from piehole.group.replica import Replica
from piehole.refs import is_managed
from piehole.transfer.fetch import Fetched
from piehole.transfer.git_fetch import list_refs
from piehole.transfer.keep_files import Hold
from piehole.transfer.urls import parse_url

_LACKS: Final = re.compile(r"does not have ([0-9a-f]{40,64})")  # transfer.fetch promises these words
_FIRST_PENALTY: Final = 2.0  # seconds; doubled by each further failure in a row
_LONGEST_PENALTY: Final = 120.0
# Where fewer bytes than this have come in so many seconds, the next peer is asked as well.
_HEDGE: Final = 2.0
_ENOUGH: Final = 64 * 1024
_TICK: Final = 0.1  # seconds: how late a stop may be noticed
Measure = Callable[[str, str, int, float], None]
_TO_END: Final = 1.0  # seconds that cancelled attempts get to end; one that hangs in a connect() ends later by itself


@dataclass(frozen=True, slots=True)
class Peer:
    """Another site of the group, as its records say. ``left``: it was made to leave, and may be gone. ``corrupt``: its objects are."""

    site: str
    url: str
    progress: int = -1
    left: bool = False
    corrupt: bool = False


class PeerHealth:
    """Remembers which peers failed lately, so that they are asked last. Safe to share between threads.

    ``fetched`` is called after each attempt with the site, the result (ok, lacking, failed or cancelled), the bytes and the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, fetched: Measure | None = None) -> None:
        self._clock = clock
        self.fetched = fetched
        self._failures: Mapping[str, tuple[int, float]] = {}

    def failed(self, site: str) -> None:
        count = self._failures.get(site, (0, 0.0))[0] + 1
        until = self._clock() + min(_FIRST_PENALTY * 2 ** min(count - 1, 10), _LONGEST_PENALTY)
        self._failures = {**self._failures, site: (count, until)}

    def succeeded(self, site: str) -> None:
        if site in self._failures:
            self._failures = {name: value for name, value in self._failures.items() if name != site}

    def suspect(self, site: str) -> bool:
        return self._failures.get(site, (0, 0.0))[1] > self._clock()


def order(peers: list[Peer], revision: int, origin: str, suspect: Callable[[str], bool]) -> list[Peer]:
    """First the site that made the push, then sites whose progress has passed ``revision``, then anyone.

    Sites that left come after all that did not, suspects after these, and corrupt sites last of all: what was pushed there a moment
    ago may be nowhere else, and whatever they send is proven here.

    :param revision: the newest mod_revision among the refs whose objects are wanted
    :param origin: the site that the push record names, ``""`` where it is not known
    """
    return sorted(
        peers,
        key=lambda peer: (
            peer.corrupt,
            suspect(peer.site),
            peer.left,
            peer.site != origin,
            peer.progress < revision,
            peer.site,
        ),
    )


_NOT_ASKED: Final = "it is corrupt, so it fills no new site while another one may have everything"


def for_first_clone(candidates: Sequence[Peer]) -> tuple[list[Peer], list[Peer]]:
    """The peers that a site without anything asks, and those that it asks only for what all of these say they lack.

    What a corrupt site sends is proven, too, but whatever is damaged there ends the clone, after hours perhaps.
    """
    sound = [peer for peer in candidates if not peer.corrupt]
    corrupt = [peer for peer in candidates if peer.corrupt]
    return (sound, corrupt) if any(not peer.left for peer in sound) else (list(candidates), [])


def not_asked(corrupt: Sequence[Peer]) -> dict[str, str]:
    return dict.fromkeys((peer.site for peer in corrupt), _NOT_ASKED)


def listed(replica: Replica, peer: Peer) -> list[str]:
    """The oids that a peer's managed refs have.

    :raises UsageError: its URL is malformed or not allowed
    :raises GitError: it could not be asked
    """
    config = replica.config
    url = parse_url(peer.url, config.allow_protocol)
    refs = list_refs(replica.git_dir, url, object_format=config.object_format)
    return sorted({oid for ref, oid in refs.items() if not ref.endswith("^{}") and is_managed(ref, config.exclude)})


class _AttemptHold(Hold):
    """Protects packs on behalf of another hold until the attempt is cancelled: that hold may have ended then."""

    def __init__(self, hold: Hold) -> None:
        super().__init__()
        self._hold = hold
        self._lock = threading.Lock()
        self._closed = False

    def keep(self, path: Path) -> None:
        with self._lock:
            if self._closed:
                raise TransferError("was stopped")
            self._hold.keep(path)

    def close(self) -> None:
        with self._lock:
            self._closed = True


class FetchAttempt:
    """One fetch from one peer. ``received``: bytes so far; ``stop`` ends it; ``hold`` protects what it publishes."""

    def __init__(self, peer: Peer, hold: Hold) -> None:
        self.peer = peer
        self.received = 0
        self.stop = threading.Event()
        self.hold = _AttemptHold(hold)

    def cancel(self) -> None:
        self.stop.set()
        self.hold.close()


@dataclass(frozen=True, slots=True)
class HedgedOutcome:
    """The site that sent the objects and what came (None: no site had them), and why the others failed."""

    site: str = ""
    fetched: Fetched | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        if not self.failures:
            return "there is no other site that could have its objects"
        return "no peer has its objects: " + "; ".join(f"{name}: {why}" for name, why in self.failures.items())


class HedgedFetch:
    """Asks peers for the same objects, each in a thread of its own, until one succeeds or all have failed.

    They are asked one after the other, and the next one early where those that were asked are slow.

    :param candidates: the peers, best first
    :param fetch: one attempt; whatever it raises is that attempt's failure
    :param more: peers that may have the objects by now, asked for where no candidate is left
    """

    def __init__(
        self,
        candidates: Sequence[Peer],
        fetch: Callable[[FetchAttempt], Fetched],
        hold: Hold,
        more: Callable[[], Sequence[Peer]] = tuple,
    ) -> None:
        self._waiting = list(candidates)
        self._more = more
        self._again: list[Peer] = []
        self._fetch = fetch
        self._hold = hold
        self._answers: queue.Queue[tuple[FetchAttempt, Fetched | str]] = queue.Queue()
        self._started: list[FetchAttempt] = []
        self._running: list[FetchAttempt] = []
        self._threads: list[threading.Thread] = []

    def run(self, stop: threading.Event | None) -> HedgedOutcome:
        """
        :param stop: cancels all attempts
        """
        failures: dict[str, str] = {}
        try:
            self._start_next()
            while self._running:
                if stop is not None and stop.is_set():
                    return HedgedOutcome(failures={**failures, **{one.peer.site: "stopped" for one in self._running}})
                answer = self._next_answer(stop)
                if answer is None:
                    continue
                attempt, what = answer
                self._running.remove(attempt)
                if isinstance(what, Fetched):
                    return HedgedOutcome(attempt.peer.site, what, {**failures, **self._overtaken(attempt)})
                failures[attempt.peer.site] = what
                self._again.append(attempt.peer)
                if not self._running:
                    self._start_next()
            return HedgedOutcome(failures=failures)
        finally:
            self._end()

    def _overtaken(self, winner: FetchAttempt) -> dict[str, str]:
        """Peers that were asked before the one that succeeded and have not sent a byte: they would cost the next fetch as much time."""
        earlier = [one for one in self._started[: self._started.index(winner)] if one in self._running]
        return {one.peer.site: "it sent nothing while another did" for one in earlier if not one.received}

    def _next_answer(self, stop: threading.Event | None) -> tuple[FetchAttempt, Fetched | str] | None:
        """The next attempt that ended; None when stopped, or when too little came and the next peer was asked."""
        before = {attempt: attempt.received for attempt in self._running}
        end = time.monotonic() + _HEDGE
        while (left := end - time.monotonic()) > 0:
            if stop is not None and stop.is_set():
                return None
            try:
                return self._answers.get(timeout=min(left, _TICK if stop is not None else left))
            except queue.Empty:
                continue
        if all(attempt.received - before[attempt] < _ENOUGH for attempt in self._running):
            running = len(self._running)
            self._start_next()
            if len(self._running) == running:
                # Only silent peers are left. A peer that failed may have the objects by now, so it is asked again.
                self._waiting, self._again = self._again, []
                self._start_next()
        return None

    def _start_next(self) -> None:
        if not self._waiting:
            asked = {one.peer.site for one in self._started}
            self._waiting = [peer for peer in self._more() if peer.site not in asked]
        if not self._waiting:
            return
        attempt = FetchAttempt(self._waiting.pop(0), self._hold)
        self._started.append(attempt)
        self._running.append(attempt)
        thread = threading.Thread(
            target=copy_context().run,
            args=(self._work, attempt),
            name=f"fetch from {attempt.peer.site}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _work(self, attempt: FetchAttempt) -> None:
        try:
            answer: Fetched | str = self._fetch(attempt)
        except PieholeError as error:
            answer = str(error)
        except Exception as error:  # noqa: BLE001 -- a fault in one attempt is that attempt's failure, reported in its words
            answer = f"{type(error).__name__}: {error}"
        self._answers.put((attempt, answer))

    def _end(self) -> None:
        for attempt in self._running:
            attempt.cancel()
        end = time.monotonic() + _TO_END
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))


def lacked(why: str) -> str | None:
    """The oid that a peer said it does not have."""
    found = _LACKS.search(why)
    return found.group(1) if found else None


def divided(batch: list[str], failures: Mapping[str, str]) -> list[list[str]]:
    """The parts to ask for next, after no peer could give all of the batch: the one oid that they all lack alone, else halves."""
    missing = {lacked(why) for why in failures.values()}
    culprit = missing.pop() if len(missing) == 1 else None
    if culprit in batch:
        return [[oid for oid in batch if oid != culprit], [culprit]]
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]
