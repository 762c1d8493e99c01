"""Names of processes that no other process will have, and which git runs a hook, by Linux's /proc. Imports nothing heavy."""

from __future__ import annotations

import os

_here: list[str] = []  # as :func:`_place` has them; neither changes while a process lives


def _place() -> list[str]:
    """The boot id, and the number of this process's pid namespace: containers that share a volume have pids that mean other processes."""
    if not _here:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _here[:] = file.read().strip(), os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return _here


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may itself hold spaces and parentheses (proc(5))."""
    handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 1 << 12).rpartition(b")")[2].decode("ascii").split()
    finally:
        os.close(handle)


def start_time(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; with the pid it names one process. None: no such process."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def parent(pid: int) -> int:
    """The parent's pid; 0 where there is none or the process is gone."""
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _arguments(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [part.decode("utf-8", "surrogateescape") for part in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


# git's own options that take the next word as their value (git(1)).
_WITH_VALUE = (
    "-C",
    "-c",
    "--git-dir",
    "--work-tree",
    "--namespace",
    "--super-prefix",
    "--config-env",
    "--attr-source",
    "--exec-path",
)


def git_command(arguments: list[str]) -> str | None:
    """Which git command a command line runs: ``receive-pack``, ``gc``, ``""`` for git alone; None where it is not git."""
    if not arguments:
        return None
    program = arguments[0].rpartition("/")[2]
    if program.startswith("git-"):
        return program[len("git-") :]
    if program != "git":
        return None
    rest = iter(arguments[1:])
    for word in rest:
        if not word.startswith("-"):
            return word
        if word in _WITH_VALUE:
            next(rest, None)
    return ""


# Git's own commands that move or pack refs, and so call the hook themselves. Any other program of git's name between a hook and
# a receive-pack (`git hook run`, somebody's git-hooks) is a wrapper: the gate is closed where it is not known to be open.
_MOVERS = frozenset(
    (
        "am",
        "bisect",
        "branch",
        "cherry-pick",
        "checkout",
        "clone",
        "commit",
        "fast-import",
        "fetch",
        "filter-branch",
        "gc",
        "init",
        "maintenance",
        "merge",
        "notes",
        "pack-refs",
        "pull",
        "push",
        "rebase",
        "receive-pack",
        "reflog",
        "refs",
        "remote",
        "repack",
        "replace",
        "reset",
        "revert",
        "stash",
        "switch",
        "symbolic-ref",
        "tag",
        "update-ref",
        "worktree",
    )
)
_GENERATIONS = 64


def nearest_git(pid: int) -> tuple[int, str]:
    """The git process among the ancestors of ``pid`` that moves the refs, past wrappers: ``(its pid, its command)``, or ``(0, "")``.

    That is the nearest one whose command is known to move refs; where there is none, the nearest one at all.
    """
    nearest = (0, "")
    for _ in range(_GENERATIONS):
        pid = parent(pid)
        if pid <= 0:
            break
        command = git_command(_arguments(pid))
        if command in _MOVERS:
            return pid, command
        if command is not None and not nearest[0]:
            nearest = (pid, command)
    return nearest


def identity(pid: int) -> str | None:
    """A name for this very process that no other will have: boot id, pid namespace, pid, start time. None: it is gone."""
    started = start_time(pid)
    return None if started is None else _name(pid, started)


def child(pid: int, of: int) -> str | None:
    """The identity of a living process whose parent is ``of``; None: it is gone, or no child of that one."""
    try:
        fields = _stat(pid)
    except OSError:
        return None
    if fields[0] in ("Z", "X") or int(fields[1]) != of:
        return None
    return _name(pid, fields[19])


def _name(pid: int, started: str) -> str:
    return ".".join((*_place(), str(pid), started))


def lives(name: str) -> bool | None:
    """Whether the process that :func:`identity` named still lives. None: it is of another pid namespace, so this cannot be known."""
    parts = name.split(".")
    boot, namespace = _place()
    if len(parts) != 4 or not parts[2].isdigit() or parts[0] != boot:
        return False
    if parts[1] != namespace:
        return None
    return start_time(int(parts[2])) == parts[3]
