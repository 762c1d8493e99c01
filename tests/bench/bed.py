"""Where the measurements are made: repositories with nobody's, somebody's and piehole's hooks, sites and their controllers.

Every bare repository has the ``core.fsync`` that piehole sets, so that no row is faster because it is careless. What else
piehole sets (reflogs, ``receive.fsckObjects``) is part of what it costs, and set at its sites only.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.repository.git_settings import SETTINGS
from tests.support.command_line import COMMAND, piehole
from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.git import MAIN, clone, commit, git, make_bare, rev_parse
from tests.support.process import ManagedProcess
from tests.support.wait import until

# A lag of some ten milliseconds is to be told to one.
LOOK_EVERY: Final = 0.0005
PATIENCE: Final = 20.0
INSTALLED: Final = {one.name: one.value for one in SETTINGS}
FSYNC: Final = INSTALLED["core.fsync"]
_STOCK: Final = 50
_EMPTY_HOOK: Final = "#!/bin/sh\nexit 0\n"
HOOKS: Final = ("pre-receive", "update", "reference-transaction")


@dataclass(frozen=True)
class Pushed:
    """``oid``: what was pushed. ``seconds``: from the start of `git push` to its end, which was at ``ended`` (monotonic)."""

    oid: str
    seconds: float
    ended: float


def make_repository(path: Path) -> Path:
    """A bare repository with the ``core.fsync`` that all have here."""
    make_bare(path)
    git(path, "config", "core.fsync", FSYNC)
    return path


class Server:
    """A bare repository and a user's clone of it, in which the commits to come are made already."""

    def __init__(self, folder: Path) -> None:
        self.repository = make_repository(folder / "r.git")
        self.work = folder / "clone"
        self._stock: deque[str] = deque()

    def hook(self, name: str, text: str) -> None:
        path = self.repository / "hooks" / name
        path.write_text(text)
        path.chmod(0o755)

    def begin(self) -> None:
        clone(self.repository, self.work)
        commit(self.work, "the first one")
        git(self.work, "push", "--quiet", "origin", f"HEAD:{MAIN}")

    def stock_up(self, count: int = _STOCK) -> None:
        """Make commits one on top of the other, each of one file's change, so that making them is no part of a push."""
        if not self._stock:
            self._stock.extend(self.make_commits(rev_parse(self.work, "origin/main"), count))

    def make_commits(self, base: str, count: int) -> list[str]:
        """A chain of commits upon ``base``, the oldest first."""
        branch = "refs/stock/next"
        git(self.work, "update-ref", branch, base)
        stream = "".join(_commit(branch, base if number == 0 else "") for number in range(count))
        git(self.work, "fast-import", "--quiet", "--force", stdin=stream)
        return git(self.work, "rev-list", "--reverse", f"{base}..{branch}").stdout.split()

    def push_one_commit(self, env: dict[str, str] | None = None) -> Pushed:
        """Push one new commit to main.

        :param env: variables on top of the test's environment
        """
        self.stock_up()
        oid = self._stock.popleft()
        return Pushed(oid, *self.push([f"{oid}:{MAIN}"], env=env))

    def push(
        self,
        refspecs: list[str],
        *options: str,
        timeout: float = 60.0,
        env: dict[str, str] | None = None,
    ) -> tuple[float, float]:
        """`git push`; the seconds it took, and when it ended.

        :raises subprocess.TimeoutExpired: it took more than ``timeout`` seconds; its processes are killed
        """
        command = ["git", "push", "--quiet", *options, "origin", *refspecs]
        with (self.work.parent / "push.log").open("w+") as log:
            started = time.monotonic()
            process = subprocess.Popen(
                command,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **env} if env else None,
                process_group=0,
            )
            _await_end(process, timeout)
            ended = time.monotonic()
            log.seek(0)
            assert process.returncode == 0, log.read()[-2000:]
        return ended - started, ended

    def shows(self, oid: str) -> bool:
        """Whether main is at this oid here."""
        return self.main() == oid

    def main(self) -> str:
        """The oid of main, read from the disk: a process would cost more than what is measured. ``""`` where it is not loose."""
        try:
            return (self.repository / MAIN).read_text().rstrip("\n")
        except FileNotFoundError:
            return ""


class Mirrored(Server):
    """What people do today: a ``post-receive`` hook that pushes everything to each other site."""

    def __init__(self, folder: Path, *, background: bool) -> None:
        super().__init__(folder)
        self.others = [Server(folder / name) for name in ("b", "c")]
        after = " >/dev/null 2>&1 </dev/null &" if background else ""
        pushes = "".join(f"git push --quiet --mirror '{other.repository}'{after}\n" for other in self.others)
        self.hook("post-receive", f"#!/bin/sh\n{pushes}")


