"""Wait until this site, or others, have what is the newest in the group: through the controller, or with an own connection to etcd."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdUnreachable, NoAccess, PieholeError, UsageError
from piehole.fastpath import controller_socket
from piehole.fastpath.controller_socket import NoController
from piehole.fastpath.read_messages import FAILED, NOT_SERVED, REACHED, ReadAnswer, WaitQuestion
from piehole.group.replica import Replica
from piehole.long_work import doing
from piehole.replicate.freshness import Arrival, Goal, as_compared, await_goal

_ROUND: Final = 2.0  # seconds of one question, after which the progress is shown
_PAUSE: Final = 0.5  # seconds
_ERRORS: Final[dict[int, type[PieholeError]]] = {2: UsageError, 3: EtcdUnreachable}


class Waiter:
    """Waits for one goal at one repository.

    :param open_replica: makes the own connection, where no controller answers
    """

    def __init__(self, git_dir: Path, goal: Goal, open_replica: Callable[[], Replica]) -> None:
        self._git_dir = git_dir
        self._goal = goal
        self._open_replica = open_replica
        self._replica: Replica | None = None

    def run(self, deadline: Deadline) -> Arrival:
        """
        :raises UsageError: the goal, or a setting, is wrong
        :raises EtcdUnreachable: what is the newest could not be found out
        :raises PieholeError: it cannot be reached
        """
        why = ""
        patience = 0.0  # the first question finds out what to wait for
        while True:
            try:
                found = self._round(deadline.at_most(patience))
                patience = _ROUND
                if found.reached:
                    return found
                self._goal = replace(self._goal, revision=found.revision)
                why = found.why
            except EtcdError as error:
                # Once it is known what to wait for, etcd and the controller may go and come back.
                if self._goal.revision is None:
                    raise
                why = str(error)
                time.sleep(min(_PAUSE, deadline.remaining()))
            if deadline.passed:
                return Arrival(False, self._goal.revision, why)
            doing(f"waiting: {why}")

    def _round(self, deadline: Deadline) -> Arrival:
        try:
            return self._ask(deadline)
        except NoController as nobody:
            try:
                self._replica = self._replica or self._open_replica()
                self._goal.check(self._replica.config.object_format)
                return await_goal(self._replica, self._goal, as_compared(self._replica), deadline)
            except NoAccess as error:
                raise NoAccess(f"no controller answers for {self._git_dir} ({nobody}). {error}") from nobody

    def _ask(self, deadline: Deadline) -> Arrival:
        goal = self._goal
        question = WaitQuestion(
            str(self._git_dir),
            deadline.remaining(),
            ref=goal.ref,
            oid=goal.oid,
            sites=goal.sites,
            revision=goal.revision or 0,
        )
        try:
            answer = ReadAnswer.parse(controller_socket.ask(str(self._git_dir), question.pack()))
        except (ValueError, LookupError) as error:
            raise NoController("the controller speaks another version") from error
        if answer.state == NOT_SERVED:
            raise NoController(f"the controller that it names does not serve {self._git_dir}")
        if answer.state == FAILED:
            raise _ERRORS.get(answer.status, PieholeError)(answer.sentence)
        return Arrival(answer.state == REACHED, answer.revision or None, answer.sentence)
