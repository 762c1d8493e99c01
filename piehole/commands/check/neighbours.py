"""Whether the other sites can be fetched from, and whether other repositories on this machine claim to be this site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdError, GitError, PieholeError, UsageError
from piehole.group.keys import DEFAULT_PREFIX
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.repository import discovery
from piehole.repository.fitness import Fault
from piehole.repository.git_settings import GitConfig
from piehole.transfer.git_fetch import list_refs
from piehole.transfer.urls import parse_url

_PATIENCE: Final = 8.0  # seconds for each peer
_AT_ONCE: Final = 8


def peers(replica: Replica) -> Iterator[Fault]:
    """Report the sites of the group that this one cannot fetch from."""
    try:
        everybody = list_sites(replica, Deadline(_PATIENCE))
    except EtcdError as error:
        yield Fault(f"the sites of the group cannot be listed: {error}", "see that a majority of etcd's members runs")
        return
    others = [one for one in everybody if one.site != replica.config.site and not one.left and not one.fault]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from (fault for fault in pool.map(lambda one: _peer(replica, one), others) if fault is not None)


def _peer(replica: Replica, one: GroupSite) -> Fault | None:
    try:
        peer = parse_url(one.url, replica.config.allow_protocol)
    except UsageError as error:
        return Fault(
            f"the site {one.site!r} cannot be fetched from: {error}",
            "allow its protocol here (git config --add piehole.allowProtocol …), or give it another URL there (`piehole install --url`)",
        )
    try:
        list_refs(replica.git_dir, peer, "HEAD", patience=_PATIENCE)
    except GitError as error:
        return Fault(
            f"the site {one.site!r} cannot be fetched from: {peer.display}: {error.stderr or error}",
            f"see that this account can run `git ls-remote {peer.display}`; a site that is lost for good: `piehole leave --site {one.site}`",
        )
    return None


def duplicates(replica: Replica) -> Iterator[Fault]:
    """Other repositories below piehole.root, or beside this one, that are the same site of the same group."""
    config = replica.config
    for git_dir in _nearby(replica):
        try:
            found = GitConfig(git_dir)
        except PieholeError:  # another account's repository, or a damaged one
            continue
        prefix = found.one("piehole.prefix", DEFAULT_PREFIX)
        same = (found.one("piehole.group"), found.one("piehole.site"), prefix)
        if same == (config.group, config.site, config.prefix):
            yield Fault(
                f"{git_dir} is installed as the site {config.site!r} of the group {config.group!r}, too",
                f"both would move its refs and publish its progress: run `piehole uninstall --local {git_dir}` where that is the copy",
            )


def _nearby(replica: Replica) -> Iterator[Path]:
    own = replica.git_dir.resolve()
    roots = [Path(root) for root in GitConfig(replica.git_dir).many("piehole.root")]
    found = {path for root in roots for path in discovery.repositories(root)}
    try:
        beside = [Path(entry.path) for entry in os.scandir(own.parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:  # this account cannot serve repositories in a folder that it may not list
        beside = []
    found |= {path for path in beside if (path / "config").is_file() and discovery.has_group(path)}
    yield from sorted(path for path in found if path.resolve() != own)
