"""Lists, then watches, for ever: keeps a cache of all keys below a prefix up to date with etcd, and reports what changed.

It lists at a revision, watches from the next one, and resumes by revision after every trouble. It lists again, as a
difference to what it knew, when history was compacted, when another cluster or an older revision answers, when a
key's version jumps, and now and then anyway: old versions of etcd have lost events.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from controller.cache import Cache
from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdError, EtcdUnreachable
from piehole.etcd.client import Etcd
from piehole.etcd.model import Batch, Head
from piehole.etcd.watch import Watch

HEAD_SECONDS: Final = (
    3.0  # then the trouble is reported; the next try begins with an endpoint that this one had not asked
)
LIST_SECONDS: Final = 300.0  # 1,000,000 keys take 12 s on a quiet machine
IDLE_SECONDS: Final = 15.0  # three times the interval of progress messages in the recommended settings of etcd
RELIST_SECONDS: Final = 600.0
_BACKOFF: Final = wait_random_exponential(multiplier=0.1, max=5.0)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InformerStatus:
    """``connected``: a watch is running, at ``endpoint``. ``last_contact``: when etcd last gave a sign of life
    (monotonic seconds; None: never). ``error``: the last trouble, a sentence; empty again once a watch delivered."""

    connected: bool = False
    endpoint: str = ""
    revision: int = 0
    last_contact: float | None = None
    error: str = ""


class Informer:
    """Runs in a thread of its own. The callbacks run in that thread, so they must be quick; an error that one raises
    ends the informer. Only ``on_connect`` may ask etcd: where it raises an EtcdError, the connection is tried again.

    :param bucket: the bucket of a key, or None for a key that is of no interest
    :param on_connect: after each (re)connect, before the first event of this connection: the endpoint and the revision
    :param on_change: after the cache has changed: the buckets that changed, and whether these are live events
        (else it was a listing, which also names the buckets of keys that have vanished)
    :param on_trouble: an EtcdError, after which the informer goes on; or any other error, which has ended it and which
        ``join`` raises again
    :param idle: seconds of silence after which a connection counts as dead
    :param relist_every: seconds between listings that nothing else asked for, give or take a fifth
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: bytes,
        bucket: Callable[[bytes], str | None],
        *,
        on_change: Callable[[set[str], bool], None],
        on_connect: Callable[[Head], None],
        on_trouble: Callable[[BaseException], None],
        idle: float = IDLE_SECONDS,
        relist_every: float = RELIST_SECONDS,
        name: str = "informer",
    ) -> None:
        self.cache = Cache(bucket)  # meaningless before ``synced``
        self.synced = threading.Event()
        self.listed_at = float("-inf")  # monotonic seconds: when the listing that the cache is built upon began
        self._etcd = etcd
        self._prefix = prefix
        self._on_change = on_change
        self._on_connect = on_connect
        self._on_trouble = on_trouble
        self._idle = idle
        self._relist_every = relist_every
        self._cluster_id = 0
        self._relist_at = 0.0  # monotonic seconds; in the past: the cache must not be trusted
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: Watch | None = None
        self._endpoint, self._last_contact, self._error = "", None, ""  # type: tuple[str, float | None, str]
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Have the informer end, from any thread. Waits are interrupted; a request under way ends within its own timeout."""
        self._stopping.set()
        self.cache.close()
        with self._lock:
            if self._stream is not None:
                self._stream.stop()

    def relist(self) -> None:
        """List again soon, on a new connection, from any thread: for a caller that knows that etcd was restored from a backup."""
        with self._lock:
            self._relist_at = 0.0
            if self._stream is not None:
                self._stream.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; false when it does not come within ``timeout`` seconds.

        :raises BaseException: what ended the thread, where that was not ``stop``
        """
        self._thread.join(timeout)
        if self._death is not None:
            raise self._death
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def status(self) -> InformerStatus:
        with self._lock:
            return InformerStatus(
                self._stream is not None, self._endpoint, self.cache.revision, self._last_contact, self._error
            )

    # ---- the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._run_until_delivery()
        except BaseException as error:  # noqa: BLE001  # kept for join, and reported to the owner
            self._death = error
            self.cache.close()
            self._on_trouble(error)

    def _run_until_delivery(self) -> None:
        """Open sessions with growing pauses, until one has delivered something; the next call begins with the shortest pause."""
        attempts = Retrying(
            retry=retry_if_exception_type(EtcdError),
            wait=_BACKOFF,
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._note_failure,
            reraise=True,
        )
        try:
            attempts(self._session)
        except EtcdError:
            if not self._stopping.is_set():
                raise

    def _session(self) -> None:
        """Use one connection, from the proof of a quorum to its end.

        :raises EtcdError: it failed before it delivered anything
        """
        head = self._etcd.head(self._prefix, deadline=_Interruptible(HEAD_SECONDS, self._stopping))
        self._note_contact(head.endpoint)
        self._on_connect(head)
        if self._must_list(head):
            self._list(head)
        delivered = False
        try:
            with self._attached(head) as stream:
                for batch in stream:
                    self._note_contact(head.endpoint, well=True)
                    delivered = True
                    self._take(batch)
                    if self._stopping.is_set() or time.monotonic() >= self._relist_at:
                        return
        except EtcdUnreachable as lost:
            if not delivered:
                raise
            self._note(lost)
        except Compacted:
            self._relist_at = 0.0
            raise
        finally:
            with self._lock:
                self._stream = None

    def _must_list(self, head: Head) -> bool:
        return (
            time.monotonic() >= self._relist_at
            or head.cluster_id != self._cluster_id
            or head.revision < self.cache.revision
        )

    def _list(self, head: Head) -> None:
        self._relist_at = 0.0
        began = time.monotonic()
        snapshot = self._etcd.list_prefix(self._prefix, deadline=_Interruptible(LIST_SECONDS, self._stopping))
        if snapshot.cluster_id != head.cluster_id:
            raise EtcdUnreachable("The etcd endpoints belong to different clusters: correct piehole.etcd")
        changed = self.cache.replace(snapshot)
        self._cluster_id = head.cluster_id
        self.listed_at = began
        self._relist_at = time.monotonic() + self._relist_every * random.uniform(0.8, 1.2)  # noqa: S311 -- jitter, not a secret
        self._note_contact(head.endpoint)
        _log.info("informer.listed", revision=snapshot.revision, keys=len(snapshot.kvs), changed=len(changed))
        self.synced.set()
        self._tell(changed, fresh=False)

    def _attached(self, head: Head) -> Watch:
        stream = self._etcd.watch(self._prefix, self.cache.revision, idle=self._idle, head=head)
        with self._lock:
            self._stream = stream
            if self._stopping.is_set():
                stream.stop()
        return stream

    def _take(self, batch: Batch) -> None:
        self._tell(self.cache.apply(batch), fresh=True)

    def _tell(self, changed: set[str], *, fresh: bool) -> None:
        try:
            if changed:
                self._on_change(changed, fresh)
        except EtcdError as error:  # as an error of the watch it would be retried, and the change never reported
            raise RuntimeError("on_change must not ask etcd") from error

    # ---- for the status

    def _note_contact(self, endpoint: str, *, well: bool = False) -> None:
        with self._lock:
            self._endpoint, self._last_contact = endpoint, time.monotonic()
            if well:
                self._error = ""

    def _note_failure(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        with self._lock:
            self._error = str(error)
        self._on_trouble(error)


class _Interruptible(Deadline):
    """A deadline that is over at once when ``stop`` is set."""

    def __init__(self, seconds: float, stop: threading.Event) -> None:
        super().__init__(seconds)
        self._stop = stop

    def remaining(self) -> float:
        return 0.0 if self._stop.is_set() else super().remaining()
