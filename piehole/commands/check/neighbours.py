"""Whether the other sites can be fetched from, and whether other repositories on this machine claim to be this site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

from piehole.commands.check.group import unreadable
from piehole.deadline import Deadline
from piehole.errors import EtcdError, GitError, PieholeError, UsageError
from piehole.group.group_state import GroupState
from piehole.group.keys import DEFAULT_PREFIX
from piehole.group.replica import Replica
from piehole.group.sites import GroupSite, list_sites
from piehole.refs import HEAD, is_zero, short
from piehole.replicate.plan import Value, desired_state
from piehole.repository import discovery
from piehole.repository.fitness import Fault
from piehole.repository.git_settings import GitConfig
from piehole.transfer.git_fetch import list_refs
from piehole.transfer.urls import PeerUrl, parse_url

_PATIENCE: Final = 8.0  # seconds for each peer
_AT_ONCE: Final = 8
_COMPARED: Final = 32  # refs of each peer


def peers(replica: Replica) -> Iterator[Fault]:
    """Report the sites of the group that this one cannot fetch from, and those whose URL leads to another repository."""
    try:
        everybody = [one for one in list_sites(replica, Deadline(_PATIENCE)) if not one.left and not one.fault]
        # Read after the sites' progress: what a site has published is not newer than this.
        state = replica.reader.list_group(Deadline(_PATIENCE))
    except EtcdError as error:
        yield unreadable("the sites of the group cannot be listed", error)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from (fault for fault in pool.map(lambda one: _peer(replica, one, state), everybody) if fault is not None)
    by_url = sorted(everybody, key=lambda one: one.url)
    for first, second in pairwise(by_url):
        if first.url == second.url:
            yield Fault(
                f"the sites {first.site!r} and {second.site!r} have the same URL, {first.url}",
                "give one of them another there (`piehole install --url`), or remove it: `piehole leave --site SITE`",
            )


def _peer(replica: Replica, one: GroupSite, state: GroupState) -> Fault | None:
    this = one.site == replica.config.site
    try:
        peer = parse_url(one.url, replica.config.allow_protocol)
        return _other_refs(replica, one, peer, state)
    except UsageError as error:
        fault = Fault(
            f"the site {one.site!r} cannot be fetched from: {error}",
            "allow its protocol here (git config --add piehole.allowProtocol …), or give it another URL there (`piehole install --url`)",
            word="behind",
        )
    except EtcdError as error:
        fault = unreadable("the group's refs cannot be read", error)
    except GitError as error:
        fault = Fault(
            f"the site {one.site!r} cannot be fetched from: {peer.display}: {error.stderr or error}",
            f"see that this account can run `git ls-remote {peer.display}`; a site that is lost for good: `piehole leave --site {one.site}`",
            word="behind",
        )
    return None if this else fault  # a site need not be able to fetch from itself


def _other_refs(replica: Replica, one: GroupSite, peer: PeerUrl, state: GroupState) -> Fault | None:
    """Whether the repository at the URL of a site shows other values than those that the site has published that it has.

    :raises GitError: its refs cannot be listed
    :raises EtcdError: etcd could not be used
    """
    held = _published(replica, one, state)
    found = list_refs(
        replica.git_dir, peer, HEAD, *held, object_format=replica.config.object_format, patience=_PATIENCE
    )
    differing = {ref for ref, value in held.items() if found.get(ref) != value.oid}
    if differing:  # unless they have moved meanwhile
        now = _published(replica, one, replica.reader.list_group(Deadline(_PATIENCE)))
        differing = {ref for ref in differing if now.get(ref) == held[ref]}
    if not differing:
        return None
    ref = min(differing)
    values = f"{ref} is at {short(found[ref]) if ref in found else 'nothing'} there and at {short(held[ref].oid)} in the group"
    if len(differing) < len(held):
        return Fault(
            f"the repository at {peer.display} shows other refs than the site {one.site!r} has published that it has: {values}",
            "run `piehole status` there (no fault if that site hides or excludes the ref)",
            warning=True,
        )
    return Fault(
        f"{peer.display} leads to another repository than that of the site {one.site!r}, or to one that has lost its refs: {values}",
        "put the right repository there, or correct the URL at that site (`piehole install --url`); run `piehole check` there",
    )


def _published(replica: Replica, one: GroupSite, state: GroupState) -> dict[str, Value]:
    """The refs, at most :data:`_COMPARED`, that have not moved since this site has published that it has them."""
    config = replica.config
    refs = desired_state(state.entries, config.object_format, config.exclude).refs
    old = [ref for ref, value in refs.items() if value.mod_revision <= one.revision and not is_zero(value.oid)]
    newest = sorted(old, key=lambda ref: (-refs[ref].mod_revision, ref))
    return {ref: refs[ref] for ref in newest[:_COMPARED]}


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
