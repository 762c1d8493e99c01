"""People who look at a site's branches through the read gate, again and again, while others push."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from typing import Final

from tests.fault.history.bed import Bed
from tests.fault.history.evidence import Read
from tests.fault.history.place import Place

_PATIENCE: Final = 60.0  # seconds that one look may take; the gate itself waits a few


class Reader:
    """Works until told to stop. Every look begins after some push was answered, and must show it: the checker compares."""

    def __init__(self, bed: Bed, number: int, seed: int, pause: float, stop: threading.Event) -> None:
        self._bed = bed
        self._chance = random.Random(f"{seed}/reader/{number}")  # noqa: S311 -- a test's choice
        self._pause = pause
        self._stop = stop
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"reader {number}")
        self._thread.start()

    def join(self) -> None:
        self._thread.join(_PATIENCE + 10)
        if self._death is not None:
            raise self._death
        assert not self._thread.is_alive(), "a reader hangs"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                place = self._chance.choice(self._bed.places)
                if not place.is_down:
                    self._bed.reads.append(look(place))
                self._stop.wait(self._chance.uniform(0, self._pause))
        except BaseException as error:  # noqa: BLE001 -- raised again by join()
            self._death = error


def look(place: Place) -> Read:
    """`git ls-remote`, through the gate."""
    began = time.monotonic()
    command = ["git", "ls-remote", f"--upload-pack={place.reading_gate}", str(place.site.repository), "refs/heads/*"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(os.environ),
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Read(place.site.name, {}, began, time.monotonic(), "refused")
    ended = time.monotonic()
    if done.returncode:
        return Read(place.site.name, {}, began, ended, "refused")
    pairs = (line.split("\t", 1) for line in done.stdout.splitlines())
    refs = {ref: oid for oid, ref in pairs}
    return Read(place.site.name, refs, began, ended, "warned" if "piehole: behind:" in done.stderr else "fresh")
