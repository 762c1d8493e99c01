"""This repository and this account: hooks, settings, ownership, locks, and the connection to the controller."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import PieholeError
from piehole.fastpath import controller_socket, inflight, paths, processes
from piehole.fastpath.controller_socket import ask_status
from piehole.group import rollback_guard
from piehole.group.replica import Replica
from piehole.refs import HELD_REFS, KEPT_REFS, is_managed
from piehole.repository import git_settings, hook_files
from piehole.repository.controller_pointer import second_controller
from piehole.repository.fitness import Fault
from piehole.repository.git_settings import GitConfig
from piehole.repository.stale_locks import old_locks, unjudged

_INSTALL: Final = "run `piehole install` again"
_SAMPLE: Final = 20_000  # files
_SHOWN: Final = 3
_OWN_REFS: Final = (
    (KEPT_REFS, "kept tips", "what was replaced"),
    (HELD_REFS, "copies for other sites", "what no push has brought into the group yet"),
)
_LEAST_FREE: Final = 0.02  # of the disk


def faults(replica: Replica) -> Iterator[Fault]:
    git_dir = replica.git_dir
    config = GitConfig(git_dir)
    for what in hook_files.faults(git_dir):
        yield Fault(what, _INSTALL, word="no-access")
    announcer = hook_files.place(git_dir, hook_files.ANNOUNCER)
    if replica.config.announce and announcer.exists() and not hook_files.is_ours(announcer):
        yield Fault(
            f"{announcer} is somebody else's hook, so piehole.announce says nothing",
            f'have it run `"$(dirname "$0")/{announcer.name}.piehole"`, then run `piehole install` here',
            warning=True,
        )
    for setting in git_settings.missing(git_dir):
        held = config.local(git_settings.canonical(setting.name))
        wrong = (
            f"does not list {setting.value}" if setting.several else f"is {held or 'not set here'}, not {setting.value}"
        )
        yield Fault(f"{setting.name} {wrong} ({setting.why})", _INSTALL)
    patterns = config.every("receive.procreceiverefs")
    if patterns:
        yield Fault(
            f"receive.procReceiveRefs is {', '.join(patterns)}: what the hook proc-receive moves by itself is no push, and stays at this site",
            "let it push its refs into this repository (`git push`), so that they are agreed; or name them in piehole.exclude",
            warning=True,
        )
    for name in ("groupid", "siteid"):
        if not config.local(f"piehole.{name}"):
            yield Fault(f"piehole.{name} is not set: the repository is not installed to its end", _INSTALL)
    yield from _ownership(git_dir, config)
    yield from _visibility(replica, config)
    yield from _state(git_dir)
    yield from _controller(git_dir)
    yield from _space(git_dir)


def _space(git_dir: Path) -> Iterator[Fault]:
    disk = os.statvfs(git_dir)
    for free, total, what in ((disk.f_bavail, disk.f_blocks, "space"), (disk.f_favail, disk.f_files, "inodes")):
        if free < total * _LEAST_FREE:
            yield Fault(
                f"the disk of {git_dir} is nearly full: {free / total:.1%} of its {what} is left",
                "make room: pushes and fetches fail without it",
                warning=True,
            )


def _ownership(git_dir: Path, config: GitConfig) -> Iterator[Fault]:
    status = git_dir.stat()
    shared = bool(git.shared_mode(config.one("core.sharedrepository")) & 0o022)
    if os.geteuid() != status.st_uid:
        yield Fault(
            f"{git_dir} belongs to uid {status.st_uid}, and this runs as uid {os.geteuid()}",
            "run piehole and its controller as the repository's owner",
        )
    if shared and not _is_safe(git_dir, config.system("safe.directory")):
        yield Fault(
            "several accounts share this repository (core.sharedRepository), and the system's safe.directory does not name it",
            f"git refuses accounts that do not own it: git config --system --add safe.directory {git_dir}",
            warning=True,
        )
    wrong = [path for path in _files(git_dir) if (_unshared(path) if shared else _foreign(path, status.st_uid))]
    if wrong:
        named = ", ".join(str(path.relative_to(git_dir)) for path in wrong[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        fix = (
            f"chmod -R g+w {git_dir}, and never run git here under another umask"
            if shared
            else f"chown -R {status.st_uid} {git_dir}, and run git and piehole here as that account only"
        )
        yield Fault(f"files that the next push may not be able to write: {named}{more}", fix)


def _is_safe(git_dir: Path, values: Sequence[str]) -> bool:
    """Whether git takes a repository of another account, by the values of safe.directory: an empty one forgets those before it."""
    names = {str(git_dir), str(git_dir.resolve())}
    folders = {f"{parent}/*" for name in names for parent in Path(name).parents}
    since = max((number + 1 for number, value in enumerate(values) if not value), default=0)
    return not {"*", *names, *folders}.isdisjoint(values[since:])


def _files(git_dir: Path) -> Iterator[Path]:
    """What pushes write: not the hooks, which an administrator may own. Bounded, since it is a sample."""
    left = _SAMPLE
    for top in ("HEAD", "config", "packed-refs", "refs", "logs", "piehole", "objects"):
        for path in (git_dir / top, *_below(git_dir / top)):
            if left and os.path.lexists(path):
                left -= 1
                yield path


def _below(folder: Path) -> Iterator[Path]:
    for path, _ in paths.below(str(folder)):
        yield Path(path)


def _foreign(path: Path, owner: int) -> bool:
    try:
        return path.lstat().st_uid != owner
    except OSError:  # gone meanwhile
        return False


def _unshared(path: Path) -> bool:
    """Whether another account of the group could not write it. Files are replaced whole, but reflogs are appended to."""
    try:
        status = path.lstat()
    except OSError:
        return False
    relevant = stat.S_ISDIR(status.st_mode) or "logs" in path.parts
    # piehole's own folder is the owner's; only the in-flight records below it are everybody's.
    private = "piehole" in path.parts and "inflight" not in path.parts
    return relevant and not private and not status.st_mode & 0o022


def _visibility(replica: Replica, config: GitConfig) -> Iterator[Fault]:
    """What would hide refs from pushers, from peers, or from the hooks."""
    if os.environ.get("GIT_NAMESPACE"):
        yield Fault(
            f"GIT_NAMESPACE is set here ({os.environ['GIT_NAMESPACE']})",
            "pushes with a namespace are refused: unset it where git is served",
        )
    observed = replica.repository.observe()
    if any(ref.startswith("refs/namespaces/") for ref in observed.refs):
        yield Fault(
            "there are refs below refs/namespaces/",
            "pushes through GIT_NAMESPACE are refused; push by the full names, or exclude them (piehole.exclude)",
            warning=True,
        )
    for ref, target in observed.symbolic.items():
        if is_managed(ref, replica.config.exclude):
            yield Fault(
                f"{ref} is a symbolic ref (to {target})",
                "it is no part of the group; delete it or leave it",
                warning=True,
            )
    for name in ("transfer.hideRefs", "uploadpack.hideRefs", "receive.hideRefs"):
        values = config.every(name.lower())
        for refs, what, why in _OWN_REFS:
            shown = [value for value in values if value.startswith("!") and refs.startswith(value[1:].lstrip("^"))]
            if shown and name != "receive.hideRefs":
                yield Fault(
                    f"{name} = {shown[0]} shows {what} to clients", f"unset it: they are piehole's own, and hold {why}"
                )
        own = [refs.rstrip("/") for refs, _, _ in _OWN_REFS]
        hidden = [value for value in values if value not in own and not value.startswith("!")]
        if hidden:
            yield Fault(
                f"{name} hides {', '.join(hidden)}",
                "hidden refs of the group are replicated, but clients see or push them at some sites only",
                warning=True,
            )


def _state(git_dir: Path) -> Iterator[Fault]:
    try:
        rollback_guard.load(git_dir)
    except PieholeError as error:
        yield Fault(f"{git_dir}/piehole/state.json is damaged, so this site is halted", str(error), word="halted")
    folder = git_dir / inflight.FOLDER
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Fault(f"{folder} is missing or cannot be written, so every push is refused", _INSTALL)
        if folder.exists():
            return  # what is in it cannot be read
    for why in old_locks(git_dir).values():
        lock, _, fix = why.rpartition(": ")
        yield Fault(f"the lock {lock}", fix, word="locks")
    by_origin: dict[str, list[str]] = {}
    for path, origin in unjudged(git_dir).items():
        by_origin.setdefault(origin, []).append(path)
    for origin, found in by_origin.items():
        yield Fault(
            f"{len(found)} in-flight records are of {origin}, and nobody here can tell whether these pushes still run",
            f"a controller there removes them; where no push runs there any more: rm {' '.join(sorted(found)[:_SHOWN])}"
            f"{' …' if len(found) > _SHOWN else ''}",
            warning=True,
        )


def _controller(git_dir: Path) -> Iterator[Fault]:
    told: list[str] = []
    try:
        told = ask_status(str(git_dir))
    except controller_socket.NoController as error:
        yield Fault(
            f"no controller answers for this repository ({error})",
            "pushes work, but what other sites push does not come here by itself: run `piehole controller`, "
            "or see in its log why one that runs does not serve this repository",
            word="no controller",
        )
    if "hidden" in told or processes.some_are_hidden():
        yield Fault(
            "/proc hides other accounts' processes (hidepid, or ProtectProc= of the controller's unit)",
            "pushes of other accounts are not answered by the controller, and what they leave when they are killed stays: "
            "mount /proc with gid= of a group of the controller's account, or set ProtectProc=default",
            warning=True,
        )
    for word, _, rest in (line.partition(" ") for line in told):
        if word == "put-back":
            ref, _, why = rest.partition(" ")
            yield Fault(f"{ref} was changed at this site alone", f"it {why}", warning=True, word="pending")
    second = second_controller(git_dir)
    if second:
        yield Fault(
            f"a second controller ({second}) finds this repository, and is refused here",
            "stop one of the two, or give each its own --root",
            warning=True,
            word="refused",
        )
