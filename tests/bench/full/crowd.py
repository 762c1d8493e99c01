"""Thousands of small repositories at two sites, made quickly: one group is installed at both, all others are copies of it.

A copy differs in what `piehole install` would have made different: the names, the ids, the URLs, and the keys in etcd.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Put
from tests.bench.full.kit import MAIN, write_history
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.groups import Group

_PUTS: Final = 1000  # in one transaction
_PATIENCE: Final = 30.0
_MODEL: Final = "model"


@dataclass(frozen=True)
class Pair:
    """One group: its repository at the site a, and at the site b."""

    name: str
    a: Path
    b: Path


class Crowd:
    """
    :param origin: has all commits: those that every repository begins with, and ``commits`` that come after them
    """

    def __init__(self, folder: Path, etcd: EtcdProcess, commits: int = 3) -> None:
        self.folder = folder
        self.prefix = "/piehole"
        self._etcd = Etcd([etcd.endpoint])
        self.origin = make_bare(folder / "origin.git")
        self.first = write_history(self.origin, 5)[-1]
        self._model = Group(folder / "model", [etcd.endpoint], self.prefix, name=_MODEL)
        try:
            self._sites = [self._model.add(name) for name in "ab"]
            make_bare(self._sites[0].repository)
            git(self.origin, "push", "--quiet", str(self._sites[0].repository), MAIN)
            for site in self._sites:
                site.build()
                git(site.repository, "config", "--unset", "piehole.hookTimeout")
                site.piehole("reconcile", "--once")
        finally:
            self._model.end()
        self._keys = {
            kv.key.decode(): kv.value.decode()
            for kind in ("ref", "group", "site", "progress")
            for kv in self._etcd.list_prefix(
                f"{self.prefix}/{kind}/{_MODEL}".encode(), deadline=Deadline(_PATIENCE)
            ).kvs
        }
        self.commits = write_history(self.origin, commits)

    def close(self) -> None:
        self._etcd.close()

    def add(self, pairs: Sequence[Pair]) -> None:
        """Make these groups, both repositories of each in step."""
        changes = [self._changes(pair) for pair in pairs]
        self._put([
            Put(key.encode(), value.encode())
            for change in changes
            for key, value in self._values(change).items()
            if "/progress/" not in key
        ])  # fmt: skip
        # What a site has published is newer than every key of its group, so there is nothing to say when it starts.
        revision = self._etcd.head(self.prefix.encode(), deadline=Deadline(_PATIENCE)).revision
        for change, pair in zip(changes, pairs, strict=True):
            for model, repository in zip(self._sites, (pair.a, pair.b), strict=True):
                _copy(model.repository, repository, change, revision)
        records = [
            Put(key.encode(), _at(value, revision).encode())
            for change in changes
            for key, value in self._values(change).items()
            if "/progress/" in key
        ]
        self._put(records)

    def move_at_a(self, pairs: Sequence[Pair], commit: str) -> None:
        """What pushes of this commit at the site a leave behind, without the cost of making them."""
        for pair in pairs:
            git(pair.a, "fetch", "--quiet", str(self.origin), commit)
            (pair.a / MAIN).write_text(f"{commit}\n")
        for start in range(0, len(pairs), _PUTS):
            # A transaction for each, as pushes make them.
            for pair in pairs[start : start + _PUTS]:
                record = {
                    "format": 1,
                    "id": uuid4().hex,
                    "pusher": "A Pusher",
                    "site": "a",
                    "time": "2026-01-01T00:00:00+00:00",
                }
                where = f"{self.prefix}/ref/{pair.name}"
                self._put([
                    Put(f"{where}/{MAIN}".encode(), commit.encode()), Put(f"{where}/@push".encode(), json.dumps(record).encode())
                ])  # fmt: skip

    def _changes(self, pair: Pair) -> dict[str, str]:
        """What stands in the model, and what in its copy."""
        ids: dict[str, str] = {}
        for key, value in self._keys.items():
            if "/group/" in key or "/site/" in key:
                ids[json.loads(value)["id"]] = str(uuid4())
        places = {str(site.repository): str(path) for site, path in zip(self._sites, (pair.a, pair.b), strict=True)}
        return {**ids, **places, f"/{_MODEL}/": f"/{pair.name}/", f"group = {_MODEL}\n": f"group = {pair.name}\n"}

    def _values(self, change: dict[str, str]) -> dict[str, str]:
        return {
            _changed(f"{key}/", change).removesuffix("/"): _changed(value, change) for key, value in self._keys.items()
        }

    def _put(self, puts: Sequence[Put]) -> None:
        for start in range(0, len(puts), _PUTS):
            assert self._etcd.txn([], puts[start : start + _PUTS], deadline=Deadline(_PATIENCE)).succeeded


def _copy(model: Path, to: Path, change: dict[str, str], revision: int) -> None:
    shutil.copytree(model, to)
    for name in ("config", "piehole/state.json"):
        path = to / name
        path.write_text(_changed(path.read_text(), change))
    (to / "piehole" / "controller").unlink(missing_ok=True)
    state: dict[str, Any] = json.loads((to / "piehole" / "state.json").read_text())
    state["published"]["revision"] = revision
    (to / "piehole" / "state.json").write_text(json.dumps(state))


def _at(record: str, revision: int) -> str:
    return json.dumps({**json.loads(record), "revision": revision})


def _changed(text: str, change: dict[str, str]) -> str:
    for old, new in change.items():
        text = text.replace(old, new)
    return text
