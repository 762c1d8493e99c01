"""Where the decision about a push reads what the group wants: a linearizable read, or a cached view with such a read behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from piehole.deadline import Deadline
from piehole.errors import Halted, PieholeError
from piehole.group import progress
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.refs import Command

_POLL_EVERY = 0.03  # seconds


class Source(Protocol):
    """Reads what the group wants, and says whether this site may act on it."""

    def states(self, commands: Sequence[Command], deadline: Deadline) -> Iterator[GroupState]:
        """States from the cheapest to the surest; the last one is a linearizable read. Only that one may refuse.

        :raises EtcdError: etcd was needed and could not be used
        """

    def halted(self, state: GroupState) -> Halted | None:
        """Why this site must not move, according to this state; None where it may."""

    def catch_up(self, ref: str, oid: str, deadline: Deadline) -> str:
        """Wait until this site's ``ref`` is at ``oid``; ``""`` when it is, else a sentence that says why it is not."""

    def doubt(self) -> None:
        """The group's record is another one than the states had."""


class LinearizableSource:
    """Reads from etcd for each decision.

    :param reconcile: starts a reconcile of this repository, and does not wait for it
    """

    def __init__(self, replica: Replica, reconcile: Callable[[], None]) -> None:
        self._replica = replica
        self._reconcile = reconcile

    def states(self, commands: Sequence[Command], deadline: Deadline) -> Iterator[GroupState]:
        yield self._replica.reader.read(commands, deadline)

    def halted(self, state: GroupState) -> Halted | None:
        return progress.halted(self._replica, state)

    def catch_up(self, ref: str, oid: str, deadline: Deadline) -> str:
        repository = self._replica.repository
        try:
            if repository.read_ref(ref) == oid:
                return ""
            repository.check_owner()
            self._reconcile()
        except PieholeError as error:
            return f"This site could not catch up first: {error}"
        while not deadline.passed:
            time.sleep(_POLL_EVERY)
            if repository.read_ref(ref) == oid:
                return ""
        return "This site has not caught up yet; if the pull brings nothing new, wait, and see `piehole status`"

    def doubt(self) -> None:
        pass  # each state is read anew


class CachedSource(LinearizableSource):
    """Offers the cached view first, which costs nothing; a linearizable read follows where the view would refuse.

    A view may admit what the swap cannot do any more, because etcd is down or has another group by now. Git then tells the client
    nothing but that the connection ended. So where etcd has been silent, one small read comes before the view.
    """

    def __init__(
        self,
        replica: Replica,
        reconcile: Callable[[], None],
        view: Callable[[], GroupState | None],
        *,
        heard_since: Callable[[float], bool],
        doubt: Callable[[], None],
    ) -> None:
        """
        :param view: the group's keys as a cache has them; None where this site may not act on them
        :param heard_since: whether etcd need not be asked, since the group's records were read at this time (monotonic seconds)
        :param doubt: called where etcd says that this site must not act: ``view`` gives None until that was checked
        """
        super().__init__(replica, reconcile)
        self._view = view
        self._heard_since = heard_since
        self._doubt = doubt
        self._read = 0.0  # when a linearizable read last said that this site may act

    def states(self, commands: Sequence[Command], deadline: Deadline) -> Iterator[GroupState]:
        self._replica.etcd.check_space(deadline)  # what is refused here is refused in words over every transport
        view = self._view()
        if view is not None and (self._heard_since(self._read) or self._may_act(deadline)):
            yield view
        yield from super().states(commands, deadline)

    def halted(self, state: GroupState) -> Halted | None:
        if state.from_view:  # it is only handed in where this site may act on it
            return None
        found = super().halted(state)
        if found is None:
            self._read = time.monotonic()
        else:
            self._doubt()
        return found

    def doubt(self) -> None:
        self._doubt()

    def _may_act(self, deadline: Deadline) -> bool:
        return self.halted(self._replica.reader.read((), deadline)) is None
