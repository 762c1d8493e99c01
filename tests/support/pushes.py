"""The processes of a push, and the hooks that they run at the server."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

from piehole.fastpath import inflight, processes
from tests.support.assertions import Pushed
from tests.support.process import descendants
from tests.support.wait import until


def start_push(work: Path, site: Path | str, *refspecs: str) -> subprocess.Popen[str]:
    """A push that runs beside the test, in a process group of its own."""
    return subprocess.Popen(
        ["git", "push", str(site), *refspecs],
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(push: subprocess.Popen[str], timeout: float = 40) -> Pushed:
    out, err = push.communicate(timeout=timeout)
    return subprocess.CompletedProcess(push.args, push.returncode, out, err)


def records(site: Path) -> list[Path]:
    """The in-flight records."""
    return sorted((site / inflight.FOLDER).iterdir())


def receive_pack(site: Path) -> int:
    """The pid of the one receive-pack that has announced something here; waits for it."""
    names = until(lambda: [path.name for path in records(site)], 20, "a receive-pack has announced a ref")
    assert len(names) == 1, names
    return int(names[0].split(".")[2])


def deciding(repository: Path, receive_pack: int) -> list[int]:
    """All processes of the hooks of this push: what runs below it, and its helper, which does not."""
    try:
        lines = (
            (repository / inflight.FOLDER / inflight.file_name(str(processes.identity(receive_pack))))
            .read_text()
            .splitlines()
        )
    except FileNotFoundError:
        lines = []
    helpers = [int(line.split(" ")[1]) for line in lines if line.startswith("helper ")]
    return [*descendants(receive_pack), *(pid for pid in helpers if processes.start_time(pid) is not None)]


def catching_up(site: Path) -> bool:
    """Whether a process that a refused push started is at work here."""
    lock = site / "piehole" / "catching-up.lock"
    if not lock.exists():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_hook(site: Path, name: str, script: str) -> Path:
    """Write an executable file into the repository's hooks."""
    path = site / "hooks" / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def chain(site: Path, hook: str, script: str) -> None:
    """Put somebody's wrapper around piehole's hook; ``$piehole`` in the script is the wrapped one."""
    own = site / "hooks" / hook
    own.rename(own.with_name(f"{hook}.piehole"))
    write_hook(site, hook, f'#!/bin/sh\npiehole="$(dirname "$0")/{hook}.piehole"\n{script}\n')
