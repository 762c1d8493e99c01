"""One repository of a group at this site, with its configuration and its connection to etcd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from piehole.etcd.client import Etcd
from piehole.group import config as configuration
from piehole.group.config import Config
from piehole.group.group_state import GroupReader
from piehole.group.keys import Keyspace
from piehole.repository.repository import Repository


@dataclass(frozen=True)
class Replica:
    """A repository that belongs to a group, its configuration, and its clients of etcd."""

    config: Config
    repository: Repository
    keyspace: Keyspace
    etcd: Etcd
    reader: GroupReader

    @property
    def git_dir(self) -> Path:
        return self.config.git_dir

    @classmethod
    def of(cls, config: Config, etcd: Etcd) -> Replica:
        keyspace = config.keyspace
        repository = Repository(config.git_dir, config.object_format)
        return cls(config, repository, keyspace, etcd, GroupReader(etcd, keyspace, config.group, config.site))

    @classmethod
    def open(cls, git_dir: Path, overrides: Mapping[str, str | Sequence[str]] | None = None) -> Replica:
        """
        :raises UsageError: a required setting is missing or malformed
        :raises NoAccess: this account cannot read a credential of etcd
        """
        config = configuration.load(git_dir, overrides)
        return cls.of(config, Etcd(config.etcd, config.credentials))
