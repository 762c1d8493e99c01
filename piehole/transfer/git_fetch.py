"""Fetch with git, where dulwich and the peer do not understand each other; and list a peer's refs.

``git fetch`` runs in a scratch repository. Its objects go into the quarantine, with the store as the alternate, whose refs git
offers as haves.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError, TransferError, TransferRejected
from piehole.refs import is_oid
from piehole.transfer.dulwich_fetch import WEB_PAGE, PeerAccess, sends_web_page
from piehole.transfer.git_remote_config import headers_for_git, ssh_command, ssh_command_for_git
from piehole.transfer.process import one_line, spawn, wait
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.urls import PeerUrl
from piehole.transfer.watchdog import Limits, Watchdog

_TAIL: Final = 2048
_SAFE: Final = ("-c", "protocol.allow=never", "-c", "http.followRedirects=false")
# The words of upload-pack (v2), and git's own where a v0 peer has no ref at this oid.
_LACKS: Final = re.compile(r"(?:not our ref|request for unadvertised object) ([0-9a-f]{40,64})")


def git_fetch(
    quarantine: Quarantine,
    peer: PeerUrl,
    wants: Sequence[str],
    *,
    limits: Limits,
    watchdog: Watchdog,
    object_format: str,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Fetch the wants into the quarantine; returns the size of what lies there afterwards.

    :raises TransferRejected: more bytes came than are allowed
    :raises TransferError: git could not fetch, or the watchdog ended it
    """
    scratch = quarantine.path / "scratch"
    git.run(None, ["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(scratch)])
    used = [0]

    def growing() -> bool:
        before, used[0] = used[0], quarantine.usage()
        if progress is not None:
            progress(used[0])
        if used[0] > limits.max_bytes:
            watchdog.abort(f"sent more than the {limits.max_bytes} bytes that are allowed")
        return used[0] > before

    watchdog.listen(True, growing)
    with tempfile.TemporaryFile() as refspecs:
        refspecs.write("".join(f"{want}:refs/wanted/{number}\n" for number, want in enumerate(wants)).encode())
        refspecs.seek(0)
        process = spawn(
            watchdog,
            ["git", f"--git-dir={scratch}", *_settings(quarantine.git_dir, peer), *_FETCH, peer.for_git],
            env=_environment(quarantine, peer, limits),
            stdin=refspecs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            memory=limits.max_memory,
        )
        words = _listen(process, watchdog)
        status = wait(watchdog, process)
    growing()
    watchdog.listen(False)
    if used[0] > limits.max_bytes:
        raise TransferRejected(watchdog.reason)
    watchdog.check()
    if status:
        quarantine.check()
        lacking = _LACKS.search(words)
        if lacking:
            raise TransferError(f"does not have {lacking.group(1)}, or does not serve it")
        raise TransferError(f"gave nothing to git fetch: {words}")
    return used[0]


# --progress writes into a pipe, so git ends soon after this process was killed.
_FETCH: Final = (
    "fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules",
    "--no-show-forced-updates", "--stdin", "--",
)  # fmt: skip


def _settings(git_dir: Path, peer: PeerUrl) -> list[str]:
    # The repository's own configuration names certificates and helpers. Later settings win.
    return [
        "-c", f"include.path={git_dir / 'config'}",
        "-c", "core.bare=true",
        "-c", f"core.hooksPath={os.devnull}",
        "-c", "core.fsync=all",
        "-c", "fetch.unpackLimit=1",
        "-c", "transfer.unpackLimit=1",
        "-c", "fetch.fsckObjects=false",
        "-c", "http.followRedirects=false",
        "-c", "protocol.allow=never",
        "-c", f"protocol.{peer.protocol}.allow=always",
    ]  # fmt: skip


def _environment(quarantine: Quarantine, peer: PeerUrl, limits: Limits) -> dict[str, str]:
    env = quarantine.environment()
    if peer.protocol == "ssh":
        env["GIT_SSH_COMMAND"] = ssh_command_for_git(ssh_command(quarantine.git_dir), limits)
    return env | headers_for_git(peer, int(env.get("GIT_CONFIG_COUNT", "0")))


def _listen(process: subprocess.Popen[bytes], watchdog: Watchdog) -> str:
    """Read git's progress to its end; returns the last words."""
    tail = b""
    assert process.stderr is not None  # noqa: S101 -- it was asked to be a pipe
    with process.stderr:
        while chunk := os.read(process.stderr.fileno(), 65536):
            watchdog.arrived()
            tail = (tail + chunk)[-_TAIL:]
    return one_line(tail)


def list_refs(
    git_dir: Path, peer: PeerUrl, *patterns: str, object_format: str = "sha1", patience: float = 30.0
) -> Mapping[str, str]:
    """List the peer's refs with their oids, under the rules of a fetch; only those that match a pattern, where some are given.

    :param patience: seconds for all of it
    :raises GitError: it could not be reached, refused, or did not answer in time
    """
    env: dict[str, str] = headers_for_git(peer)
    if peer.protocol == "ssh":
        env["GIT_SSH_COMMAND"] = ssh_command_for_git(ssh_command(git_dir), Limits(connect=patience))
    command = [*_SAFE, "-c", f"protocol.{peer.protocol}.allow=always", "ls-remote", "--quiet", "--"]
    try:
        done = git.run(git_dir, [*command, peer.for_git, *patterns], timeout=patience, extra_env=env)
    except GitError:
        _refuse_web_page(git_dir, peer, patience)
        raise
    if not done.stdout:
        _refuse_web_page(git_dir, peer, patience)
    pairs = (line.split("\t", 1) for line in git.lines(done.stdout))
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and is_oid(pair[0], object_format)}


def _refuse_web_page(git_dir: Path, peer: PeerUrl, patience: float) -> None:
    """git takes some web pages for the listing of a repository without refs, and says nothing useful of others.

    :raises GitError: the peer answers with one
    """
    if peer.protocol not in ("http", "https"):
        return
    limits = Limits(connect=patience, stall=patience, total=patience)
    with Watchdog(limits) as watchdog:
        if sends_web_page(PeerAccess(git_dir, peer, limits, watchdog)):
            raise GitError(f"{peer.display} {WEB_PAGE}", stderr=f"it {WEB_PAGE}")
