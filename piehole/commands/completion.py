"""Names that a shell completes: refs and kept tips of a repository, sites and groups in etcd. Whatever fails, fewer names are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import PieholeError
from piehole.refs import KEPT_REFS, PIEHOLE_REFS
from piehole.repository.fitness import find_repository

if TYPE_CHECKING:
    from piehole.group.config import Config

_PATIENCE: Final = 0.5  # seconds for etcd: somebody has pressed a key and waits
_BRANCHES: Final = "refs/heads/"


def refs(folder: Path, begun: str) -> list[str]:
    """Branches by their name, other refs without ``refs/``; whole names, if what was typed begins one."""
    names = [ref for ref in _for_each_ref(folder, "%(refname)", "refs/") if not ref.startswith(PIEHOLE_REFS)]
    if begun.startswith("refs/"):
        return names
    return [ref.removeprefix(_BRANCHES).removeprefix("refs/") for ref in names]


def tips(folder: Path) -> list[tuple[str, str]]:
    """The beginnings of the ids of the tips that are kept here, and the subjects of their commits."""
    lines = _for_each_ref(folder, "%(objectname) %(contents:subject)", KEPT_REFS)
    return [(oid[:12], subject) for oid, _, subject in (line.partition(" ") for line in lines)]


def _for_each_ref(folder: Path, form: str, below: str) -> list[str]:
    try:
        return git.lines(git.run(find_repository(folder), ["for-each-ref", f"--format={form}", below]).stdout)
    except (PieholeError, OSError):
        return []


def sites(folder: Path, etcd: Sequence[str]) -> list[str]:
    """The sites of the repository's group; this one alone where etcd does not answer in time.

    :param etcd: the endpoints that were typed
    """
    config = _config(folder, {"etcd": etcd})
    return (_names(config, config.keyspace.sites(config.group)) or [config.site]) if config else []


def groups(etcd: Sequence[str]) -> list[str]:
    """All groups in the etcd that was typed, or that this server's configuration names."""
    config = _config(None, {"etcd": etcd, "group": "any", "site": "any"})
    return _names(config, config.keyspace.group("")) if config else []


def _config(folder: Path | None, overrides: Mapping[str, str | Sequence[str]]) -> Config | None:
    from piehole.group import config as configuration
    from piehole.repository.git_settings import GitConfig

    try:
        git_dir = find_repository(folder) if folder else None
        return configuration.parse(git_dir or Path(), GitConfig(git_dir), overrides)
    except (PieholeError, OSError):
        return None


def _names(config: Config, prefix: bytes) -> list[str]:
    """The last parts of the keys below the prefix."""
    from piehole.etcd.client import Etcd
    from piehole.etcd.model import prefix_end
    from piehole.refs import decode

    try:
        etcd = Etcd(config.etcd, config.credentials)
        found = etcd.range(prefix, prefix_end(prefix), deadline=Deadline(_PATIENCE), limit=1000, keys_only=True)
    except (PieholeError, OSError):
        return []
    return [decode(kv.key.removeprefix(prefix)) for kv in found.kvs]