class Shells(Server):
    """Its hooks are shell that does nothing: what starting them costs, and nothing else."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in HOOKS:
            self.hook(name, _EMPTY_HOOK)


class Site(Server):
    """A server that is a site of a group."""

    def __init__(self, folder: Path, group: str, endpoint: str) -> None:
        super().__init__(folder)
        git(self.repository, "config", "piehole.allowProtocol", "file")
        piehole(
            "install", self.repository, "--group", group, "--site", folder.name,
            "--url", str(self.repository), "--etcd", endpoint,
            check=True,
        )  # fmt: skip

    def start_controller(self, ends: ExitStack) -> ManagedProcess:
        folder = self.repository.parent
        command = [*COMMAND, "controller", "--root", str(folder), "--log-level", "warning"]
        controller = ManagedProcess(command, folder / "controller.log")
        ends.callback(controller.end)
        pointer = self.repository / "piehole" / "controller"
        until(lambda: pointer.exists() or not controller.alive, PATIENCE, "the controller serves its repository")
        assert controller.alive, controller.tail()
        return controller


class Bed:
    """Everything that one run measures; it ends with ``ends``.

    ``alone`` and ``single`` are groups of one at an etcd of their own, which hears of nothing else, so what they ask of it can
    be counted; ``alone`` has no controller. ``home`` is the first of a group of three, each with its controller.
    """

    def __init__(self, folder: Path, etcd_binary: Path, ends: ExitStack) -> None:
        self.folder = folder
        options = EtcdOptions(extra=fsync_flags(etcd_binary))
        self.etcd, self.quiet_etcd = (
            EtcdProcess(etcd_binary, folder / name, options=options).start() for name in ("etcd", "quiet-etcd")
        )
        ends.callback(self.etcd.kill)
        ends.callback(self.quiet_etcd.kill)
        self.plain = Server(folder / "plain")
        self.shell = Shells(folder / "shell")
        self.python = Server(folder / "python")
        self.python.hook("update", f"#!{sys.executable} -IS\n")
        self.foreground = Mirrored(folder / "foreground", background=False)
        self.background = Mirrored(folder / "background", background=True)
        self.alone = Site(folder / "alone", "without", self.quiet_etcd.endpoint)
        self.single = Site(folder / "single", "single", self.quiet_etcd.endpoint)
        self.home, *self.others = (Site(folder / name, "with", self.etcd.endpoint) for name in ("home", "b", "c"))
        for site in (self.home, *self.others, self.single):
            site.start_controller(ends)
        for server in self.pushed_to:
            server.begin()

    @property
    def pushed_to(self) -> tuple[Server, ...]:
        return (
            self.plain, self.shell, self.python, self.foreground, self.background, self.alone, self.single, self.home,
        )  # fmt: skip


def _await_end(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Wait for the end of a process, to the moment: ``Popen.wait`` with a timeout looks only every 50 ms.

    :raises subprocess.TimeoutExpired: it was too slow, and its process group has been killed
    """
    watched = os.pidfd_open(process.pid)
    try:
        ended = bool(select.select([watched], [], [], timeout)[0])
    finally:
        os.close(watched)
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not ended:
        raise subprocess.TimeoutExpired(process.args, timeout)


def fsync_flags(etcd_binary: Path) -> list[str]:
    """The tests' members do not fsync where they need not; a measured one does, as a real one."""
    known = subprocess.run([etcd_binary, "--help"], capture_output=True, text=True, check=False)
    return ["--unsafe-no-fsync=false"] if "--unsafe-no-fsync" in known.stdout + known.stderr else []


def arrival(servers: list[Server] | list[Site], oid: str, since: float) -> float:
    """Wait until all servers show the oid; the seconds since ``since`` on the monotonic clock, not below 0."""
    while not all(server.shows(oid) for server in servers):
        assert time.monotonic() - since < PATIENCE, "the other sites never had it"
        time.sleep(LOOK_EVERY)
    return time.monotonic() - since


def _commit(branch: str, base: str) -> str:
    text = f"{time.time_ns()}\n"
    lines = [f"commit {branch}", "committer A Pusher <pusher@example.org> 1700000000 +0000", "data 9", "one more\n"]
    if base:
        lines.append(f"from {base}")
    return "\n".join([*lines, "M 100644 inline file.txt", f"data {len(text)}", text, ""])
