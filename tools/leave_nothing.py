"""Run a command and fail if it leaves a process behind.   usage: leave_nothing.py COMMAND [ARGUMENT…]

This process becomes the "subreaper" of the command (prctl(2)): every descendant whose parent ends, also one that began
a session of its own, becomes a child of this one instead of vanishing to init. What still runs a moment after the
command's end is named, killed, and turns success into failure. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _wait(pid: int) -> int:
    """The command's exit status, minus n where signal n ended it.

    Orphans that came here are reaped meanwhile, as init does it: nobody sees a process that has ended as one that still is.
    """
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _children() -> list[int]:
    """The living children of this process; those that ended are reaped on the way."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if pid == 0:
            break
    me = os.getpid()
    return [int(word) for word in Path(f"/proc/{me}/task/{me}/children").read_text().split()]


def _describe(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} {b' '.join(words).decode(errors='replace').strip()}"


def _leftovers() -> list[str]:
    """What outlives the command by more than a moment; it is killed, and so is what then surfaces from below it."""
    end = time.monotonic() + _GRACE_SECONDS
    while _children() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    found: list[str] = []
    while left := _children():
        for pid in left:
            found.append(_describe(pid))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended just now
        time.sleep(_POLL_SECONDS)
    return found


def main(command: list[str]) -> int:
    """The command's exit status; 1 where it succeeded and left something; 128 + n where signal n ended it."""
    if not command:
        sys.stderr.write("usage: leave_nothing.py COMMAND [ARGUMENT...]\n")
        return 2
    _become_subreaper()
    # A shell without job control starts what runs in the background with SIGINT ignored, and whatever that starts inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command)

    def pass_on(number: int, _frame: object) -> None:
        os.kill(process.pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    status = _wait(process.pid)
    if status < 0:
        status = 128 - status
    found = _leftovers()
    if found:
        sys.stderr.write("left behind, and killed now:\n" + "".join(f"  {line}\n" for line in found))
    return status or (1 if found else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
