"""What is measured: a plain repository, a site without a controller, a lone one with its controller, and three with one each."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.git import clone, commit, git, make_bare
from tests.support.process import ManagedProcess
from tests.support.wait import until

MAIN: Final = "refs/heads/main"
# A lag of some ten milliseconds is to be told to one.
_LOOK_EVERY: Final = 0.0005
_PATIENCE: Final = 20.0
# Every repository is written with the same care: what `piehole install` sets, set on the plain one, too.
FSYNC: Final = "all"


class Server:
    """A bare repository and a user's clone of it."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_bare(folder / "r.git")
        git(self.repository, "config", "core.fsync", FSYNC)
        self.work = folder / "clone"

    def begin(self) -> None:
        clone(self.repository, self.work)
        commit(self.work, "the first one")
        git(self.work, "push", "--quiet", "origin", "HEAD:main")

    def push_one_commit(self) -> tuple[str, float]:
        """Push one new commit; its oid, and the seconds that `git push` took."""
        oid = commit(self.work, "one more", content=f"{time.time_ns()}\n")
        started = time.monotonic()
        done = subprocess.run(
            ["git", "push", "--quiet", "origin", "HEAD:main"],
            cwd=self.work,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        return oid, took

    def shows(self, oid: str) -> bool:
        """Whether main is at this oid here, read from the disk: a process would cost more than what is measured."""
        try:
            return (self.repository / MAIN).read_text() == f"{oid}\n"
        except FileNotFoundError:
            return False


class Site(Server):
    """A server that is a site of a group."""

    def __init__(self, folder: Path, group: str, endpoint: str) -> None:
        super().__init__(folder)
        git(self.repository, "config", "piehole.allowProtocol", "file")
        _piehole(
            "install", str(self.repository), "--group", group, "--site", folder.name,
            "--url", str(self.repository), "--etcd", endpoint,
        )  # fmt: skip

    def start_controller(self, ends: ExitStack) -> None:
        folder = self.repository.parent
        command = [sys.executable, "-m", "piehole.cli", "controller", "--root", str(folder), "--log-level", "warning"]
        controller = ManagedProcess(command, folder / "controller.log")
        ends.callback(controller.end)
        pointer = self.repository / "piehole" / "controller"
        until(lambda: pointer.exists() or not controller.alive, _PATIENCE, "the controller serves its repository")
        assert controller.alive, controller.tail()


class Bed:
    """Everything that one run measures; it ends with ``ends``."""

    def __init__(self, folder: Path, etcd_binary: Path, ends: ExitStack) -> None:
        # The tests' members do not fsync where they need not; this one does, as a real one.
        known = subprocess.run([etcd_binary, "--help"], capture_output=True, text=True, check=False)
        careful = ["--unsafe-no-fsync=false"] if "--unsafe-no-fsync" in known.stdout + known.stderr else []
        # The second one hears of nothing but the pushes to the lone sites, so what these ask can be counted.
        self.etcd, self.quiet_etcd = (
            EtcdProcess(etcd_binary, folder / name, options=EtcdOptions(extra=careful)).start()
            for name in ("etcd", "quiet-etcd")
        )
        ends.callback(self.etcd.kill)
        ends.callback(self.quiet_etcd.kill)
        self.plain = Server(folder / "plain")
        self.alone = Site(folder / "alone", "without", self.quiet_etcd.endpoint)
        self.home, *self.others = (Site(folder / name, "with", self.etcd.endpoint) for name in ("home", "b", "c"))
        self.single = Site(folder / "single", "single", self.quiet_etcd.endpoint)
        for site in (self.home, *self.others, self.single):
            site.start_controller(ends)
        self.fetcher = make_bare(folder / "fetcher.git")
        git(self.fetcher, "config", "core.fsync", FSYNC)
        for server in (self.plain, self.alone, self.home, self.single):
            server.begin()
        self.fetch_by_hand()

    def fetch_by_hand(self) -> float:
        """One `git fetch` of what the home site has and the fetcher lacks; the seconds it took."""
        started = time.monotonic()
        git(self.fetcher, "fetch", "--quiet", str(self.home.repository), f"+{MAIN}:{MAIN}")
        return time.monotonic() - started

    def arrival(self, oid: str) -> float:
        """Wait until both other sites show the oid; the seconds from now."""
        started = time.monotonic()
        while not all(site.shows(oid) for site in self.others):
            assert time.monotonic() - started < _PATIENCE, "the other sites never had it"
            time.sleep(_LOOK_EVERY)
        return time.monotonic() - started


def _piehole(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "piehole.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
