"""A point on the monotonic clock at which waiting ends."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A deadline ``seconds`` from now, on the monotonic clock, so that a wrong wall clock changes nothing."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        return self.remaining() == 0.0

    def at_most(self, seconds: float) -> Deadline:
        """A deadline ``seconds`` from now, or this one where it is sooner."""
        return Deadline(min(seconds, self.remaining()), clock=self._clock)
