"""The endpoints of a cluster, asked in turn until one answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from piehole.deadline import Deadline
from piehole.errors import EtcdUnreachable
from piehole.etcd import json_gateway
from piehole.etcd.endpoint_client import EndpointClient
from piehole.etcd.json_gateway import Inconclusive, Json

ATTEMPT_SECONDS: Final = 2.0  # a healthy member answers within milliseconds; a hung one must not eat the deadline
_PAUSE: Final = wait_random_exponential(multiplier=0.05, max=0.5)  # seconds, after each round over all endpoints

T = TypeVar("T")


class EndpointRotation:
    """Asks the endpoint first that answered last. Safe to use from many threads.

    :param first: the index of the member that is asked first
    """

    def __init__(self, clients: Sequence[EndpointClient], first: int) -> None:
        self.clients = clients
        self._current = first
        self._lock = threading.Lock()
        self.quickest = float("inf")  # the seconds of the quickest answer yet
        # Called after each request with the endpoint, the path, the result (ok, refused or unanswered) and the seconds.
        self.measure: Callable[[str, str, str, float], None] | None = None

    def ask(
        self, path: str, body: Json, read: Callable[[Json], T], deadline: Deadline, *, repeatable: bool = True
    ) -> tuple[EndpointClient, T]:
        """Ask one endpoint after the other until one gives an answer that ``read`` understands.

        :param repeatable: go on even after a request that may have been sent
        :raises EtcdUnreachable: no endpoint did before the deadline
        :raises EtcdRefused, EtcdFull, Compacted: an endpoint refused
        """
        count, start = len(self.clients), self._current
        reasons: dict[str, str] = {}  # of each endpoint's last failure

        def again(error: BaseException) -> bool:
            return isinstance(error, Inconclusive) and (repeatable or not error.sent)

        def pause(state: RetryCallState) -> float:
            return min(_PAUSE(state), deadline.remaining()) if state.attempt_number % count == 0 else 0.0

        attempts = Retrying(retry=retry_if_exception(again), wait=pause, stop=lambda _: deadline.passed, reraise=True)
        try:
            for attempt in attempts:
                with attempt:
                    number = attempt.retry_state.attempt_number - 1
                    client = self.clients[(start + number) % count]
                    timeout = min(_timeout(number // count, count, repeatable), deadline.remaining())
                    return client, self._attempt(client, path, body, read, timeout, reasons)
        except Inconclusive as inconclusive:
            words = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or inconclusive.reason
            sentence = f"No etcd endpoint answered: {words}"
            raise EtcdUnreachable(sentence, maybe_sent=inconclusive.sent and not repeatable) from inconclusive
        raise AssertionError("tenacity gave up without an error")

    def _attempt(
        self,
        client: EndpointClient,
        path: str,
        body: Json,
        read: Callable[[Json], T],
        timeout: float,
        reasons: dict[str, str],
    ) -> T:
        if timeout <= 0:
            raise Inconclusive("no time was left", sent=False)
        began = time.monotonic()
        result = "refused"
        try:
            answer = self._understood(client.call(path, body, timeout=timeout), read)
            result = "ok"
        except Inconclusive as inconclusive:
            result = "unanswered"
            reasons[client.name] = inconclusive.reason
            self.rotate_from(client)
            raise
        finally:
            if self.measure is not None:
                self.measure(client.name, path, result, time.monotonic() - began)
        self._stay_with(client)
        self.quickest = min(self.quickest, time.monotonic() - began)
        return answer

    @staticmethod
    def _understood(answer: Json, read: Callable[[Json], T]) -> T:
        try:
            return read(answer)
        except json_gateway.MALFORMED as error:
            raise Inconclusive(f"does not speak etcd's v3 JSON ({error!r})", sent=True, kind="foreign") from error

    def rotate_from(self, client: EndpointClient) -> None:
        """Let the next call begin at another endpoint: this one has failed."""
        with self._lock:
            if self.clients[self._current] is client:
                self._current = (self._current + 1) % len(self.clients)

    def _stay_with(self, client: EndpointClient) -> None:
        with self._lock:
            self._current = self.clients.index(client)


def _timeout(rounds: int, count: int, repeatable: bool) -> float:
    """Seconds for one attempt: more with each round, since a loaded cluster may need more than the first allows.

    Without a limit where there is neither another endpoint nor a second attempt.
    """
    return ATTEMPT_SECONDS * 2.0**rounds if repeatable or count > 1 else float("inf")
