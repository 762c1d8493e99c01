"""Pushes at a steady rate on one branch: does the lag stay flat?"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from tests.bench.bed import Pushed, Server

_LOOK_EVERY: Final = 0.001
_PATIENCE: Final = 10.0


@dataclass
class Steady:
    """What became of the pushes of one run.

    :param lags: for each push, when it returned (seconds since the first one's start) and how long after that all others had
        it or a later one; never more than the run's patience
    :param missing: pushes that had not come to all others by then
    :param rate: pushes a second that were made in fact
    """

    lags: list[tuple[float, float]] = field(default_factory=list)
    missing: int = 0
    rate: float = 0.0

    def by_second(self) -> list[tuple[float, float]]:
        """The median lag of each second's pushes, in milliseconds."""
        seconds: defaultdict[int, list[float]] = defaultdict(list)
        for at, lag in self.lags:
            seconds[int(at)].append(lag * 1000)
        return [(float(second), statistics.median(lags)) for second, lags in sorted(seconds.items())]


def run(server: Server, others: Sequence[Server], seconds: float, rate: float) -> Steady:
    """Push to ``server`` ``rate`` times a second, or as often as one pusher can, and watch ``others``."""
    count = int(seconds * rate)
    server.stock_up(count)
    with ThreadPoolExecutor(max_workers=1) as pool:
        started = time.monotonic()
        pushing = pool.submit(_push, server, started, count, rate)
        seen = _watch(pushing, others)
        return _judge(pushing.result(), started, seen)


def _push(server: Server, started: float, count: int, rate: float) -> list[Pushed]:
    pushed = []
    for number in range(count):
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
        pushed.append(server.push_one_commit())
    return pushed


def _watch(pushing: Future[list[Pushed]], others: Sequence[Server]) -> list[dict[str, float]]:
    """When each of the others first showed each oid, until all show the last one or patience is over."""
    seen: list[dict[str, float]] = [{} for _ in others]
    patient_until = float("inf")
    while time.monotonic() < patient_until:
        for known, other in zip(seen, others, strict=True):
            known.setdefault(other.main(), time.monotonic())
        if pushing.done():
            if all(pushing.result()[-1].oid in known for known in seen):
                break
            patient_until = min(patient_until, time.monotonic() + _PATIENCE)
        time.sleep(_LOOK_EVERY)
    return seen


def _judge(pushes: list[Pushed], started: float, seen: list[dict[str, float]]) -> Steady:
    found = Steady(rate=(len(pushes) - 1) / (pushes[-1].ended - pushes[0].ended))
    # Going backwards: a later commit on the same branch brings all before it.
    soonest = [float("inf")] * len(seen)
    for pushed in reversed(pushes):
        soonest = [min(best, known.get(pushed.oid, best)) for best, known in zip(soonest, seen, strict=True)]
        lag = max(0.0, max(soonest) - pushed.ended)
        if lag > _PATIENCE:
            found.missing += 1
            lag = _PATIENCE
        found.lags.append((pushed.ended - started, lag))
    found.lags.reverse()
    return found
