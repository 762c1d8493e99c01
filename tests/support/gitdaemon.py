"""``git daemon`` on loopback: anonymous ``git://``, pushes only where a test asks for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.git import git_environment, make_home
from tests.support.ports import LOOPBACK
from tests.support.process import ManagedProcess
from tests.support.servers import Unavailable, start_on_free_port


class GitDaemon:
    """Serves every repository below ``base``.

    :param receive_pack: accept pushes, too
    :raises Unavailable: this git has no daemon
    """

    def __init__(self, folder: Path, base: Path, *, receive_pack: bool = False) -> None:
        exec_path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
        # The program itself: "git daemon" would be a parent that leaves it behind when it is killed.
        self._program = Path(exec_path) / "git-daemon"
        if not self._program.exists():
            raise Unavailable("no git-daemon on this machine")
        folder.mkdir(parents=True, exist_ok=True)
        self._base = base
        self._receive_pack = receive_pack
        self._folder = folder
        self._environment = git_environment(make_home(folder / "home"))
        self.port, self._process = start_on_free_port(self._start)

    def url_for(self, repository: Path) -> str:
        """The URL of a repository below the base."""
        return f"git://{LOOPBACK}:{self.port}/{repository.relative_to(self._base)}"

    @property
    def log(self) -> str:
        return self._process.tail(200)

    def end(self) -> None:
        self._process.end()

    def _start(self, port: int) -> ManagedProcess:
        arguments = [
            str(self._program),
            "--verbose",
            "--log-destination=stderr",
            "--export-all",
            "--informative-errors",
            "--reuseaddr",
            f"--listen={LOOPBACK}",
            f"--port={port}",
            f"--base-path={self._base}",
        ]
        if self._receive_pack:
            arguments.append("--enable=receive-pack")
        return ManagedProcess([*arguments, str(self._base)], self._folder / "daemon.log", env=self._environment)
