"""Names of processes that no other process will have, and which git runs a hook, by Linux's /proc. Imports nothing heavy."""

from __future__ import annotations

import os
from time import CLOCK_BOOTTIME, clock_gettime

_here: list[str] = []  # as :func:`_place` has them; neither changes while a process lives
_ID_LENGTH = 32  # of /etc/machine-id (machine-id(5)); another content is none
_ENOUGH = 12  # digits of it that tell machines of one name apart


def _place() -> list[str]:
    """The boot id, and the number of this process's pid namespace: containers that share a volume have pids that mean other processes."""
    if not _here:
        try:
            with open("/proc/sys/kernel/random/boot_id") as file:
                _here[:] = file.read().strip(), os.readlink("/proc/self/ns/pid").strip("pid:[]")
        except OSError as error:
            raise OSError(
                error.errno,
                "piehole needs all of /proc; is it mounted with subset=pid (ProcSubset=pid)?",
                error.filename,
            ) from error
    return _here


def boot_id() -> str:
    """Which boot of the kernel this is.

    :raises OSError: /proc does not show it
    """
    return _place()[0]


def machine() -> str:
    """A name for this machine that outlives a boot: the beginning of its machine id, ``-``, and its host name, in letters that a process's
    name has. It begins with ``-`` where there is no machine id: then no other boot is known to be this machine's.
    """
    try:
        with open("/etc/machine-id") as file:
            text = file.read(_ID_LENGTH + 2).strip()
    except (OSError, ValueError):
        text = ""
    host = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in os.uname().nodename)
    return f"{text[:_ENOUGH] if len(text) == _ID_LENGTH and text.isalnum() else ''}-{host}"


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


# Processes that are looked at: those that were started last on this machine. A push has some twenty before it is asked about, and a busy
# server runs many.
_LAST = 3000
_OLD_FOR = 30.0  # seconds; pids are given out again after some ten thousands


def begun_receive_packs(git_dir: str, seconds: float) -> list[str]:
    """The identities of receive-packs of this repository that were started within the last ``seconds``, as far as this account may see.

    ``git_dir`` is a path without symbolic links.
    """
    now = clock_gettime(CLOCK_BOOTTIME)
    try:
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        old = _known_old(now)
        old &= pids
        pids -= old
        # The kernel's newest pid stands last there.
        with open("/proc/loadavg") as file:
            last = int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return []
    found = []
    for pid in pids:
        started = start_time(pid) if last - _LAST < pid <= last else None
        if started is None or int(started) / os.sysconf("SC_CLK_TCK") < now - seconds:
            old.add(pid)
            continue
        arguments = _arguments(pid)
        if arguments and git_command(arguments) == "receive-pack" and _is_path_of(git_dir, pid, arguments[-1]):
            found.append(_name(pid, started))
    return found


def receive_packs(git_dir: str) -> list[str]:
    """The identities of all receive-packs of this repository that this account may see. ``git_dir`` is a path without symbolic links."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        arguments = _arguments(pid)
        if arguments and git_command(arguments) == "receive-pack" and _is_path_of(git_dir, pid, arguments[-1]):
            found.append(identity(pid) or "")
    return [name for name in found if name]


# Processes that had been started too long ago when they were looked at, and since when (seconds of uptime) they are noted here.
_old: set[int] = set()
_old_since = 0.0


def _known_old(now: float) -> set[int]:
    """Pids that need no second look. For some seconds only: after that a pid may be another process's."""
    global _old, _old_since  # two threads that race look twice
    if now - _old_since > _OLD_FOR:
        _old, _old_since = set(), now
    return _old


def _is_path_of(git_dir: str, pid: int, argument: str) -> bool:
    """Whether a receive-pack with this last argument serves ``git_dir``: it changes to that folder, and may not have done so yet."""
    try:
        folder = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return False
    named = os.path.realpath(os.path.join(folder, argument))
    return git_dir in (folder, named, f"{named}.git")


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
    """Whether the process that :func:`identity` named still lives; ``name`` may end with its :func:`machine`.

    None: this cannot be known from here. The process is of another machine, or of another pid namespace, or /proc hides it.
    """
    parts = name.split(".")
    if len(parts) not in (4, 5) or not parts[2].isdigit():
        return False
    boot, namespace = _place()
    if parts[0] != boot:
        return False if parts[4:] == [machine()] and not parts[4].startswith("-") else None
    if parts[1] != namespace:
        return None
    try:
        fields = _stat(int(parts[2]))
    except OSError:
        return None if _exists(int(parts[2])) else False
    return fields[0] not in ("Z", "X") and fields[19] == parts[3]


def _exists(pid: int) -> bool:
    """Whether there is such a process, also where /proc does not show it (hidepid, proc(5))."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def origin(name: str) -> str:
    """In words, where the process is that :func:`lives` cannot judge."""
    boot, namespace, _, _, *on = name.split(".")
    if boot != _place()[0]:
        return f"the machine {on[0].partition('-')[2]}" if on else "another machine, or an earlier boot of this one"
    if namespace != _place()[1]:
        return f"another container (pid namespace {namespace})"
    return "another account, whose processes /proc hides from this one"


def some_are_hidden() -> bool:
    """Whether /proc hides other accounts' processes from this one (hidepid, or ``ProtectProc=`` of a unit)."""
    try:
        _stat(1)
    except OSError:
        return True
    return False
