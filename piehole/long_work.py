"""Long work: what is done at the moment, and how far that has come.

Whoever works calls :func:`doing`, whether somebody watches or not. Whoever watches has the work run inside :func:`watched`: a command for
the line on its terminal, the controller for its log. A thread that works for another one is started in a copy of its context.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

EVERY: Final = 30.0  # seconds between two lines of a log about the same work
BYTES: Final = "bytes"


class WorkStep(NamedTuple):
    """``total`` is 0 where nobody knows; ``unit``: bytes, or what is counted, in the plural. ``first`` of them were done when it ``began``."""

    what: str
    done: int
    total: int
    unit: str
    began: float  # monotonic seconds
    first: int

    def rate(self) -> float:
        """How many a second."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-3)


class LongWork:
    """One piece of work. It is told from the threads that do it, and read from others."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.step: WorkStep | None = None

    def doing(self, what: str, done: int, total: int, unit: str) -> None:
        before = self.step
        if before is not None and before.what == what:
            self.step = WorkStep(what, done, total, unit, before.began, before.first)
        else:
            self.step = WorkStep(what, done, total, unit, time.monotonic(), done)

    def rest(self) -> None:
        """See :func:`rest`."""
        self.step = None


_watched: Final[ContextVar[LongWork | None]] = ContextVar("watched", default=None)


def doing(what: str, done: int = 0, total: int = 0, unit: str = "") -> None:
    """Tell what is being done, such as ``fetching from oslo``, and how far it is."""
    work = _watched.get()
    if work is not None:
        work.doing(what, done, total, unit)


def rest() -> None:
    """Tell that this is done, and that its result is about to be printed."""
    work = _watched.get()
    if work is not None:
        work.rest()


@contextmanager
def watched(work: LongWork) -> Iterator[None]:
    """Have ``work`` told what is done inside of this."""
    before = _watched.set(work)
    try:
        yield
    finally:
        _watched.reset(before)
