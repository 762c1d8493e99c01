"""What the watch shows of the answers of other sites that were asked for copies."""

from __future__ import annotations

from controller.etcd_view import EtcdView
from piehole.deadline import Deadline
from piehole.group.group_state import GroupState
from piehole.group.keys import COPIES, FENCE
from piehole.group.replica import Replica
from piehole.push.copy_answers import Seen


class CachedAnswers:
    """The cache, which costs nothing to look at (:class:`piehole.push.copy_answers.Answers`)."""

    def __init__(self, replica: Replica, etcd_view: EtcdView) -> None:
        self._etcd_view = etcd_view
        self._keyspace = replica.keyspace
        self._group = replica.config.group

    def look(self, push_id: str, deadline: Deadline) -> Seen:  # noqa: ARG002 -- etcd is not asked
        cache = self._etcd_view.informer.cache
        view = cache.view(f"{self._group}/{COPIES}")
        start = self._keyspace.copies(self._group, push_id)
        fence = cache.get(self._group, self._keyspace.ref(self._group, FENCE))
        found = [kv for key, kv in view.entries.items() if start <= key < start + b"0"]
        return Seen(view.revision, fence.mod_revision if fence else 0, found)

    def wait(self, seen: Seen, deadline: Deadline) -> None:
        self._etcd_view.informer.cache.wait_for(seen.revision + 1, deadline)

    def state(self, deadline: Deadline) -> GroupState:  # noqa: ARG002 -- etcd is not asked
        return self._etcd_view.view(self._group)
