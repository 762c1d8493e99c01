"""Keep the number of packs small. Fifty cost a git process 1 ms, a thousand 18.

It never prunes, and it cannot lose what a transfer publishes meanwhile. ``git repack`` deletes only packs that it has listed
and whose objects it has written. A published pack has a new name, so either it was not there when the repack made its list,
or its ``.keep`` was.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import GitError
from piehole.files import locked
from piehole.refs import HELD_REFS

_MANY_PACKS: Final = 50
_GEOMETRIC_SINCE: Final = (
    2,
    33,
)  # the first git that has it (2.32) mishandles kept packs; -k keeps what no ref reaches
# git has bitmaps over several packs since 2.34, and without known faults since 2.36. They halve the time of a clone from here.
_BITMAPS_SINCE: Final = (2, 36)
_TICK: Final = 0.1
_GRACE: Final = 5.0  # seconds for git to remove its temporary files


def due(git_dir: Path) -> bool:
    """Whether there are enough packs for a roll-up, judged by file names only."""
    packs = git_dir / "objects" / "pack"
    names = {path.name for path in packs.iterdir()} if packs.is_dir() else set()
    return sum(n.endswith(".pack") and f"{n.removesuffix('.pack')}.keep" not in names for n in names) >= _MANY_PACKS


def maintain(git_dir: Path, *, stop: threading.Event) -> None:
    """Roll up small packs and refresh the commit-graph, where that is due and no other process is doing it.

    :param stop: set it to end early; git ends cleanly and the work is done another time
    :raises GitError: git failed
    """
    if not due(git_dir) or gc_runs(git_dir):
        return
    # Transfers do not need this lock: what they publish has a name of its own and a .keep, so no repack deletes it.
    with locked(git_dir / "piehole" / "lock", 0o644, Deadline(0.0)) as alone:
        if alone and _roll_up(git_dir, stop):
            _write_commit_graph(git_dir, stop)


def refresh_dumb_http(git_dir: Path) -> None:
    """Write what clients read over dumb HTTP, where this repository serves them: git itself does so only where a push came in.

    :raises GitError: git failed
    """
    if serves_dumb_http(git_dir):
        git.run(git_dir, ["update-server-info"])


def serves_dumb_http(git_dir: Path) -> bool:
    """Whether pushes to this repository write what dumb HTTP needs, in one of the two ways that git has for it."""
    hook = git_dir / "hooks" / "post-update"
    try:
        if os.access(hook, os.X_OK) and b"update-server-info" in hook.read_bytes():
            return True
    except OSError:  # it is for another account
        pass
    asked = ["config", "--type=bool", "--default=false", "--get", "receive.updateServerInfo"]
    return git.run(git_dir, asked).stdout == b"true\n"


def _roll_up(git_dir: Path, stop: threading.Event) -> bool:
    """Combine many packs into few; False when it was stopped."""
    version = _version()
    if version < _GEOMETRIC_SINCE:
        return _run(git_dir, ["repack", "--quiet", "-a", "-d", "-k"], stop)
    rolling_up = ["repack", "--quiet", "--geometric=2", "-d", "--write-midx"]
    if version >= _BITMAPS_SINCE:
        try:
            return _run(git_dir, [*rolling_up, "--write-bitmap-index"], stop)
        except GitError:
            # git makes no bitmap where the history of some ref is incomplete here. The packs are still too many.
            pass
    return _run(git_dir, rolling_up, stop)


def commits_to_list(git_dir: Path) -> bytes:
    """The commits of all refs but held ones, a line each, as ``git commit-graph write --stdin-commits`` reads them.

    Most held refs are gone in a moment, and a graph that lists a commit which was pruned after that makes ``git fsck`` fail.

    :raises GitError: git failed
    """
    refs = git.lines(git.run(git_dir, ["for-each-ref", "--format=%(objectname) %(refname)"]).stdout)
    return "".join(f"{line.split(' ')[0]}\n" for line in refs if f" {HELD_REFS}" not in line).encode()


def _write_commit_graph(git_dir: Path, stop: threading.Event) -> None:
    with tempfile.TemporaryFile() as commits:
        commits.write(commits_to_list(git_dir))
        commits.seek(0)
        _run(git_dir, ["commit-graph", "write", "--stdin-commits", "--split", "--no-progress"], stop, commits)


def _run(
    git_dir: Path, arguments: list[str], stop: threading.Event, stdin: IO[bytes] | int = subprocess.DEVNULL
) -> bool:
    """Run git; False when it was stopped."""
    if stop.is_set():
        return False
    process = subprocess.Popen(
        ["git", f"--git-dir={git_dir}", "-c", "core.fsync=all", "-c", f"core.hooksPath={os.devnull}", *arguments],
        env=git.environment(),
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while process.returncode is None:
        try:
            _, words = process.communicate(timeout=_TICK)
        except subprocess.TimeoutExpired:
            if stop.is_set():
                _end(process)
                return False
        except BaseException:
            git.kill_group(process)
            raise
    if process.returncode:
        said = words.decode(errors="replace").strip()
        raise GitError(f"git {arguments[0]} failed in {git_dir}: {said}", returncode=process.returncode, stderr=said)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    # SIGTERM first, on which git removes its temporary packs.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        git.kill_group(process)


def gc_runs(git_dir: Path) -> bool:
    """Whether a living `git gc` holds its lock (gc.pid: "PID HOST")."""
    try:
        pid, _, host = (git_dir / "gc.pid").read_text().strip().partition(" ")
    except FileNotFoundError:
        return False
    except OSError:  # it cannot be read now, so it may
        return True
    if host != os.uname().nodename:
        return True
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _version() -> tuple[int, ...]:
    found = re.search(rb"(\d+)\.(\d+)", git.run(None, ["version"]).stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)
