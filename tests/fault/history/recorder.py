"""Takes down the whole consensus history while it happens, by a watch from the first revision on: a compaction loses nothing."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from tests.fault.history.past import Event

_SILENCE: Final = 3.0  # seconds; every member sends a progress message each second


class Recorder:
    """Watches everything below ``prefix`` at one member after the other, straight, past all links.

    :param told: called with each event of any key, in the recorder's thread
    """

    def __init__(self, endpoints: Sequence[str], prefix: str, told: Callable[[int, str, str | None], None]) -> None:
        self._endpoints = list(endpoints)
        self._prefix = prefix
        self._told = told
        self._events: list[tuple[int, str, str | None, int]] = []
        self._changed = threading.Condition()
        self._revision = 0
        self._ending = threading.Event()
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def revision(self) -> int:
        """Everything up to here was taken down."""
        with self._changed:
            return self._revision

    def wait_for(self, revision: int, timeout: float = 20.0) -> None:
        with self._changed:
            reached = self._changed.wait_for(lambda: self._revision >= revision or self._death, timeout)
            assert reached and self._death is None, f"the recorder is at {self._revision}: {self._death!r}"

    def end(self) -> None:
        self._ending.set()
        self._thread.join(_SILENCE + 5)
        if self._death is not None:
            raise self._death

    def events_of(self, group: str) -> list[Event]:
        """The events of the keys below ``PREFIX/ref/GROUP/``."""
        start = f"{self._prefix}/ref/{group}/"
        with self._changed:
            return [
                Event(revision, key[len(start) :], value, version)
                for revision, key, value, version in self._events
                if key.startswith(start)
            ]

    def progress(self, group: str, site: str) -> int:
        """The revision that the site has last claimed to have reached, 0 where it never has."""
        wanted = f"{self._prefix}/progress/{group}/{site}"
        with self._changed:
            values = (value for _, key, value, _ in reversed(self._events) if key == wanted and value)
            newest = next(values, "{}")
        return int(json.loads(newest).get("revision", 0))

    def _run(self) -> None:
        turn = 0
        try:
            while not self._ending.is_set():
                turn += 1
                try:
                    self._watch(self._endpoints[turn % len(self._endpoints)])
                except (OSError, http.client.HTTPException, ValueError):
                    self._ending.wait(0.1)  # that member is down, or hangs: the next one
        except BaseException as error:  # noqa: BLE001 -- raised again by end() and wait_for()
            with self._changed:
                self._death = error
                self._changed.notify_all()

    def _watch(self, endpoint: str) -> None:
        start = self._prefix.encode()
        create = {
            "key": base64.b64encode(start).decode(),
            "range_end": base64.b64encode(start[:-1] + bytes([start[-1] + 1])).decode(),
            "start_revision": self.revision + 1,
            "progress_notify": True,
        }
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=_SILENCE)
        try:
            body = json.dumps({"create_request": create})
            connection.request("POST", "/v3/watch", body, {"Grpc-Metadata-hasleader": "true"})
            with connection.getresponse() as response:
                while not self._ending.is_set() and (line := response.readline()):
                    self._take(json.loads(line))
        finally:
            connection.close()

    def _take(self, answer: dict[str, Any]) -> None:
        result = answer.get("result", {})
        if int(result.get("compact_revision", 0)):
            raise AssertionError(f"history was compacted before the recorder had it: {result}")
        if result.get("canceled") or "error" in answer:
            raise OSError(f"the watch ended: {answer}")
        taken = [_event(event) for event in result.get("events", ())]
        with self._changed:
            self._events += taken
            # Only a message without events vouches for the header's revision, and the first one ("created") does not.
            revision = taken[-1][0] if taken else 0 if result.get("created") else int(result["header"]["revision"])
            self._revision = max(self._revision, revision)
            self._changed.notify_all()
        for revision, key, value, _ in taken:
            self._told(revision, key, value)


def _event(event: dict[str, Any]) -> tuple[int, str, str | None, int]:
    kv = event["kv"]
    value = None if event.get("type") == "DELETE" else base64.b64decode(kv.get("value", "")).decode(errors="replace")
    return int(kv["mod_revision"]), base64.b64decode(kv["key"]).decode(), value, int(kv.get("version", 0))
