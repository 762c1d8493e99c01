"""Carries out a schedule of faults, and heals each one. Runs on the main thread: servers end with the thread that starts them."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.fault.history.bed import Bed
from tests.fault.history.makers import Heal, Makers
from tests.fault.history.schedule import Fault
from tests.support.wait import until

_HEALED: Final = 60.0  # seconds


@dataclass(frozen=True, order=True)
class _Due:
    """What is to be made, or healed, at a point of the monotonic clock."""

    when: float
    number: int
    what: Fault | Heal = field(compare=False)


class Nemesis:
    """``done`` counts the faults that were really made, by kind."""

    def __init__(self, bed: Bed, faults: Sequence[Fault]) -> None:
        self._bed = bed
        self._makers = Makers(bed, self._later)
        self._numbers = itertools.count()
        self._due: list[_Due] = []
        self.done: Counter[str] = Counter()
        self._faults = list(faults)

    @property
    def robbed(self) -> Sequence[str]:
        """What was taken from other programs."""
        return self._makers.strangers.robbed

    def run(self, enough: Callable[[], bool], seconds: float) -> None:
        """Until ``seconds`` are over, or it is enough and nothing is left unhealed."""
        began = time.monotonic()
        for fault in self._faults:
            heapq.heappush(self._due, _Due(began + fault.at, next(self._numbers), fault))
        while time.monotonic() < began + seconds and not enough():
            if self._due and self._due[0].when <= time.monotonic():
                due = heapq.heappop(self._due)
                if isinstance(due.what, Fault):
                    self._make(due.what)
                else:
                    due.what()
            else:
                time.sleep(0.02)

    def heal(self) -> None:
        """Heal at once what is still to be healed; faults that were not made yet are dropped."""
        self._bed.heal()
        end = time.monotonic() + _HEALED
        while self._due:
            assert time.monotonic() < end, "what was done by hand cannot be mended"
            due = heapq.heappop(self._due)
            if not isinstance(due.what, Fault):
                due.what()
        self._bed.heal()
        self._makers.end()

    def _make(self, fault: Fault) -> None:
        heal = self._makers.make(fault)
        if heal is None:
            return
        self.done[fault.kind] += 1
        self._later(fault.lasts, heal)

    def _later(self, seconds: float, heal: Heal) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + seconds, next(self._numbers), heal))


def settle(bed: Bed) -> None:
    """Wait until every controller serves again."""
    for place in bed.places:
        until(lambda place=place: place.site.running, 10, f"the controller of {place.site.name} runs")  # type: ignore[misc]
        place.site.wait_served()
