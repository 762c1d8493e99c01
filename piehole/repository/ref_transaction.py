"""One transaction of git's on refs, with a pause between taking the locks and moving the refs: ``git update-ref --stdin``.

Between :meth:`RefTransaction.prepare` and :meth:`RefTransaction.commit` git holds the locks of all these refs, and each has the old value
that was given: what is read elsewhere in that time holds until the refs have moved.

No wait for git is without a limit: all pipes are read and written as they are ready, and git is ended when its time is up. Whatever
ends without a commit moves nothing: git takes the end of its input for an abort (also where the process that wrote it was killed), and
removes its locks when it gets SIGTERM. Only a git that has to be killed leaves them.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError, GitSilent
from piehole.refs import encode
from piehole.repository.repository import NO_HOOKS

_LEAST: Final = 30.0  # seconds for a transaction, on a disk that is slow or busy,
_EACH: Final = 0.05  # and for each of its refs
_TO_END: Final = 1 / 6  # of that time, in which git is to end once it has nothing more to do, or got SIGTERM
_CHUNK: Final = 65536
# A lock that another process holds is not waited for: it may be a push that waits for etcd. The caller tries again later.
NO_WAITING: Final = ("-c", "core.filesRefLockTimeout=100", "-c", "reftable.lockTimeout=100")


def update_ref_input(lines: Sequence[str]) -> bytes:
    """These commands for ``git update-ref --stdin -z``; nothing is written through a symbolic ref."""
    return encode("".join(f"option no-deref\0{line}" for line in lines))


class RefTransaction:
    """One transaction, as a context manager: it is aborted where the block is left without :meth:`commit`."""

    def __init__(self, git_dir: Path, message: str, refs: int, *, settings: Sequence[str] = ()) -> None:
        """
        :param message: for the reflogs; ``""`` where nothing will be committed
        :param refs: how many refs it will be about; more of them may take longer
        :param settings: of git, for this transaction only
        :raises GitError: git could not be started
        """
        self._seconds = _LEAST + _EACH * refs
        self._said = self._complaint = b""
        command = ["git", f"--git-dir={git_dir}", *NO_HOOKS, *NO_WAITING, *settings, "update-ref", "--stdin", "-z"]
        command += ["--create-reflog", "-m", message] if message else []
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=git.environment(),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise GitError(f"git could not be started: {error}. Is git installed and on PATH?") from error
        assert self._process.stdin is not None  # noqa: S101 -- all three were asked to be pipes
        assert self._process.stdout is not None  # noqa: S101 -- it was asked to be a pipe
        assert self._process.stderr is not None  # noqa: S101 -- it was asked to be a pipe
        self._in, self._out, self._errors = self._process.stdin, self._process.stdout, self._process.stderr
        for stream in (self._in, self._errors):
            os.set_blocking(stream.fileno(), False)

    def __enter__(self) -> RefTransaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            for stream in (self._in, self._out, self._errors):
                with suppress(OSError):
                    stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """Whether git had to be killed, so that its locks may still be there."""
        return self._process.returncode in (None, -signal.SIGKILL)

    def prepare(self, lines: Sequence[str]) -> None:
        """Take the locks of all refs, and check that each has its old value.

        :param lines: as for :func:`update_ref_input`
        :raises GitError: a ref could not be locked, or has another value, or git was ended
        :raises GitSilent: git did not answer in time
        """
        self._say(b"start\0" + update_ref_input(lines) + b"prepare\0", b"prepare: ok\n")

    def commit(self) -> None:
        """Move the refs.

        :raises GitError: git failed; some refs may have moved
        :raises GitSilent: git did not answer in time; some refs may have moved
        """
        self._say(b"commit\0", b"commit: ok\n")

    def _say(self, words: bytes, answer: bytes) -> None:
        """Write all of ``words``, and read until git has given the answer."""
        deadline = Deadline(self._seconds)
        left = memoryview(words)
        with selectors.DefaultSelector() as ready:
            ready.register(self._in, selectors.EVENT_WRITE)
            ready.register(self._out, selectors.EVENT_READ)
            ready.register(self._errors, selectors.EVENT_READ)
            while left or not self._said.endswith(answer):
                events = ready.select(deadline.remaining())
                if not events and deadline.passed:
                    raise GitSilent(f"git update-ref did not answer within {self._seconds:g} s and was stopped")
                for key, _ in events:
                    if key.fileobj is self._in:
                        left = left[self._write(left[:_CHUNK]) :]
                        if not left:
                            ready.unregister(self._in)
                    elif key.fileobj is self._out:
                        self._read_answer()
                    elif self._read_errors() == b"":
                        ready.unregister(self._errors)

    def _write(self, piece: memoryview) -> int:
        try:
            return self._in.write(piece) or 0
        except BrokenPipeError:
            raise self._failure() from None

    def _read_answer(self) -> None:
        came = self._out.read(_CHUNK)
        if not came:
            raise self._failure()
        self._said += came

    def _read_errors(self) -> bytes | None:
        """What git has written to stderr now: None where there is nothing yet, ``b""`` at its end."""
        came = self._errors.read(_CHUNK)
        self._complaint = (self._complaint + (came or b""))[-_CHUNK:]
        return came

    def _failure(self) -> GitError:
        """The error of a git that has closed a pipe: stderr says why, and git ends."""
        self._end()
        while self._read_errors():
            pass
        said = self._complaint.decode(errors="replace").strip()
        status = self._process.returncode
        return GitError(
            f"git update-ref failed with status {status}: {said or 'it said nothing'}", returncode=status, stderr=said
        )

    def _end(self) -> None:
        """End git: by the end of its input; else by SIGTERM, which lets it remove its locks; else by SIGKILL."""
        if self._process.returncode is not None:
            return
        with suppress(OSError):
            self._in.close()
        for number in (0, signal.SIGTERM):
            if number:
                # (A stopped process takes SIGTERM only when it continues.)
                self._process.send_signal(number)
                self._process.send_signal(signal.SIGCONT)
            if self._ended(Deadline(self._seconds * _TO_END)):
                return
        git.kill_group(self._process)

    def _ended(self, deadline: Deadline) -> bool:
        """Wait for git to end; return whether it has."""
        # The end of its output comes with it and is noticed at once; Popen.wait() only polls.
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            while not deadline.passed:
                if ready.select(deadline.remaining()) and not self._out.read(_CHUNK):
                    break
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(deadline.remaining())
        return self._process.returncode is not None
