"""Waiting for a condition instead of sleeping, and doing something meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 40.0  # seconds for what takes a fraction of one on an idle machine
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


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Do ``work`` again and again beside the test, until the block ends; what it raises, the test raises."""
    ending = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            while not ending.is_set():
                work()
        except BaseException as fault:  # noqa: BLE001 -- raised by the test
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        ending.set()
        thread.join()
        if faults:
            raise faults[0]
