"""How long to wait: a time that a person wrote, and a point on the monotonic clock at which waiting ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from piehole.errors import UsageError

_TIME: Final = re.compile(r"(\d{1,12}(?:\.\d*)?|\.\d+)(ms|s|m|h|d|w)?", re.ASCII)
_UNITS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def seconds(name: str, text: str, longest: float = 1e9) -> float:
    """The seconds of a time as every option and setting takes it: ``10``, ``2.5s``, ``250ms``, ``10m``, ``12h``, ``7d``, ``2w``.

    :param name: the option or setting, for the message
    :raises UsageError: the text is no such time, or is longer
    """
    found = _TIME.fullmatch(text.strip())
    value = float(found[1]) * _UNITS[found[2]] if found else longest
    if value < longest:
        return value
    limit = f" (and less than {longest / 86400:.0f} days)" if found else ""
    raise UsageError(
        f"{name} is {text!r}; it must be a number of seconds, such as 10, or a time such as 250ms, 5s, 10m, 12h or 7d{limit}."
    )


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
