"""How far the refs of one repository have come, and those who wait for it: the read gate, and `piehole wait`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from controller.etcd_view import EtcdView
from controller.hook_permissions import is_trusted, may_read
from piehole.deadline import Deadline
from piehole.errors import EtcdError, Halted, PieholeError
from piehole.etcd.model import Range
from piehole.fastpath.controller_socket import CONTROLLER_SHARE
from piehole.fastpath.hook_messages import pack_here
from piehole.fastpath.read_messages import (
    FAILED,
    FRESH,
    NOT_SERVED,
    OFF,
    REACHED,
    WAITING,
    ReadAnswer,
    WaitQuestion,
    behind,
)
from piehole.group import promise
from piehole.group.records import GroupRecord, RecordError
from piehole.group.replica import Replica
from piehole.group.sites import read_sites
from piehole.replicate.freshness import Goal, await_goal, newest_push
from piehole.replicate.reconcile import Report

_READ: Final = 1.0  # seconds for the linearizable read in any case
_LONGEST: Final = 60.0  # seconds for which one question is kept; who waits longer asks again
_LONGER: Final = 3.0  # seconds that an answer may take beside the waiting: reads of etcd
_LOOK_FOR_SITES: Final = 0.05  # seconds between two reads of how far the sites have come, while a push waits for it
_LOOK: Final = 0.5  # seconds between two looks whether the reader still waits


class Readers:
    """Asked from any thread; told by the worker that reconciles.

    What counts as reached: a revision such that every managed ref here holds the value it had at it, or a later one. A locked ref counts
    as done, as in the progress record; a ref that cannot be moved holds it back.

    :param may_act: whether what the last reconcile has found still counts
    :param halted: why this site must not move refs, if so
    :param enqueue: has the repository reconciled soon
    :param doubt: has the next reconcile check this site again
    """

    def __init__(
        self,
        replica: Replica,
        etcd_view: EtcdView,
        *,
        may_act: Callable[[], bool],
        halted: Callable[[], Halted | None],
        enqueue: Callable[[], None],
        doubt: Callable[[], None],
    ) -> None:
        self.config = replica.config
        self._replica = replica
        self._etcd_view = etcd_view
        self._may_act = may_act
        self._halted = halted
        self._enqueue = enqueue
        self._doubt = doubt
        self._changed = threading.Condition()
        self._reached = 0
        self._held_back = ""

    # ---- told

    def reconciled(self, report: Report) -> None:
        """Wake those who wait for what this reconcile has reached."""
        reached = report.revision if report.converged else self._settled(report)
        with self._changed:
            self._reached = max(self._reached, reached)
            self._held_back = _hindrance(report)
            self._changed.notify_all()

    def forget(self) -> None:
        """Count nothing as reached: etcd may be another one, or an older one."""
        with self._changed:
            self._reached = 0

    def wake(self) -> None:
        """Have those who wait look whether this site was halted."""
        with self._changed:
            self._changed.notify_all()

    def _settled(self, report: Report) -> int:
        """The revision that was reached although some refs are not where they should be: just before the first of them changed.

        Under many pushes there is always one that is about to move its ref; nobody who waits for an older push should wait for it.
        """
        changes = self._etcd_view.changes(self.config.group, self._reached)
        if report.corrupt or not self._reached or changes is None:
            return 0
        first: dict[str, int] = {}
        for name, change in changes:
            first.setdefault(name, change.revision)
        unsettled = [first.get(ref, self._reached + 1) for ref in (*report.stuck, *report.deferred)]
        return min(report.revision, *(revision - 1 for revision in unsettled))

    # ---- asked

    def gate(self, awaited: Callable[[], bool]) -> ReadAnswer:
        """Wait up to ``piehole.readWait`` until this repository has reached what is the newest in the group now."""
        config = self.config
        if config.read_gate == "off":
            return ReadAnswer(OFF)
        revision = 0
        deadline = Deadline(config.read_wait)
        seen = self._etcd_view.informer.cache.revision
        try:
            revision, now = newest_push(self._replica, Deadline(max(_READ, config.read_wait)))
            revision = self._seen(revision)
            why = self._went_back(seen, now) or self._wait(revision, deadline, awaited)
        except EtcdError as error:
            why = str(error)
        if not why:
            return ReadAnswer(FRESH, revision)
        sentence = f"{config.git_dir} has not reached the newest state of the group {config.group!r}: {why}"
        return behind(sentence, refuses=config.read_gate == "strict", revision=revision)

    def wait(self, question: WaitQuestion, deadline: Deadline, awaited: Callable[[], bool]) -> ReadAnswer:
        """Wait for what `piehole wait` waits for."""
        goal = Goal(question.ref, question.oid, question.sites, question.revision or None)

        def here(revision: int, deadline: Deadline) -> str:
            return self._wait(revision, deadline, awaited)

        try:
            goal.check(self.config.object_format)
            found = await_goal(self._replica, goal, here, deadline, awaited)
        except PieholeError as error:
            return ReadAnswer(FAILED, question.revision, str(error), status=error.exit_status)
        return ReadAnswer(REACHED if found.reached else WAITING, found.revision or 0, found.why)

    def announce(self, revision: int, *, promised: bool, awaited: Callable[[], bool]) -> str:
        """How many sites have what a push here has moved at this revision: words for its user, ``""`` where nobody wants or knows them.

        Waits up to ``piehole.announce`` until all have it. This site has.

        :param promised: whether as many sites hold it as the group promises copies
        """
        deadline = Deadline(self.config.announce)
        group = Range(self._replica.keyspace.group(self.config.group))
        while revision and self.config.announce:
            try:
                read = read_sites(self._replica, Deadline(_READ), group)
                record = GroupRecord.parse(read.more[0].kvs[0].value)
            except (EtcdError, RecordError, IndexError):
                return ""
            members = promise.members(read.sites)
            there = sum(one.site == self.config.site or one.revision >= revision for one in read.sites if not one.left)
            copies = promise.needed(record, members) if promised else 1
            if there >= len(members) or deadline.passed or not awaited():
                return f"{min(max(there, copies), len(members))} of {len(members)} sites have it"
            time.sleep(min(_LOOK_FOR_SITES, deadline.remaining()))
        return ""

    def _seen(self, revision: int) -> int:
        """This revision, or that of the newest change which the watch has brought: it may be one by hand, which is no push."""
        return max(revision, self._etcd_view.informer.cache.newest(self.config.group))

    def _went_back(self, seen: int, now: int) -> str:
        """Why nothing can be said where etcd is at an older revision than its watch was before."""
        if now >= seen:
            return ""
        self._doubt()
        return f"etcd is at revision {now}, and was at {seen} before"

    def _wait(self, revision: int, deadline: Deadline, awaited: Callable[[], bool]) -> str:
        """Wait until this revision is reached; ``""`` when it is, else why not."""
        if self._is_reached(revision):
            return ""
        if not self._etcd_view.informer.cache.wait_for(revision, deadline):
            return self._words() or "the watch of etcd has not brought the newest changes yet"
        # A push that came through this site is reconciled a little later, since git has moved its refs. A reader does not wait for that.
        self._enqueue()
        with self._changed:
            while not self._is_reached(revision) and not self._halted() and not deadline.passed and awaited():
                self._changed.wait(min(_LOOK, deadline.remaining()))
            return "" if self._is_reached(revision) else self._words() or "what was pushed last has not arrived yet"

    def _is_reached(self, revision: int) -> bool:
        # 0: nothing is. A group without a record of a push, whose keys were put by hand, asks for 0.
        return 0 < self._reached >= revision and self._may_act()

    def _words(self) -> str:
        halted = self._halted()
        return str(halted) if halted is not None else self._held_back


def answer_reader(
    readers: Readers | None, question: Sequence[str], uid: int, awaited: Callable[[], bool]
) -> Iterator[list[str]]:
    """The messages that a reader is sent: nothing to an account that cannot read the repository, or that names one which is not served
    here. It cannot find out which of the two it was.

    :param readers: those of the repository that the question names; None: it is not served here
    :raises ValueError: the question has another form
    :raises OSError: the repository is gone
    """
    if readers is None:
        if is_trusted(uid):
            yield pack_here(_LONGER)
            yield ReadAnswer(NOT_SERVED).pack()
    elif may_read(readers.config.git_dir, uid):
        wait = WaitQuestion.parse(question) if question[0] == "wait" else None
        seconds = min(wait.seconds, _LONGEST) if wait else readers.config.read_wait
        yield pack_here((seconds + _LONGER) / CONTROLLER_SHARE)
        yield (readers.wait(wait, Deadline(seconds), awaited) if wait else readers.gate(awaited)).pack()


def _hindrance(report: Report) -> str:
    if report.corrupt:
        return f"objects here are corrupt: {report.corrupt}"
    for ref, why in report.stuck.items():
        return f"{ref} is stuck here: {why}"
    return ""
