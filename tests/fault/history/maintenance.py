"""Git's own maintenance, which an administrator or cron starts beside everything else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Final

from tests.fault.history.place import Place

Heal = Callable[[], None]
_WORDS: Final = (
    ("gc", "--quiet"),
    ("pack-refs", "--all"),
    ("repack", "-adq"),
    ("pack-refs", "--all", "--prune"),
)


class Maintenance:
    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, place: Place, variant: int) -> Heal | None:
        if place.is_lost:
            return None
        self._running = [process for process in self._running if process.poll() is None]
        words = _WORDS[variant % len(_WORDS)]
        process = subprocess.Popen(
            ["git", *words], cwd=place.site.repository, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._running.append(process)
        return lambda: None

    def end(self) -> None:
        """Wait for what still runs."""
        for process in self._running:
            process.wait(60)
