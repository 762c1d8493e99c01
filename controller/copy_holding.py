"""Copies of pushes to other sites in one repository: which requests are to be answered, and what was held for them that may go.

A request is a key below ``@copies`` (:mod:`piehole.group.promise`). Each is handled in a turn of its own, so that one peer that cannot
be reached delays no other request. What is held for a push whose request is gone is released in the repository's turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from controller.cache import KeyChange
from controller.copy_release import CopyRelease, HeldPush, lingering
from controller.copy_requests import CopyRequests
from controller.etcd_view import EtcdView
from controller.work_queue import NextTurn
from piehole.errors import EtcdError, Halted, PieholeError
from piehole.etcd.model import KeyValue
from piehole.group.promise import CopiesRequest
from piehole.group.replica import Replica
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.hold_copies import CopyHolder, Senseless, read_request
from piehole.replicate.holdings import HeldTip, Holdings
from piehole.replicate.reconcile import Report
from piehole.repository import held_refs, verification

_MOST: Final = 2000  # pushes for which objects are held or fetched at once
_SHOWN: Final = 20  # requests that are not answered, in the status
_UNCHECKED: Final = 1.0  # seconds until a site that must not act now looks again


class CopyHolding:
    """
    :param check: raises what keeps this site from acting on the cached view; what it returns does not matter
    :param is_checked: whether this site may act on the cached view now
    :param enqueue: has the repository's turn (:meth:`settle`) follow soon
    :param reconcile: has the repository reconciled soon
    """

    def __init__(
        self,
        replica: Replica,
        etcd_view: EtcdView,
        fetcher: ObjectFetcher,
        holdings: Holdings,
        check: Callable[[], object],
        is_checked: Callable[[], bool],
        enqueue: Callable[[], None],
        reconcile: Callable[[], None],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._replica = replica
        self._requests = CopyRequests(replica, etcd_view)
        self._holdings = holdings
        self._check = check
        self._is_checked = is_checked
        self._enqueue = enqueue
        self._release = CopyRelease(replica, holdings, reconcile)
        self._log = log
        group = replica.config.group
        self._holder = CopyHolder(replica, fetcher, holdings, lambda: etcd_view.view(group).entries)
        self._telling = threading.Lock()
        self._lock = threading.Lock()
        self._pushes: dict[str, HeldPush] = {}
        self._unanswered: dict[str, tuple[int, str]] = {}  # by push: the request's revision, and why
        self._recovered = False

    # ---- called from an informer's thread

    def changed(self) -> list[str]:
        """The pushes whose requests have a turn to come, after some keys of requests have changed."""
        with self._telling:  # a scan of the folders asks, too, when it begins to serve the repository
            return self._changed()

    def _changed(self) -> list[str]:
        news = self._requests.news()
        if news is None:
            self._enqueue()
            return self._requests.all()
        due: dict[str, None] = {}
        for push_id, site, change in news:
            if not site and change.after is None:
                self._ended(push_id, change)
            elif change.after is not None and (not site or self._may_come_from_elsewhere(push_id)):
                due[push_id] = None
        return list(due)

    def _may_come_from_elsewhere(self, push_id: str) -> bool:
        """Whether the site that asks could not give it, and now another one holds it."""
        with self._lock:
            found = self._pushes.get(push_id)
            return found is not None and found.failed

    def _ended(self, push_id: str, gone: KeyChange) -> None:
        with self._lock:
            push = self._pushes.get(push_id)
        if push is not None:
            push.end = self._requests.end_of(push_id, gone)
            if not push.end.accepted:
                self._enqueue()

    # ---- the turn of one request

    def hold(self, push_id: str, stop: threading.Event) -> NextTurn:
        """Answer one request, where it is there and not answered yet."""
        asked = self._requests.get(push_id)
        if asked is None or self._unanswered.get(push_id, (0, ""))[0] == -asked.mod_revision:
            return NextTurn()
        try:
            request = read_request(self._replica, push_id, asked)
            if request.site == self._replica.config.site:
                return NextTurn()
            if not self._recovered:
                self._recover()
            push = self._begin(push_id)
            try:
                self._answer(push_id, push, asked, request, stop)
            finally:
                push.busy = False
                if self._requests.get(push_id) is None:
                    self._enqueue()
        except Senseless as error:
            self._forget(push_id)
            self._note(push_id, -asked.mod_revision, error)
            return NextTurn()
        except Halted as error:
            self._note(push_id, asked.mod_revision, error)
            raise
        except (PieholeError, OSError) as error:
            self._note(push_id, asked.mod_revision, error)
            return NextTurn(retry=True)
        return NextTurn()

    def _begin(self, push_id: str) -> HeldPush:
        with self._lock:
            if len(self._pushes) >= _MOST and push_id not in self._pushes:
                raise PieholeError(f"this site holds objects for {_MOST} pushes already")
            push = self._pushes.setdefault(push_id, HeldPush())
            if push.busy:
                raise PieholeError("what was held for an earlier request of this name is being released")
            push.busy = True
            push.end = None
            return push

    def _forget(self, push_id: str) -> None:
        with self._lock:
            push = self._pushes.get(push_id)
            if push is not None and not push.complete:
                del self._pushes[push_id]

    def _answer(
        self, push_id: str, push: HeldPush, asked: KeyValue, request: CopiesRequest, stop: threading.Event
    ) -> None:
        if push.revision == asked.mod_revision:
            return
        self._may_act()
        began = time.monotonic()
        if push.complete and self._holder.holds(push_id, request):
            there = self._holder.tell(push_id, asked, request.lease)
        else:
            again, push.failed = push.failed, True
            push.oids |= frozenset(request.oids)
            there = self._holder.hold(
                push_id,
                asked,
                request,
                lambda: self._requests.holders(push_id),
                self._may_act,
                stop,
                again=again,
                held=lambda: self._has(push, began),
            )
            push.failed = False
        if there:
            push.revision = asked.mod_revision
            self._log.info("copy.held", push=push_id, peer=request.site, ms=round((time.monotonic() - began) * 1000, 1))
        self._unanswered.pop(push_id, None)

    def _has(self, push: HeldPush, began: float) -> None:
        """The held refs are there."""
        push.complete = True
        push.until = time.monotonic() + lingering(time.monotonic() - began)

    def _may_act(self) -> None:
        self._check()
        corrupt = verification.corrupt(self._replica.git_dir)
        if corrupt:
            raise PieholeError(f"this repository is corrupt: {corrupt}")

    def _note(self, push_id: str, revision: int, error: Exception) -> None:
        """Log once why a request is not answered."""
        why = " ".join(str(error).split())
        if self._unanswered.get(push_id) != (revision, why):
            log = self._log.debug if isinstance(error, EtcdError) else self._log.warning
            log("copy.not_held", push=_shown(push_id), reason=why)
        self._unanswered.pop(push_id, None)
        self._unanswered[push_id] = (revision, why)
        while len(self._unanswered) > _MOST:
            self._unanswered.pop(next(iter(self._unanswered)), None)

    # ---- the turn of the repository

    def settle(self, _stop: threading.Event) -> NextTurn:
        """Release what was held for pushes whose requests are gone, as far as that can be now.

        :raises PieholeError: something failed; try again
        """
        if not self._is_checked():
            return NextTurn(delay=_UNCHECKED) if self._pushes or not self._recovered else NextTurn()
        if not self._recovered:
            self._recover()
        for push_id in list(self._unanswered):
            if self._requests.get(push_id) is None:
                self._unanswered.pop(push_id, None)
        gone = self._take_gone()
        try:
            waits, release = self._release.sort_out(gone, self._requests.revision)
            held_refs.release(self._replica.repository, release)
            with self._lock:
                for push_id in release:
                    del self._pushes[push_id]
        finally:
            for push in gone.values():
                push.busy = False
        return NextTurn(delay=min(waits, default=None))

    def _take_gone(self) -> dict[str, HeldPush]:
        """The pushes whose requests are gone. A request of the same name that comes now has to wait."""
        with self._lock:
            gone = {
                push_id: push
                for push_id, push in self._pushes.items()
                if not push.busy and self._requests.get(push_id) is None
            }
            for push in gone.values():
                push.busy = True
        return gone

    def _recover(self) -> None:
        """Find what earlier processes have held. Its objects were proven before the refs were made."""
        for push_id, refs in held_refs.held(self._replica.repository).items():
            with self._lock:
                self._pushes.setdefault(push_id, HeldPush(frozenset(refs), complete=True))
            for oid in refs:
                self._holdings.add(push_id, oid, HeldTip())
        self._recovered = True

    def look_again(self) -> None:
        """Have the next turn look for held refs that this process does not know: another one may have made them."""
        self._recovered = False
        self._enqueue()

    # ---- called by the worker that reconciles, and for the status

    def reconciled(self, report: Report) -> None:
        self._release.reconciled(report)
        if report.tips or report.full:
            self._holder.use_tips(report.tips)
        if any(push.end is not None for push in list(self._pushes.values())):
            self._enqueue()

    @property
    def held(self) -> int:
        """For how many pushes all that they bring is held."""
        return sum(push.complete for push in list(self._pushes.values()))

    def describe(self) -> list[str]:
        """Lines of the answer to ``piehole status``."""
        pushes = list(self._pushes.items())
        lines = [f"held {push_id} objects={len(push.oids)}" for push_id, push in pushes if push.complete][:_SHOWN]
        unanswered = [(name, why) for name, (_, why) in list(self._unanswered.items()) if self._requests.get(name)]
        return lines + [f"not-held {_shown(name)} {why}" for name, why in unanswered[-_SHOWN:]]


def _shown(push_id: str) -> str:
    """The name of a request for one word of a line; somebody may have written it by hand."""
    return push_id if held_refs.is_push_id(push_id) else ascii(push_id)[:60].replace(" ", "?")
