"""The git processes of a transfer. Its watchdog owns them, so that an abort ends them at once, whatever they do."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from piehole import git
from piehole.errors import GitError
from piehole.transfer.watchdog import Watchdog

_SAID: Final = 2048  # bytes of stderr that are kept for a message


def spawn(
    watchdog: Watchdog,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    memory: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, under the watchdog.

    :param memory: bytes that it and each of its children may allocate; 0: no limit
    :raises GitError: it could not be started
    """
    try:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=dict(env), start_new_session=True
        )
    except OSError as error:
        raise GitError(f"{command[0]} could not be started: {error.strerror}") from error
    watchdog.own(process)
    if memory:
        _bound(process, memory)
    return process


def call(
    watchdog: Watchdog,
    git_dir: Path,
    arguments: Sequence[str],
    *,
    stdin: bytes | IO[bytes] = b"",
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    env: Mapping[str, str],
    memory: int = 0,
) -> tuple[int, str]:
    """Run ``git ARGUMENTS`` to its end; returns its status and its last words.

    :param memory: as for :func:`spawn`
    :raises TransferError: the watchdog ended it
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        if isinstance(stdin, bytes):
            given.write(stdin)
            given.seek(0)
        process = spawn(
            watchdog,
            ["git", f"--git-dir={git_dir}", *arguments],
            env=env,
            stdin=given if isinstance(stdin, bytes) else stdin,
            stdout=stdout,
            stderr=errors,
            memory=memory,
        )
        status = wait(watchdog, process)
        watchdog.check()
        return status, last_words_of(errors)


class Streamed:
    """A git process whose output is read while it runs: as long as nobody reads, it waits."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    def read(self, size: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 -- it was asked to be a pipe
        return self._process.stdout.read(size)

    def end(self) -> str:
        """Wait for its end; ``""``, or its last words where it failed."""
        if self._process.wait() == 0:
            return ""
        return last_words_of(self._errors) or f"git ended with status {self._process.returncode}"


@contextmanager
def streamed(git_dir: Path, arguments: Sequence[str], stdin: bytes, env: Mapping[str, str]) -> Iterator[Streamed]:
    """Run ``git ARGUMENTS`` without a time limit; it ends at the end of the block.

    :raises GitError: it could not be started
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(
                ["git", f"--git-dir={git_dir}", *arguments],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=git.environment(env),
                start_new_session=True,
            )
        except OSError as error:
            raise GitError(f"git could not be started: {error.strerror}") from error
        try:
            yield Streamed(process, errors)
        finally:
            git.kill_group(process)


def _bound(process: subprocess.Popen[bytes], memory: int) -> None:
    # Set from outside, since nothing may run between fork and exec in a process with threads. RLIMIT_DATA counts what git allocates,
    # not the packs that it maps.
    try:
        hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)[1]
        most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (most, most))
    except ProcessLookupError:
        pass  # it has ended already


def wait(watchdog: Watchdog, process: subprocess.Popen[bytes]) -> int:
    """Wait until a process ends, kill what is left of its group, and return its status."""
    if process.returncode is None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        end(watchdog, process)
    return process.returncode


def end(watchdog: Watchdog, process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its group, and reap it. It may be called twice."""
    watchdog.disown(process)
    if process.returncode is None:
        git.kill_group(process)


def last_words_of(errors: IO[bytes]) -> str:
    """The end of what a process wrote to its stderr file, fit for a message."""
    errors.seek(0, 2)
    errors.seek(max(0, errors.tell() - _SAID))
    return one_line(errors.read())


def one_line(words: bytes) -> str:
    """The words of a peer or of git on one line, without control characters."""
    text = words.decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else " " for c in text)[-_SAID:]


def environment(objects: Path, borrow_from: Path | None) -> dict[str, str]:
    """The environment in which git writes objects to ``objects`` and reads those of another repository as its alternate.

    Git follows the alternates of an alternate, so the repository's own keep working.
    """
    env = git.environment({"GIT_OBJECT_DIRECTORY": str(objects)})
    if borrow_from is not None:
        store = str(borrow_from / "objects")
        if ":" in store or store.startswith('"'):
            store = '"' + store.replace("\\", "\\\\").replace('"', '\\"') + '"'
        env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = store
    return env
