"""Other ways to bring what was pushed to another place: git by hand, dulwich's own fetch, grokmirror."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dulwich.client import SubprocessGitClient
from dulwich.refs import Ref
from dulwich.repo import Repo

from tests.bench.bed import FSYNC, LOOK_EVERY, PATIENCE, Server, make_repository
from tests.support.git import MAIN, git
from tests.support.process import ManagedProcess

_GROK: Final = """\
[core]
toplevel = {replica}
manifest = {replica}/manifest.js.gz
objstore = {replica}/objstore
log = {replica}/grok.log
loglevel = warning

[remote]
site = file://{origin}
manifest = file://{origin}/manifest.js.gz

[pull]
pull_threads = 1
"""


class GitFetch:
    """`git fetch` of main, typed by hand."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_repository(folder / "fetcher.git")

    def fetch(self, source: Path) -> float:
        """The seconds of one."""
        started = time.monotonic()
        git(self.repository, "fetch", "--quiet", str(source), f"+{MAIN}:{MAIN}")
        return time.monotonic() - started


class DulwichFetch:
    """What dulwich offers for the purpose: ``client.fetch`` into a ``Repo``, in a process that runs already."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_repository(folder / "dulwich.git")
        git(self.repository, "config", "core.fsyncObjectFiles", "true")  # dulwich knows core.fsync by this name only
        self._client = SubprocessGitClient()

    def fetch(self, source: Path) -> float:
        """The seconds of one, with the move of the ref."""
        started = time.monotonic()
        with Repo(str(self.repository)) as repo:
            result = self._client.fetch(str(source), repo)
            main = Ref(MAIN.encode())
            oid = result.refs[main]
            assert oid is not None
            repo.refs[main] = oid
        return time.monotonic() - started


class Grokmirror:
    """grokmirror with its manifest, told at once: `grok-manifest` at the origin, then `grok-pull` at the replica.

    As it is deployed, `grok-pull` looks every few minutes (``refresh``); that wait is left out here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.origin = Server(folder / "origin")
        self._replica = folder / "replica" / "r.git"
        self._config = folder / "grokmirror.conf"
        self._replica.parent.mkdir(parents=True)
        self._config.write_text(_GROK.format(replica=self._replica.parent, origin=folder / "origin"))
        self.origin.begin()
        self._tell()
        self._pull().wait(60)
        git(self._replica, "config", "core.fsync", FSYNC)

    @staticmethod
    def is_there() -> bool:
        return os.access(_program("grok-pull"), os.X_OK)

    def lag(self) -> float:
        """Push, tell, pull: the seconds from the push's return until the replica shows it."""
        pushed = self.origin.push_one_commit()
        self._tell()
        puller = self._pull()
        main = self._replica / MAIN
        while not main.exists() or main.read_text() != f"{pushed.oid}\n":
            assert time.monotonic() - pushed.ended < PATIENCE, puller.tail()
            time.sleep(LOOK_EVERY)
        took = time.monotonic() - pushed.ended
        puller.wait(60)
        return took

    def _tell(self) -> None:
        origin = self.origin.repository.parent
        subprocess.run(
            [_program("grok-manifest"), "-m", origin / "manifest.js.gz", "-t", origin, "-n", self.origin.repository],
            check=True,
            capture_output=True,
        )

    def _pull(self) -> ManagedProcess:
        # -n: the manifest's time has whole seconds, and two pushes may fall into one.
        return ManagedProcess([_program("grok-pull"), "-n", "-c", str(self._config)], self._folder / "pull.log")


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
