"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.02


def until(condition: Callable[[], T | None], timeout: float = 10.0, what: str = "") -> T:
    """Call ``condition`` until it returns something true, and return that.

    :param timeout: seconds on the monotonic clock; the condition is tried at least once, also with 0
    :param what: the promise that is awaited, for the message when it is not kept
    :raises AssertionError: the time is over; the message names ``what`` and the last value that was seen
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"waited {timeout:g} s in vain: {name} (last value: {value!r})")
        time.sleep(_POLL_SECONDS)
