"""Whether the parts of this controller live: for systemd's watchdog and for `/healthz`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

_LATE: Final = 45.0  # seconds after which a main loop that comes round every second hangs


class Health:
    """:param parts: the name of each part, and whether it lives"""

    def __init__(self, parts: Callable[[], Sequence[tuple[str, bool]]]) -> None:
        self._parts = parts
        self._beaten_at: float | None = None  # monotonic seconds; None: the first scan goes on
        self._logged: list[str] = []

    def scanned(self) -> None:
        """The first scan of the folders is done, and the main loop begins."""
        self.beat()

    def beat(self) -> None:
        """The main loop has come round."""
        self._beaten_at = time.monotonic()

    @property
    def has_scanned(self) -> bool:
        return self._beaten_at is not None

    def faults(self) -> list[str]:
        """What does not live, in words; logged where that is news."""
        found = [f"{name} has ended or hangs" for name, lives in self._parts() if not lives]
        if self._beaten_at is not None and time.monotonic() - self._beaten_at > _LATE:
            found.append("the main loop hangs")
        if found != self._logged:
            log = structlog.get_logger()
            log.critical("controller.unhealthy", faults=found) if found else log.info("controller.healthy")
        self._logged = list(found)
        return found
