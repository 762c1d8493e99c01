"""Has the objects of one repository after the other proven (``piehole.verifyEvery``), while nobody pushes.

Each proof is a process of its own at the lowest priority, so that it takes nothing from the threads that answer hooks. It is paused
while something is fresh, ends with this process, and goes on from its cursor the next time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, Final

import structlog

from controller.served_repository import ServedRepository
from controller.worker_pool import log_work
from piehole import long_work
from piehole.git import kill_group
from piehole.group.config import Config
from piehole.long_work import WorkStep
from piehole.repository import verification

_LOOK: Final = 2.0  # seconds between two looks at what is due
_TICK: Final = 0.1  # seconds between two looks at whether something is fresh
_QUIET: Final = 1.0  # seconds without a push or an arrival, before a proof goes on
_PATIENCE: Final = 60.0  # seconds of pause after which it gets a slice all the same: some servers are never quiet
_SLICE: Final = 1.0
_AGAIN: Final = 600.0  # seconds after a proof that could not be made
_END: Final = 5.0  # seconds that a process gets to end
_RATE: Final = "20"  # megabytes a second
_PIECE: Final = 4096  # bytes, more than a line about its progress has


class Verifier:
    """
    :param served: the repositories that are served now
    :param fresh_at: when the last push or arrival was (monotonic seconds)
    :param etcd: the endpoints that override those of every repository
    :param on_crash: called with an error that has ended the thread
    """

    def __init__(
        self,
        served: Callable[[], Iterable[ServedRepository]],
        fresh_at: Callable[[], float],
        etcd: str,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._served = served
        self._fresh_at = fresh_at
        self._etcd = etcd
        self._on_crash = on_crash
        self._due: dict[
            str, tuple[Config, float]
        ] = {}  # by repository: under which settings, and when (seconds since the epoch)
        self._stop = threading.Event()
        self._log = structlog.get_logger()
        self._thread = threading.Thread(target=self._run, name="verify")

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread; after :meth:`stop`."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(_LOOK):
                if self._is_quiet():
                    repository = self._next()
                    if repository is not None:
                        self._verify(repository)
        except BaseException as error:  # noqa: BLE001 -- not swallowed: the owner ends the controller with it
            self._on_crash(error)

    def _is_quiet(self) -> bool:
        return time.monotonic() - self._fresh_at() > _QUIET

    def _next(self) -> ServedRepository | None:
        """The repository that is due for the longest time, None where none is."""
        served = list(self._served())
        known = {str(one.config.git_dir) for one in served}
        self._due = {key: value for key, value in self._due.items() if key in known}
        late = [(due, number) for number, one in enumerate(served) if (due := self._when(one.config)) <= time.time()]
        return served[min(late)[1]] if late else None

    def _when(self, config: Config) -> float:
        key = str(config.git_dir)
        known = self._due.get(key)
        if known is None or known[0] is not config:
            known = self._due[key] = (config, self._read(config))
        return known[1]

    def _read(self, config: Config) -> float:
        if not config.verify_every:
            return float("inf")
        try:
            return verification.due(config.git_dir, config.verify_every, config.site_id)
        except OSError as error:  # a full disk, say
            self._log.debug("verification.unknown", repository=str(config.git_dir), error=str(error))
            return time.time() + _AGAIN

    def _verify(self, repository: ServedRepository) -> None:
        config = repository.config
        key = str(config.git_dir)
        if verification.corrupt(config.git_dir):  # it is being repaired, and proven after that
            self._due[key] = (config, time.time() + _LOOK)
            return
        started, before = time.monotonic(), verification.last(config.git_dir).proven
        status, words = self._prove(config)
        due, found = self._read(config), verification.last(config.git_dir)
        failed = status != 0 and found.result != verification.CORRUPT and found.proven == before
        self._due[key] = (config, time.time() + _AGAIN if failed else due)
        if self._stop.is_set():
            return
        seconds = round(time.monotonic() - started, 1)
        if failed:
            self._log.warning("repository.not_verified", repository=key, seconds=seconds, error=words)
        else:
            self._log.info("repository.verified", repository=key, seconds=seconds, sound=status == 0)
        repository.proven()

    def _prove(self, config: Config) -> tuple[int, str]:
        """Run one proof to its end; its status and its last words."""
        command = [
            sys.executable,
            "-I",
            "-m",
            "piehole.cli",
            "audit",
            "--verify",
            "--local",
            "--controlled",
            "--rate",
            _RATE,
        ]
        command += [*(["--etcd", self._etcd] if self._etcd else []), "-C", str(config.git_dir)]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as steps:
            try:
                process = subprocess.Popen(
                    command,
                    cwd="/",
                    stdin=subprocess.PIPE,
                    stdout=steps,
                    stderr=said,
                    start_new_session=True,
                )
            except OSError as error:
                return 1, str(error)
            try:
                self._attend(
                    process,
                    lambda told: log_work(self._log, str(config.git_dir), "verification", _last_step(steps), told),
                )
            finally:
                self._end(process)
            said.seek(0)
            return process.returncode, said.read().decode(errors="replace").strip()[-300:]

    def _attend(self, process: subprocess.Popen[bytes], tell: Callable[[float], None]) -> None:
        """Pause and resume it until it ends, or this controller does.

        :param tell: called now and then with the seconds that it has taken so far
        """
        began = told = time.monotonic()
        paused_at = 0.0  # monotonic seconds; 0: it is not paused
        while process.poll() is None and not self._stop.wait(_TICK):
            now = time.monotonic()
            if now - told >= long_work.EVERY:
                told = now
                tell(now - began)
            waited = now - paused_at if paused_at else 0.0
            quiet = self._is_quiet()
            if paused_at and (quiet or waited > _PATIENCE):
                self._say(process, b"g")
                paused_at = 0.0
                if not quiet:
                    self._stop.wait(_SLICE)
            elif not paused_at and not quiet:
                self._say(process, b"p")
                paused_at = now

    def _say(self, process: subprocess.Popen[bytes], word: bytes) -> None:
        assert process.stdin is not None  # noqa: S101 -- it was asked to be a pipe
        with suppress(OSError):  # it has ended
            os.write(process.stdin.fileno(), word)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101 -- it was asked to be a pipe
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            kill_group(process)


def _last_step(steps: IO[bytes]) -> WorkStep | None:
    """How far a proof is, as its process says (``piehole audit --controlled``)."""
    at = max(0, os.fstat(steps.fileno()).st_size - _PIECE)
    try:
        # Not by the position in the file, which the process has, too. What follows the last line feed is not written yet.
        what, done, total, unit = json.loads(os.pread(steps.fileno(), _PIECE, at).split(b"\n")[-2])
    except (ValueError, TypeError, IndexError):  # it has not begun, or prints its result
        return None
    return WorkStep(what, done, total, unit, 0.0, 0)
