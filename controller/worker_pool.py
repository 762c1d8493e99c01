"""A lane of work: a queue of repositories, and the workers that take them from it."""

from __future__ import annotations

from collections.abc import Callable

from controller.served_repository import NextTurn
from controller.work_queue import WorkQueue
from controller.workers import Workers


class WorkerPool:
    """
    :param workers: how many repositories are worked on at once, those whose turn has become slow apart
    :param backlog: how many of the workers may be busy with keys that are not fresh
    :param work: one turn of work on one repository; None where it is not served any more
    :param then: the lane that comes after this one
    """

    def __init__(
        self,
        name: str,
        workers: int,
        backlog: int,
        work: Callable[[str], NextTurn | None],
        on_death: Callable[[BaseException], None],
        then: WorkerPool | None = None,
    ) -> None:
        self.queue = WorkQueue(backlog_limit=backlog)
        self._work = work
        self._then = then
        self._workers = Workers(self.queue, workers, self._turn, on_death, name=name)

    def start(self) -> None:
        self._workers.start()

    def relieve(self) -> None:
        self._workers.relieve()

    def stop(self) -> None:
        """Take nothing new."""
        self.queue.stop()

    def join(self) -> None:
        self._workers.join()

    def _turn(self, key: str) -> None:
        following = self._work(key)
        if following is None:
            self.queue.forget(key)
            return
        if following.then is not None and self._then is not None:
            self._then.queue.add(key, delay=following.then)
        if following.retry:
            self.queue.retry(key)
            return
        self.queue.forget(key)
        if following.delay is not None:
            self.queue.add(key, delay=following.delay)
