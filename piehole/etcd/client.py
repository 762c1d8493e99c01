"""The client of an etcd cluster: it tries the endpoints in turn, and a deadline bounds every call.

A read is repeated at the next endpoint until its deadline. A transaction is repeated only while it provably was not
sent. Once it may have been sent, its outcome is unknown, and only its caller can settle it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Final, TypeVar

from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdError, EtcdFull, EtcdRefused, EtcdUnreachable, UsageError
from piehole.etcd import json_gateway
from piehole.etcd.endpoint import Credentials, Endpoint
from piehole.etcd.endpoint_client import EndpointClient
from piehole.etcd.json_gateway import Inconclusive
from piehole.etcd.model import (
    Compare,
    EndpointStatus,
    Event,
    Head,
    KeyValue,
    Operation,
    Range,
    Snapshot,
    TxnResult,
    prefix_end,
)
from piehole.etcd.rotation import ATTEMPT_SECONDS, EndpointRotation
from piehole.etcd.watch import Watch

__all__ = ["Credentials", "Endpoint", "Etcd"]

PAGE: Final = 20_000  # keys: small pages are quadratic in etcd, one huge answer takes memory on both sides
_REMEMBERED: Final = 60.0  # seconds after an answer "full" in which etcd is asked whether it still is
_LEAST_SECONDS: Final = 0.001  # with a timeout of 0 a socket does not even connect

T = TypeVar("T")


class Etcd:
    """A cluster, by the endpoints of some or all of its members. Safe to use from many threads.

    The endpoint that answered last is asked first; after a failure the next one is asked. Every method raises
    EtcdUnreachable (no endpoint answered before the deadline), EtcdRefused (etcd said no) and NoAccess (this account
    cannot read a credential). Resolving a host name is not bounded by the deadline.

    :param endpoints: ``http://host:port``, ``https://host:port`` or ``host:port``
    :param first: given the number of endpoints, the index of the one that is asked first
    :raises UsageError: no endpoint, or one of another form
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: Credentials | None = None,
        *,
        first: Callable[[int], int] = lambda _: 0,
    ) -> None:
        if not endpoints:
            raise UsageError("No etcd endpoint is set: git config piehole.etcd http://HOST:PORT")
        self._clients = [EndpointClient(Endpoint.parse(text), credentials or Credentials()) for text in endpoints]
        self._rotation = EndpointRotation(self._clients, first(len(self._clients)))
        self._full: tuple[float, EtcdFull] | None = None

    def measure(self, told: Callable[[str, str, str, float], None]) -> None:
        """Have this called after each request with the endpoint, the path, the result (ok, refused or unanswered) and the seconds."""
        self._rotation.measure = told

    def close(self) -> None:
        """Close the idle connections; calls that are under way close theirs when they end."""
        for client in self._clients:
            client.close()

    @property
    def quickest(self) -> float:
        """The seconds that the quickest answer took: how far etcd is away, whatever else keeps this machine busy."""
        return self._rotation.quickest

    # ---- reads

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        deadline: Deadline,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        min_mod_revision: int = 0,
    ) -> Snapshot:
        """Read one key, or [key, range_end), linearizably.

        :param revision: read the state at this revision; 0: the newest
        :param min_mod_revision: only keys that changed at this revision or later
        :raises Compacted: etcd no longer, or not yet, has this revision
        """
        body = json_gateway.range_request(
            key,
            range_end,
            limit=limit,
            revision=revision,
            keys_only=keys_only,
            min_mod_revision=min_mod_revision,
        )
        return self._rotation.ask("/kv/range", body, json_gateway.snapshot, deadline)[1]

    def list_prefix(self, prefix: bytes, *, deadline: Deadline, revision: int = 0) -> Snapshot:
        """Read all keys with this prefix as they were at one revision, in pages.

        :raises Compacted: ``revision`` was given, and etcd no longer has it
        """
        while True:
            try:
                return self._list_at(prefix, deadline, revision)
            except Compacted:
                if revision or deadline.passed:
                    raise
                # A compaction overtook the listing. Nobody asked for this revision, so take a newer one.

    def _list_at(self, prefix: bytes, deadline: Deadline, revision: int) -> Snapshot:
        key, end = prefix or b"\0", prefix_end(prefix)
        kvs: list[KeyValue] = []
        cluster = 0
        while True:
            page = self.range(key, end, deadline=deadline, limit=PAGE, revision=revision)
            revision, cluster = revision or page.revision, cluster or page.cluster_id
            if page.cluster_id != cluster:
                raise EtcdUnreachable("The etcd endpoints belong to different clusters: correct piehole.etcd")
            kvs += page.kvs
            if not page.more or not page.kvs:
                return Snapshot(revision, kvs, False, len(kvs), cluster)
            key = page.kvs[-1].key + b"\0"

    def head(self, key: bytes, *, deadline: Deadline) -> Head:
        """Prove a quorum with one linearizable read of ``key`` (one that this user may read); returns etcd's revision."""
        body = json_gateway.range_request(key, limit=1, keys_only=True)
        client, answer = self._rotation.ask("/kv/range", body, json_gateway.snapshot, deadline)
        return Head(client.name, answer.cluster_id, answer.revision)

    # ---- the transaction

    def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        deadline: Deadline,
    ) -> TxnResult:
        """If every compare holds, perform ``success``, else ``failure``, atomically. A transaction that only reads is repeated.

        :raises EtcdUnreachable: with ``maybe_sent``, the outcome is unknown and the transaction may still be applied;
            without, it was never sent
        :raises EtcdRefused: nothing was changed; ``too_many``: more operations than etcd takes at once
        :raises EtcdFull: etcd has no space left; it has applied the transaction or never will
        """
        body = json_gateway.txn_request(compares, success, failure)
        reads = [operation for operation in success if isinstance(operation, Range)]
        reads_only = len(reads) == len(success) and all(isinstance(operation, Range) for operation in failure)
        try:
            return self._rotation.ask("/kv/txn", body, json_gateway.txn_result, deadline, repeatable=reads_only)[1]
        except EtcdFull as full:
            if compares or not reads_only:
                self._full = time.monotonic(), full
                raise
            return self._one_by_one(reads, deadline)

    def check_space(self, deadline: Deadline) -> None:
        """Ask etcd whether it is full, if it has been so within the last minute.

        :raises EtcdFull: it still has the alarm NOSPACE
        """
        full = self._full
        if full is None or time.monotonic() - full[0] > _REMEMBERED:
            return
        try:
            told = self._rotation.ask("/maintenance/status", {}, lambda answer: answer, deadline)[1]
        except EtcdError:
            return  # some versions tell it to root only
        if any("alarm:NOSPACE" in str(said) for said in told.get("errors", ())):
            raise full[1]
        self._full = None

    def _one_by_one(self, reads: Sequence[Range], deadline: Deadline) -> TxnResult:
        """Read without a transaction: when it is full, etcd before 3.4.20 and 3.5.7 refuses also those that only read.

        :raises Compacted: a compaction overtook the reading
        """
        at = self.head(reads[0].key, deadline=deadline).revision

        def read(one: Range) -> Snapshot:
            return self._rotation.ask("/kv/range", json_gateway.range_of(one, at), json_gateway.snapshot, deadline)[1]

        return TxnResult(True, at, [read(one) for one in reads])

    def ask(self, path: str, body: json_gateway.Json, read: Callable[[json_gateway.Json], T], deadline: Deadline) -> T:
        """Post a request that may be repeated, and return what ``read`` makes of the answer."""
        return self._rotation.ask(path, body, read, deadline)[1]

    # ---- history

    def watch(
        self,
        prefix: bytes,
        after_revision: int,
        *,
        idle: float,
        range_end: bytes | None = None,
        head: Head | None = None,
        deadline: Deadline | None = None,
    ) -> Watch:
        """Watch the prefix (or [prefix, range_end), or one key with ``b""``) for all changes after a revision.

        :param idle: seconds without a message after which the iteration ends
        :param head: a fresh ``head()``; else one is made here (within ``deadline``, ``idle`` seconds by default) and
            must not be older than ``after_revision``
        :raises Compacted: etcd is at an older revision, so it was rolled back; for the iteration see Watch
        """
        start = prefix or b"\0"
        if head is None:
            head = self.head(start, deadline=deadline or Deadline(idle))
            if head.revision < after_revision:
                raise Compacted(
                    f"etcd at {head.endpoint} is at revision {head.revision}, before {after_revision}: it went back"
                )
        name = head.endpoint
        client = next(one for one in self._clients if one.name == name)
        end = prefix_end(prefix) if range_end is None else range_end
        return Watch(client, start, end, after_revision, head=head, idle=idle, on_failure=self._rotation.rotate_from)

    def first_change(
        self, key: bytes, after_revision: int, *, deadline: Deadline, companion: bytes = b""
    ) -> KeyValue | None:
        """The first change of ``key`` after a revision (a deletion has version 0), or None where there is none.

        ``after_revision`` should be a revision that was read, not a key's mod_revision 0: that was compacted long ago.
        etcd does not say that its history has ended, and a key that existed neither then nor now may have existed in
        between. Then None is proved only by a progress message, which may take longer than the deadline (EtcdUnreachable),
        or at once by ``companion``, a key that every relevant change also writes: None then means "no change up to the last
        change of the companion".

        :raises Compacted: history after that revision is missing
        """
        now = self.range(key, deadline=deadline)
        if now.kvs and now.kvs[0].mod_revision <= after_revision:
            return None
        start, end, until = key, b"", now.revision
        if companion and not now.kvs and not self._existed(key, after_revision, deadline):
            seen = self.range(companion, deadline=deadline).kvs
            until = seen[0].mod_revision if seen else 0
            start, end = min(key, companion), max(key, companion) + b"\0"
        if until <= after_revision:
            return None
        with closing(self._changes(start, end, after_revision, until, deadline)) as events:
            return next((event.kv for event in events if event.kv.key == key), None)

    def _existed(self, key: bytes, revision: int, deadline: Deadline) -> bool:
        return bool(revision and self.range(key, deadline=deadline, revision=revision, keys_only=True).kvs)

    def history(self, prefix: bytes, *, deadline: Deadline) -> Generator[Event, None, None]:
        """Yield every change below the prefix since the last compaction, up to the newest change of a key that exists now.

        :raises EtcdUnreachable: also when the deadline ends before the history does
        """
        start, end = prefix or b"\0", prefix_end(prefix)
        body = json_gateway.range_of(Range(start, end, limit=1, keys_only=True, newest_first=True))
        newest = self._rotation.ask("/kv/range", body, json_gateway.snapshot, deadline)[1].kvs
        if not newest:
            return
        until = newest[0].mod_revision
        try:
            yield from self._changes(start, end, 0, until, deadline)
        except json_gateway.CompactedAt as oldest:
            if oldest.revision < until:
                yield from self._changes(start, end, oldest.revision, until, deadline)

    def _changes(
        self, start: bytes, end: bytes, after: int, until: int, deadline: Deadline
    ) -> Generator[Event, None, None]:
        """Yield the changes after one revision, to the end of the batch that reaches another."""
        idle = max(deadline.remaining(), _LEAST_SECONDS)
        with self.watch(start, after, idle=idle, range_end=end, deadline=deadline) as watch:
            for batch in watch:
                yield from batch.events
                if batch.revision >= until:
                    return
                if deadline.passed:
                    break
        raise EtcdUnreachable(f"etcd at {watch.head.endpoint} did not send its history up to revision {until} in time")

    # ---- health

    def status(self, key: bytes, *, deadline: Deadline) -> list[EndpointStatus]:
        """Ask every endpoint for its health; ``key`` is one that this user may read."""
        return [self._status_of(client, key, deadline) for client in self._clients]

    def _status_of(self, client: EndpointClient, key: bytes, deadline: Deadline) -> EndpointStatus:
        wait = max(min(ATTEMPT_SECONDS, deadline.remaining()), _LEAST_SECONDS)
        began = time.monotonic()
        try:
            read = client.call("/kv/range", json_gateway.range_request(key, limit=1, keys_only=True), timeout=wait)
            latency = time.monotonic() - began
            try:
                told = client.call("/maintenance/status", {}, timeout=wait)
            except EtcdRefused:
                told = {}  # some versions tell it to root only: 3.4.42, 3.5.28 to 3.5.31, 3.6.0 to 3.6.11
            return json_gateway.endpoint_status(client.name, read, told, latency, needs_no_login=client.needs_no_login)
        except Inconclusive as inconclusive:
            return EndpointStatus(
                client.name, error=f"etcd at {client.name}: {inconclusive}", trouble=inconclusive.kind
            )
        except EtcdError as error:
            return EndpointStatus(client.name, error=str(error), trouble="refused")
        except json_gateway.MALFORMED:
            return EndpointStatus(client.name, error=f"{client.name} does not speak etcd's v3 JSON", trouble="foreign")
