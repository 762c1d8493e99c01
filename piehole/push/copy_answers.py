"""How a site that has asked for copies hears of the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from piehole.deadline import Deadline
from piehole.etcd.model import KeyValue, Range
from piehole.group import keys
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.push.request_keys import RequestKeys

_POLL_EVERY: Final = 0.02  # seconds, at first
_POLL_SELDOM: Final = 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """The keys of one push at ``revision``, and the mod_revision of ``@fence``: whoever joins or leaves writes that."""

    revision: int
    fence: int
    kvs: Sequence[KeyValue]


class Answers(Protocol):
    """What is known of the answers to one site's requests. It may be older than etcd."""

    def look(self, push_id: str, deadline: Deadline) -> Seen:
        """The keys of this push.

        :raises EtcdError: etcd was needed and could not be used
        """

    def wait(self, seen: Seen, deadline: Deadline) -> None:
        """Wait until there may be more to see than that."""

    def state(self, deadline: Deadline) -> GroupState:
        """All refs of the group.

        :raises EtcdError: etcd was needed and could not be used
        """


class PolledAnswers:
    """Asks etcd again and again."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._keys = RequestKeys(replica)
        self._pause = _POLL_EVERY

    def look(self, push_id: str, deadline: Deadline) -> Seen:
        fence = Range(self._replica.keyspace.ref(self._replica.config.group, keys.FENCE))
        result = self._replica.etcd.txn([], [self._keys.all_of(push_id), fence], deadline=deadline)
        found, fences = result.ranges
        return Seen(result.revision, fences.kvs[0].mod_revision if fences.kvs else 0, found.kvs)

    def wait(self, seen: Seen, deadline: Deadline) -> None:  # noqa: ARG002 -- the cached answers'
        time.sleep(min(self._pause, deadline.remaining()))
        self._pause = min(self._pause * 1.5, _POLL_SELDOM)

    def state(self, deadline: Deadline) -> GroupState:
        return self._replica.reader.list_group(deadline)
