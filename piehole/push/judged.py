"""The bases that this process has judged by the five rules: a proposal on one of them needs no second judgement."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final

from piehole.push.swap import Basis
from piehole.refs import Command

_MOST: Final = 20_000  # bases; two pushes of as many refs as one transaction takes
_KEPT: Final = 600.0  # seconds; a push that has not proposed by then is judged again


class JudgedBases:
    """Safe to use from many threads. A basis is an answer to a hook, and whoever uses the socket may send one that was never given.

    What a basis compares are mod_revisions, and a key has one value at one of them: so a judgement stays true however old it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Command, Basis], float] = {}

    def add(self, command: Command, basis: Basis) -> None:
        now = monotonic()
        with self._lock:
            self._known[command, basis] = now
            while self._known:
                oldest = next(iter(self._known))
                if len(self._known) <= _MOST and now - self._known[oldest] < _KEPT:
                    break
                del self._known[oldest]

    def take(self, items: Sequence[tuple[Command, Basis]]) -> bool:
        """Whether all of these were judged here; they are forgotten, since each is proposed once."""
        with self._lock:
            found = [self._known.pop(item, None) for item in items]
        return None not in found
