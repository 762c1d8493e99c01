"""What a controller counts while it works, where somebody looks at it (``--http``): plain numbers, read at each scrape.

Everything here is bounded: what other sites choose (their names) is counted together once there is too much of it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from piehole.errors import UNKNOWN
from piehole.fastpath.hook_messages import Answer, Question

QUICK: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SLOW: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
FEW: Final = (0.1, 1.0, 10.0, 60.0, 600.0)
_PUSHES: Final = 2048  # pushes whose outcomes are remembered: several hooks may be told the same
_MOST: Final = 200
_LONGEST: Final = 200  # characters of the value of a label
_OTHERS: Final = "(others)"


def label(text: str) -> str:
    """A text that others have chosen, as the value of a label: valid UTF-8 without control characters, and not too long."""
    readable = "".join(one if one.isprintable() else "?" for one in text)
    return (
        readable
        if len(readable) <= _LONGEST
        else f"{readable[: _LONGEST - 9]}…{crc32(text.encode(errors='backslashreplace')):08x}"
    )


class Histogram:
    """How often something took how long. Not safe to use from several threads at once.

    :param bounds: the upper bounds of the buckets, in seconds
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Each bound with the number of observations that do not exceed it; the last bound is infinite."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield bound, total


class Meters:
    """Told from many threads; one lock, held for microseconds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pushes: dict[tuple[str, str], int] = {}  # by outcome and token
        self.swap = Histogram(QUICK)
        self.arrivals = Histogram(SLOW)
        self.fetches: dict[tuple[str, str], int] = {}  # by peer and result
        self.fetched_bytes: dict[str, int] = {}
        self.fetch_seconds: dict[str, Histogram] = {}
        self.requests: dict[tuple[str, str], int] = {}  # by endpoint and result
        self.request_seconds: dict[str, Histogram] = {}  # by operation
        self._counted: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def answered(self, question: Question, answer: Answer, seconds: float) -> None:
        """A hook's question was answered. A push counts once for each outcome that it was told of: some of its refs may be refused."""
        tokens = {one.value for one in (answer, *answer.each) if one is not None and one.kind == "refuse"}
        with self.lock:
            if question.kind == "propose" and answer.kind != "again":
                self.swap.observe(seconds)
            if answer.kind == "accepted":
                self._count_push(question.push_id, "accepted", "")
            for token in tokens:
                self._count_push(question.push_id, "unknown" if token == UNKNOWN else "refused", token)

    def _count_push(self, push_id: str, outcome: str, token: str) -> None:
        told = (push_id, outcome, token)
        if told in self._counted:
            return
        self._counted[told] = None
        if len(self._counted) > _PUSHES:
            self._counted.popitem(last=False)
        self.pushes[outcome, token] = self.pushes.get((outcome, token), 0) + 1

    def arrived(self, seconds: float) -> None:
        """A change has moved a ref here, so long after the watch told of it."""
        with self.lock:
            self.arrivals.observe(seconds)

    def fetched(self, site: str, result: str, size: int, seconds: float) -> None:
        """One attempt to fetch from a peer has ended. ``result``: ok, lacking (it does not have an object yet), failed or cancelled."""
        site = label(site)
        with self.lock:
            if site not in self.fetch_seconds and len(self.fetch_seconds) >= _MOST:
                site = _OTHERS
            self.fetches[site, result] = self.fetches.get((site, result), 0) + 1
            self.fetched_bytes[site] = self.fetched_bytes.get(site, 0) + size
            self.fetch_seconds.setdefault(site, Histogram(FEW)).observe(seconds)

    def requested(self, endpoint: str, path: str, result: str, seconds: float) -> None:
        """A request to etcd has ended. ``result``: ok, refused or unanswered."""
        operation = path.rpartition("/")[2]
        with self.lock:
            self.requests[endpoint, result] = self.requests.get((endpoint, result), 0) + 1
            self.request_seconds.setdefault(operation, Histogram(QUICK)).observe(seconds)
