"""Which refs a peer has, as ``git ls-remote`` tells it under the rules that hold for fetches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from piehole import git
from piehole.refs import is_oid
from piehole.transfer.git_remote_config import login_for_git, ssh_command, ssh_command_for_git
from piehole.transfer.limits import Limits
from piehole.transfer.urls import PeerUrl

_SAFE: Final = ("-c", "protocol.allow=never", "-c", "http.followRedirects=false")


def list_refs(
    git_dir: Path, peer: PeerUrl, *patterns: str, object_format: str = "sha1", patience: float = 30.0
) -> Mapping[str, str]:
    """The peer's refs and their oids; of those that match a pattern, where some are given.

    :param patience: seconds for the whole question
    :raises GitError: it could not be reached, refused, or did not answer in time
    """
    env: dict[str, str] = login_for_git(peer)
    if peer.protocol == "ssh":
        env["GIT_SSH_COMMAND"] = ssh_command_for_git(ssh_command(git_dir), Limits(connect=patience))
    command = [*_SAFE, "-c", f"protocol.{peer.protocol}.allow=always", "ls-remote", "--quiet", "--"]
    done = git.run(git_dir, [*command, peer.for_git, *patterns], timeout=patience, extra_env=env)
    pairs = (line.split("\t", 1) for line in git.lines(done.stdout))
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and is_oid(pair[0], object_format)}
