"""Real git for the tests, in an environment that nothing of the machine's own configuration reaches."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ZERO_SHA1: Final = "0" * 40
MAIN: Final = "refs/heads/main"

# safe.directory and protocol.file.allow, as servers of several accounts and local peers need them; maintenance
# never runs behind a test's back.
_GLOBAL_CONFIG = """\
[user]
    name = A Pusher
    email = pusher@example.org
[init]
    defaultBranch = main
[protocol "file"]
    allow = always
[safe]
    directory = *
[gc]
    auto = 0
[maintenance]
    auto = false
[advice]
    detachedHead = false
"""
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "USER", "LOGNAME", "SHELL")


def make_home(folder: Path) -> Path:
    """A home directory with git's configuration for the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitconfig").write_text(_GLOBAL_CONFIG)
    return folder


def git_environment(home: Path) -> dict[str, str]:
    """The whole environment of a process under test: nothing of the caller's but where programs and scratch space are.

    No ``GIT_*`` of a surrounding hook, no proxy, no ssh agent, no system-wide git configuration.
    """
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return env | {
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def git(
    cwd: Path, *arguments: str, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git in ``cwd``.

    :param check: raise AssertionError with git's own words when it fails
    :param env: variables on top of the test's environment
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **env} if env else None,
        timeout=120,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"git {' '.join(arguments)} in {cwd} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def make_bare(path: Path, object_format: str = "sha1") -> Path:
    """An empty bare repository whose HEAD is ``refs/heads/main``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    git(path.parent, "init", "--quiet", "--bare", f"--object-format={object_format}", "-b", "main", str(path))
    return path


def clone(url: Path | str, work: Path, *options: str, env: Mapping[str, str] | None = None) -> Path:
    """A working clone at ``work``."""
    work.parent.mkdir(parents=True, exist_ok=True)
    git(work.parent, "clone", "--quiet", *options, str(url), str(work), env=env)
    return work


def commit(work: Path, message: str = "a change", *, file: str = "file.txt", content: str | None = None) -> str:
    """Change one file in a clone and commit it; returns the new oid. Without ``content`` the message is added."""
    target = work / file
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        content = (target.read_text() if target.exists() else "") + message + "\n"
    target.write_text(content)
    git(work, "add", "--", file)
    git(work, "commit", "--quiet", "--allow-empty", "-m", message)
    return rev_parse(work)


def push(
    work: Path, remote: Path | str, *refspecs: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``git push REMOTE REFSPECS``, options allowed among the refspecs; the status is the caller's to judge."""
    options = [word for word in refspecs if word.startswith("--")]
    names = [word for word in refspecs if not word.startswith("--")]
    return git(work, "push", *options, str(remote), *names, check=False, env=env)


def refs(repository: Path) -> dict[str, str]:
    """Every ref below ``refs/`` and its oid, the hidden ones included."""
    out = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


def rev_parse(repository: Path, revision: str = "HEAD") -> str:
    """The full oid that a revision names."""
    return git(repository, "rev-parse", "--verify", "--quiet", revision).stdout.strip()


def has_object(repository: Path, oid: str) -> bool:
    """Is the object in this repository (its closure is not looked at)?"""
    return git(repository, "cat-file", "-e", oid, check=False).returncode == 0
