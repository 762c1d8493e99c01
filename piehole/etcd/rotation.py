"""The endpoints of a cluster, asked in turn until one answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from piehole.deadline import Deadline
from piehole.errors import EtcdUnreachable
from piehole.etcd import json_gateway
from piehole.etcd.endpoint_client import Member
from piehole.etcd.json_gateway import Json, Trouble

ATTEMPT_SECONDS: Final = 2.0  # a healthy member answers within milliseconds; a hung one must not eat the deadline
_PAUSE: Final = wait_random_exponential(multiplier=0.05, max=0.5)  # seconds, after each round over all endpoints

T = TypeVar("T")


class Turns:
    """Remembers who answered last, and asks that one first. Safe to use from many threads.

    :param first: the index of the member that is asked first
    """

    def __init__(self, members: Sequence[Member], first: int) -> None:
        self.members = members
        self._current = first
        self._lock = threading.Lock()

    def ask(
        self, path: str, body: Json, read: Callable[[Json], T], deadline: Deadline, *, repeatable: bool = True
    ) -> tuple[Member, T]:
        """Ask one member after the other until one gives an answer that ``read`` understands.

        :param repeatable: go on also after a request that may have been sent
        :raises EtcdUnreachable: nobody did before the deadline
        :raises EtcdRefused, Compacted: one said no
        """
        count, start = len(self.members), self._current
        said: dict[str, str] = {}  # the last word of each endpoint

        def again(error: BaseException) -> bool:
            return isinstance(error, Trouble) and (repeatable or not error.sent)

        def pause(state: RetryCallState) -> float:
            return min(_PAUSE(state), deadline.remaining()) if state.attempt_number % count == 0 else 0.0

        attempts = Retrying(retry=retry_if_exception(again), wait=pause, stop=lambda _: deadline.passed, reraise=True)
        try:
            for attempt in attempts:
                with attempt:
                    number = attempt.retry_state.attempt_number - 1
                    member = self.members[(start + number) % count]
                    patience = min(_patience(number // count, count, repeatable), deadline.remaining())
                    return member, self._attempt(member, path, body, read, patience, said)
        except Trouble as trouble:
            words = "; ".join(f"{name}: {word}" for name, word in said.items()) or trouble.said
            sentence = f"No etcd endpoint answered: {words}"
            raise EtcdUnreachable(sentence, maybe_sent=trouble.sent and not repeatable) from trouble
        raise AssertionError("tenacity gave up without an error")

    def _attempt(
        self, member: Member, path: str, body: Json, read: Callable[[Json], T], patience: float, said: dict[str, str]
    ) -> T:
        if patience <= 0:
            raise Trouble("no time was left", sent=False)
        try:
            answer = self._understood(member.call(path, body, timeout=patience), read)
        except Trouble as trouble:
            said[member.name] = trouble.said
            self.rotate_from(member)
            raise
        self._stay_with(member)
        return answer

    @staticmethod
    def _understood(answer: Json, read: Callable[[Json], T]) -> T:
        try:
            return read(answer)
        except json_gateway.MALFORMED as error:
            raise Trouble(f"does not speak etcd's v3 JSON ({error!r})", sent=True) from error

    def rotate_from(self, member: Member) -> None:
        """This one failed: the next call begins elsewhere."""
        with self._lock:
            if self.members[self._current] is member:
                self._current = (self._current + 1) % len(self.members)

    def _stay_with(self, member: Member) -> None:
        with self._lock:
            self._current = self.members.index(member)


def _patience(rounds: int, count: int, repeatable: bool) -> float:
    """Seconds for one attempt: longer with each round, since a loaded cluster may need more than the first allows.

    Where there is neither another endpoint nor a second try, waiting is all that is left.
    """
    return ATTEMPT_SECONDS * 2.0**rounds if repeatable or count > 1 else float("inf")
