"""Store the pack that arrives: with ``git index-pack``, which checks every hash, or with ``small_pack`` where it is small."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from typing import Final

from piehole.errors import GitError, TransferError, TransferRejected
from piehole.transfer.process import end, last_words_of, spawn, wait
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.small_pack import SMALL, SmallPackIntake
from piehole.transfer.watchdog import Limits, Watchdog

_COUNT: Final = slice(8, 12)  # gitformat-pack: "PACK", version, number of objects, each four bytes, network order
_FULL: Final = 1 << 20  # bytes: a file system with less than this left is full


class PackRefused(TransferRejected):
    """Git refuses the content of the pack."""


class IndexPack:
    """Takes pack data and counts it; starts git with the first byte that is not held back. Use as a context manager.

    ``write`` raises TransferRejected when the pack is larger than allowed or (PackRefused) git refuses it.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        watchdog: Watchdog,
        limits: Limits,
        progress: Callable[[int], None] | None,
        *,
        closed: bool = False,
        small: SmallPackIntake | None = None,
    ) -> None:
        """
        :param closed: refuse a pack that names an object which is neither in it nor in what the quarantine borrows
        :param small: gets a pack of at most SMALL bytes first; they are held back until all have arrived
        """
        self._closed = closed
        self._quarantine = quarantine
        self._watchdog = watchdog
        self._limits = limits
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self._header = b""
        self._small = small
        self._held: bytearray | None = None
        self.bytes = 0

    def __enter__(self) -> IndexPack:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end(self._watchdog, self._process)
        self._errors.close()

    @property
    def objects(self) -> int:
        """The number of objects that the pack's header promises."""
        return int.from_bytes(self._header[_COUNT], "big")

    def write(self, data: bytes) -> int:
        self._watchdog.check()
        self.bytes += len(data)
        if self.bytes > self._limits.max_bytes:
            raise TransferRejected(f"sent more than the {self._limits.max_bytes} bytes that are allowed")
        if len(self._header) < _COUNT.stop:
            self._header += data[: _COUNT.stop - len(self._header)]
        self._held = self._held if self._held is not None else bytearray()
        self._held += data
        if self._small is None or self.bytes > SMALL:
            self._feed()
        self._watchdog.arrived()
        if self._progress is not None:
            self._progress(self.bytes)
        return len(data)

    def finish(self) -> bool:
        """Wait until everything is checked; returns whether ``small`` has stored it. :raises PackRefused: git refuses the pack"""
        if self._process is None and self._held is None:
            raise TransferError("sent no pack")
        # Resolving the deltas of a large pack takes long, and the peer sends nothing meanwhile.
        self._watchdog.listen(False)
        if self._small is not None and self._process is None and self._small.take(bytes(self._held or b"")):
            self._watchdog.check()
            return True
        process = self._feed()
        if not _close(process) or wait(self._watchdog, process):
            raise self._refusal(process)
        self._watchdog.check()
        return False

    def _feed(self) -> subprocess.Popen[bytes]:
        """Give git the bytes that were held back."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None  # noqa: S101 -- it was asked to be a pipe
        data, self._held = self._held, None
        try:
            self._process.stdin.write(data or b"")
        except BrokenPipeError as error:
            raise self._refusal(self._process) from error
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        command = ["git", f"--git-dir={self._quarantine.git_dir}", "-c", "core.fsync=all", "index-pack", "--stdin"]
        return spawn(
            self._watchdog,
            # git-clone relies on the last option in the same way.
            [
                *command,
                "--fix-thin",
                f"--max-input-size={self._limits.max_bytes}",
                *(["--check-self-contained-and-connected"] if self._closed else []),
            ],
            env=self._quarantine.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            memory=self._limits.max_memory,
        )

    def _refusal(self, process: subprocess.Popen[bytes]) -> Exception:
        wait(self._watchdog, process)
        self._quarantine.check()
        words = last_words_of(self._errors) or f"status {process.returncode}"
        space = os.statvfs(self._quarantine.git_dir / "objects")
        if space.f_bavail * space.f_frsize < _FULL:
            return GitError(f"the disk below {self._quarantine.git_dir} is full: {words}")
        return PackRefused(f"sent a pack that git refuses: {words}")


def _close(process: subprocess.Popen[bytes]) -> bool:
    """Close the stdin of a process; False where it had stopped reading already."""
    try:
        if process.stdin is not None:
            process.stdin.close()
    except BrokenPipeError:
        return False
    return True
