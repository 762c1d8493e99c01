"""What this process holds for pushes that other sites have yet to swap, so that a reconcile need not fetch or check it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from piehole.transfer.keep_files import Hold

_SILENT: Final = 2.0  # seconds without a byte after which nobody waits for another thread's fetch


@dataclass(frozen=True, slots=True)
class HeldTip:
    """``site``: which has sent it; ``parents``: of this commit, None where they are not known."""

    site: str = ""
    parents: Sequence[str] | None = None


@dataclass(slots=True)
class _Holding:
    tip: HeldTip
    pushes: set[str] = field(default_factory=set)
    lent: int = 0


class Coming:
    """One fetch of oids that are to be held. ``received``: bytes so far."""

    def __init__(self) -> None:
        self.received = 0


class Holdings:
    """The oids that are proven to be here and protected by a held ref, and those that are being fetched. Safe to share between threads."""

    def __init__(self, is_held: Callable[[str, str], bool] = lambda *_: True) -> None:
        """:param is_held: whether the held ref of this push and this oid is still there"""
        self._is_held = is_held
        self._changed = threading.Condition()
        self._held: dict[str, _Holding] = {}
        self._coming: dict[str, Coming] = {}

    def add(self, push_id: str, oid: str, tip: HeldTip) -> None:
        """The held ref of this push protects the oid from now on."""
        with self._changed:
            self._held.setdefault(oid, _Holding(tip)).pushes.add(push_id)

    @contextmanager
    def fetching(self, oids: Collection[str], stop: threading.Event) -> Iterator[tuple[Coming, set[str]]]:
        """Yields those that the caller must fetch: neither held, nor fetched by another thread that makes progress."""
        coming = Coming()
        with self._changed:
            self._await(oids, stop)
            mine = {oid for oid in oids if oid not in self._held}
            self._coming |= dict.fromkeys(mine, coming)
        try:
            yield coming, mine
        finally:
            with self._changed:
                self._coming = {oid: one for oid, one in self._coming.items() if one is not coming}
                self._changed.notify_all()

    def lend(self, oids: Collection[str], hold: Hold, stop: threading.Event | None = None) -> dict[str, HeldTip]:
        """Those of these that are held, once fetches under way have ended. Their refs stay until ``hold`` ends: move the refs inside it."""
        with self._changed:
            if not self._held and not self._coming:
                return {}
            self._await(oids, stop)
            # Somebody may have deleted the refs by hand.
            lent = [
                oid
                for oid in dict.fromkeys(oids)
                if oid in self._held and any(self._is_held(push_id, oid) for push_id in self._held[oid].pushes)
            ]
            for oid in lent:
                self._held[oid].lent += 1
            tips = {oid: self._held[oid].tip for oid in lent}
        if lent:
            hold.at_end(lambda: self._give_back(lent))
        return tips

    def drop(self, push_id: str, oids: Collection[str]) -> bool:
        """Forget what this push holds, before its refs go. False: something of it is in use, so its refs must stay for now."""
        with self._changed:
            held = [(oid, self._held[oid]) for oid in oids if oid in self._held]
            if any(one.lent for _, one in held):
                return False
            for oid, one in held:
                one.pushes.discard(push_id)
                if not one.pushes:
                    del self._held[oid]
            return True

    def _give_back(self, oids: Collection[str]) -> None:
        with self._changed:
            for oid in oids:
                self._held[oid].lent -= 1

    def _await(self, oids: Collection[str], stop: threading.Event | None) -> None:
        """Wait for other threads' fetches of these, for as long as bytes come."""
        seen, since = -1, time.monotonic()
        while busy := {self._coming[oid] for oid in oids if oid in self._coming and oid not in self._held}:
            received = sum(one.received for one in busy)
            if received != seen:
                seen, since = received, time.monotonic()
            if time.monotonic() - since > _SILENT or (stop is not None and stop.is_set()):
                return
            self._changed.wait(0.1)
