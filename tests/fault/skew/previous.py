"""The version before, as a tree that runs; and a group whose sites, hooks and controllers may be of different versions."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from tests.fault.tree import PACKAGES, SOURCE
from tests.support import git
from tests.support.etcd import EtcdProcess
from tests.support.process import ManagedProcess
from tests.support.wait import until

# The last commit before the formats were recorded in `recorded/`.
COMMIT: Final = "2d9b0d577a073d6e300e859f7e40eb3ad94bdf36"
MAIN: Final = "refs/heads/main"


def unpack(into: Path) -> bool:
    """Put the version before below ``into``; False where this checkout has no history to take it from."""
    done = subprocess.run(
        ["git", "-C", str(SOURCE), "archive", COMMIT, *PACKAGES], capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")
    return True


class Site:
    """One site. ``hooks`` and ``controller`` are the trees that each runs from."""

    def __init__(self, folder: Path, name: str, hooks: Path, controller: Path) -> None:
        self.folder = folder / name
        self.name = name
        self.hooks = hooks
        self.controller_tree = controller
        self.repository = git.make_bare(self.folder / "r.git")
        git.git(self.repository, "config", "piehole.allowProtocol", "file")
        self.runtime = folder / f"run-{name}"
        self.runtime.mkdir()
        self.process: ManagedProcess | None = None

    def run(self, tree: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "piehole.cli", *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment(tree),
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def install(self, etcd: EtcdProcess, prefix: str) -> None:
        self.run(
            self.hooks,
            *("install", str(self.repository), "--group", "g", "--site", self.name, "--url", str(self.repository)),
            *("--etcd", etcd.endpoint, "--prefix", prefix),
        )

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "piehole.cli",
            "controller",
            "--root",
            str(self.folder),
            "--log-format",
            "json",
        ]
        self.process = ManagedProcess(
            command, self.folder / "controller.log", env=self._environment(self.controller_tree)
        )
        pointer = self.repository / "piehole" / "controller"
        process = self.process
        until(lambda: pointer.exists() or not process.alive, 30, f"the controller of {self.name} serves")
        assert process.alive, process.tail()

    def end(self) -> None:
        if self.process is not None:
            self.process.end()

    def at(self, ref: str = MAIN) -> str:
        return git.git(self.repository, "rev-parse", "--verify", "--quiet", ref, check=False).stdout.strip()

    def _environment(self, tree: Path) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "RUNTIME_DIRECTORY": str(self.runtime)}
