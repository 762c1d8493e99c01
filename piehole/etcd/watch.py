"""One watch on one connection. It raises an error where it breaks off; the caller keeps the revision and resumes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException
from types import TracebackType
from typing import Self

from piehole.errors import Compacted, EtcdError, EtcdRefused, EtcdUnreachable
from piehole.etcd import json_gateway
from piehole.etcd.endpoint_client import EndpointClient, describe
from piehole.etcd.http_session import HttpAnswer
from piehole.etcd.json_gateway import Inconclusive, Json
from piehole.etcd.model import Batch, Head


class Watch:
    """Yields every change after ``after_revision`` in order, once, no revision split. Iterate once, in a ``with`` block.

    The iteration ends when no message arrived for ``idle`` seconds, or after ``stop()``. It raises Compacted where history is
    missing or another cluster answers, EtcdRefused where etcd refuses, EtcdUnreachable on every other failure.

    :param on_failure: called when the connection was lost, so that the next one is made elsewhere
    """

    def __init__(
        self,
        client: EndpointClient,
        key: bytes,
        range_end: bytes,
        after_revision: int,
        *,
        head: Head,
        idle: float,
        on_failure: Callable[[EndpointClient], None],
    ) -> None:
        self.head = head
        self._on_failure = on_failure
        self._client = client
        # Not from the next revision: since 3.4.38, 3.5.22 and 3.6, etcd sends no progress messages while the revision is before the first one
        # of a watch, so every watch of an idle etcd would look dead. What this revision repeats is left out.
        self.starts_at = max(after_revision, 1)
        self._body = json_gateway.watch_request(key, range_end, self.starts_at)
        self._after = after_revision
        self._idle = idle
        self._open = ExitStack()
        self._answer: HttpAnswer | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._answer = None
        self._open.close()

    def stop(self) -> None:
        """End the iteration, from any thread, also while it waits for the next message."""
        with self._lock:
            self._stopped = True
            if self._answer is not None:
                try:
                    self._answer.shut()
                except OSError:
                    pass  # the connection ended by itself, so no read is blocked

    def __iter__(self) -> Iterator[Batch]:
        with self:
            try:
                yield from self._batches()
            except Inconclusive as inconclusive:
                if not self._stopped:
                    self._client.forget_login()  # an old token may be answered by a closed connection
                    self._on_failure(self._client)
                    sentence = f"The watch at {self.head.endpoint} was lost: {inconclusive.reason}"
                    raise EtcdUnreachable(sentence) from inconclusive

    def _batches(self) -> Iterator[Batch]:
        messages = self._opened()
        for result in messages:
            try:
                batch = json_gateway.batch(result, self._after)
            except json_gateway.MALFORMED as error:
                raise Inconclusive(f"a message that is not etcd's ({error!r})", sent=True) from error
            if batch is not None:
                self._after = batch.revision
                yield batch

    def _opened(self) -> Iterator[Json]:
        """The messages after the first, which says that the watch was created, or why it was not.

        etcd answers "permission denied" for an expired token, too, so the first refusal is answered with a new login.
        """
        for may_log_in in (True, False):
            messages = self._messages()
            try:
                next(messages, None)
            except EtcdRefused as refused:
                if not (may_log_in and refused.status in (401, 403) and self._client.forget_login()):
                    raise
                self._open.close()
            else:
                return messages
        raise AssertionError("unreachable")

    def _messages(self) -> Iterator[Json]:
        answer = self._open.enter_context(self._client.stream("/watch", self._body, idle=self._idle))
        with self._lock:
            self._answer = answer
            if self._stopped:
                return
        try:
            for line in answer.lines():
                if line.strip():
                    yield self._result(line)
        except (HTTPException, OSError, ValueError) as error:
            # After stop() has shut the connection down, any error means the end.
            if self._stopped or isinstance(error, TimeoutError):
                return
            raise Inconclusive(describe(error), sent=True) from error
        if not self._stopped:
            raise Inconclusive("the connection was closed", sent=True)

    def _result(self, line: bytes) -> Json:
        try:
            message = json.loads(line)
            if "result" not in message:
                error = message["error"]
                raise self._lost(int(error.get("grpc_code", error.get("code", 14))), str(error.get("message", "")))
            result: Json = message["result"]
            cluster = json_gateway.cluster_of(result)
            end = json_gateway.canceled(self.head.endpoint, result)
        except json_gateway.MALFORMED as error:
            raise Inconclusive(f"a message that is not etcd's ({line[:80]!r})", sent=True) from error
        if cluster != self.head.cluster_id:
            raise Compacted(f"etcd at {self.head.endpoint} is another cluster now ({cluster:x})")
        if end is not None:
            raise end
        return result

    def _lost(self, code: int, message: str) -> EtcdError | Inconclusive:
        return json_gateway.classify(self.head.endpoint, code, message)
