"""Runs git: one function, one environment.

Every git process of piehole runs with ``GIT_NO_REPLACE_OBJECTS=1`` (a pushed ``refs/replace/`` otherwise fools the
fast-forward rule), without grafts, in an environment that holds nothing a pusher could have set, in a process group of
its own (a killed parent would otherwise leave ``git fetch`` running, and its pack would arrive later).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from piehole.errors import GitError, GitSilent

# What git needs to find its programs, its user and its locale; nothing that redirects it.
_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "USER", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every git process: a short list of harmless variables and piehole's own switches."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env.setdefault("PATH", _PATH)
    env["GIT_NO_REPLACE_OBJECTS"] = "1"
    env["GIT_GRAFT_FILE"] = os.devnull
    # Without this, git warns at each start that graft files are deprecated; the one named above is empty.
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "advice.graftFileDeprecated", "GIT_CONFIG_VALUE_0": "false"}
    env["GIT_TERMINAL_PROMPT"] = "0"
    env["LC_ALL"] = "C.UTF-8"  # no code matches git's messages, but people and logs get them
    if extra:
        env.update(extra)
    return env


def run(
    git_dir: str | os.PathLike[str] | None,
    arguments: Sequence[str],
    *,
    stdin: bytes | Iterable[bytes] = b"",
    timeout: float | None = None,
    extra_env: Mapping[str, str] | None = None,
    ok: tuple[int, ...] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Run ``git ARGUMENTS`` to its end and return what it printed.

    :param git_dir: the repository (passed as ``--git-dir``), or None for a command that needs none
    :param timeout: seconds after which the whole process group is killed and GitError is raised
    :param ok: the exit statuses that are an answer rather than a failure
    :raises GitError: git ended with another status, or could not be started
    :raises GitSilent: it ran too long
    """
    command = ["git"]
    if git_dir is not None:
        command += [f"--git-dir={os.fspath(git_dir)}"]
    command += arguments
    payload = stdin if isinstance(stdin, bytes) else b"".join(stdin)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(extra_env),
            start_new_session=True,
        )
    except OSError as error:
        raise GitError(f"git could not be started: {error}. Is git installed and on PATH?") from error
    try:
        out, err = process.communicate(payload, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        kill_group(process)
        raise GitSilent(f"git {arguments[0]} did not end within {timeout:g} s and was stopped") from error
    except BaseException:
        kill_group(process)
        raise
    if process.returncode not in ok:
        said = err.decode(errors="replace").strip()
        where = f" in {os.fspath(git_dir)}" if git_dir is not None else ""
        raise GitError(
            f"git {arguments[0]} failed{where} with status {process.returncode}: {said or 'git printed no message'}",
            returncode=process.returncode,
            stderr=said,
        )
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process started with ``start_new_session`` and all its children, and reap it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # a broken pipe on close: the process is dead already
                pass
    process.wait()


def lines(output: bytes) -> list[str]:
    """Git's output as lines of text; names keep their bytes (surrogateescape)."""
    # Not splitlines(): it also splits at U+2028 and others, which a ref name may contain.
    return output.decode("utf-8", "surrogateescape").split("\n")[:-1]


def shared_mode(shared: str) -> int:
    """The mode of a folder that every pusher must be able to write, for a value of core.sharedRepository (git-config(1))."""
    if shared in ("group", "true", "1"):
        return 0o2770
    if shared in ("all", "world", "everybody", "2"):
        return 0o2777
    try:
        bits = int(shared, 8) & 0o666 if shared.startswith("0") else 0
    except ValueError:
        bits = 0
    # Whoever may read files may enter the folder; setgid gives new files the folder's group.
    return 0o700 | bits | (bits & 0o444) >> 2 | (0o2000 if bits & 0o060 else 0)
