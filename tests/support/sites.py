"""One site on this machine: its root, its repository, and a controller that can be stopped in every way."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.events import problems
from piehole.commands.install import Installer, InstallRequest
from piehole.group.replica import Replica
from tests.support import git
from tests.support.command_line import Answer, piehole, start_piehole
from tests.support.git import MAIN
from tests.support.process import ManagedProcess
from tests.support.wait import PATIENCE, until

if TYPE_CHECKING:
    from tests.support.groups import Group

KEPT = "refs/piehole/kept/"
_SETTINGS = {"piehole.hookTimeout": "8", "piehole.catchUp": "5"}
_STARTED = 30.0


class Site:
    """One site: a repository below a root of its own, and at most one controller at a time."""

    def __init__(self, group: Group, name: str, url: str = "", root: Path | None = None) -> None:
        self.group = group
        self.name = name
        self.root = root or group.folder / name
        self.repository = self.root / "project.git"
        self.url = url or str(self.repository)
        self.log = group.folder / f"{name}.log"
        self.controller: ManagedProcess | None = None

    def __str__(self) -> str:
        return self.name

    # ---- the repository

    def make(self, settings: Mapping[str, str] | None = None) -> Site:
        """Make the repository where there is none, and configure it; it is not installed yet."""
        if not self.repository.exists():
            git.make_bare(self.repository, self.group.object_format)
        for name, value in {**_SETTINGS, **self.group.settings, **(settings or {})}.items():
            git.git(self.repository, "config", name, value)
        for protocol in ("file", "git", "http", "ssh"):
            git.git(self.repository, "config", "--add", "piehole.allowProtocol", protocol)
        return self

    def build(
        self,
        *,
        adopt: tuple[str, ...] | None = None,
        settings: Mapping[str, str] | None = None,
        endpoints: Sequence[str] = (),
        replace: bool = False,
    ) -> Site:
        """Make the repository where there is none, and install it.

        :param endpoints: of etcd, if not those of the group
        """
        self.make(settings)
        self.install(adopt=adopt, endpoints=endpoints, replace=replace)
        return self

    def install(
        self, *, adopt: tuple[str, ...] | None = None, endpoints: Sequence[str] = (), replace: bool = False
    ) -> None:
        """What `piehole install` does; `piehole install` itself has its own tests."""
        overrides: dict[str, str | Sequence[str]] = {
            "group": self.group.name,
            "site": self.name,
            "url": self.url,
            "etcd": list(endpoints or self.group.endpoints),
            "prefix": self.group.prefix,
        }
        request = InstallRequest(self.repository, overrides, adopt=adopt, replace=replace, pusher="the installer")
        Installer(request, lambda _: None).run()

    def replica(self) -> Replica:
        return Replica.open(self.repository)

    def refs(self) -> dict[str, str]:
        """The refs that users see."""
        return {name: oid for name, oid in git.refs(self.repository).items() if not name.startswith("refs/piehole/")}

    def kept(self) -> set[str]:
        """The tips below refs/piehole/kept/."""
        return {oid for name, oid in git.refs(self.repository).items() if name.startswith(KEPT)}

    def at(self, ref: str = MAIN) -> str:
        """The oid of one ref, ``""`` where there is none."""
        return git.git(self.repository, "rev-parse", "--verify", "--quiet", ref, check=False).stdout.strip()

    def move(self, ref: str, oid: str) -> None:
        """An administrator's `git update-ref`, past the hooks' decision; ``""`` deletes."""
        git.git(self.repository, "update-ref", *((ref, oid) if oid else ("-d", ref)))

    def head(self) -> str:
        """The branch that HEAD names."""
        return git.git(self.repository, "symbolic-ref", "HEAD").stdout.strip()

    def fsck(self) -> None:
        git.git(self.repository, "fsck", "--full", "--strict", "--no-dangling")

    def clone(self, name: str = "") -> Path:
        """A user's clone of this site."""
        return self.group.clone(self.url, name or f"clone-of-{self}")

    # ---- the command line

    def piehole(self, *arguments: str, check: bool = True) -> Answer:
        """``piehole COMMAND … `` for this repository (``-C`` is added after the command)."""
        command, *rest = arguments
        return piehole(command, "-C", self.repository, *rest, env=self.environment, check=check)

    def offered(self, message: str) -> None:
        """Run the first command that a message offers in backquotes, as the administrator of this site does in its repository."""
        command = re.findall(r"`([^`]+)`", message)[0].replace("piehole clobber", "piehole clobber --yes")
        path = f"{Path(sys.executable).parent}:{self.environment['PATH']}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.repository,
            env={**self.environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    # ---- the controller

    @property
    def environment(self) -> dict[str, str]:
        """That of the controller and of what is run by hand here."""
        return self.group.environment

    def launch(self, *options: str) -> Site:
        """Start the controller without waiting for anything."""
        if self.controller is not None and self.controller.alive:
            raise RuntimeError(f"the controller of {self.name} is running already")
        (self.repository / "piehole" / "controller").unlink(missing_ok=True)
        arguments = ["controller", "--root", str(self.root), "--log-format", "json", *options]
        self.controller = start_piehole(arguments, self.log, self.environment)
        return self

    def start(self, *options: str) -> Site:
        """Start the controller and wait until it serves the repository."""
        self.launch(*options)
        self.wait_served()
        return self

    @property
    def is_served(self) -> bool:
        return (self.repository / "piehole" / "controller").exists()

    def wait_served(self) -> None:
        def served() -> bool:
            assert self.running, f"the controller of {self.name} ended:\n{self.log_text()}"
            return self.is_served

        until(served, _STARTED, f"the controller of {self.name} serves its repository")

    @property
    def running(self) -> bool:
        return self.controller is not None and self.controller.alive

    def signal(self, number: signal.Signals) -> None:
        assert self.controller is not None
        self.controller.signal(number)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.controller is not None
        self.controller.signal(signal.SIGTERM)
        return self.controller.wait(30)

    def kill(self) -> None:
        """kill -9."""
        if self.controller is not None:
            self.controller.end()

    def pause(self) -> None:
        """SIGSTOP: it hangs, and nobody is told."""
        assert self.controller is not None
        self.controller.pause()

    def resume(self) -> None:
        assert self.controller is not None
        self.controller.resume()

    def end(self) -> None:
        if self.controller is not None:
            self.controller.resume()
            self.controller.end()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What the controller has logged, in order; of one event name only, where that is given."""
        found = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        return [one for one in found if not name or one.get("event") == name]

    def log_problems(self) -> list[str]:
        """What its controller has logged otherwise than the list of events says."""
        return [f"{self.name}: {one}" for line in self.events() for one in problems(line)]

    def wait_event(self, name: str, timeout: float = 15.0, **fields: object) -> dict[str, Any]:
        """Wait until an event with these fields is in the log."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.events(name) if fields.items() <= one.items()), None)

        return until(found, timeout, f"{self.name} logs {name} {fields}")

    def stuck(self, ref: str, words: str = "") -> str:
        """Wait until the controller reports the ref as stuck; returns why."""

        def why() -> str:
            found = [event["stuck"][ref] for event in self.events("reconcile") if ref in event.get("stuck", {})]
            return next((one for one in found if words in one), "")

        return until(why, PATIENCE, f"{self.name} reports {ref} as stuck ({words})")

    # ---- what it has published in etcd

    def progress(self) -> int:
        """The revision of the published progress, -1 where there is none."""
        raw = self.group.etcd.get(f"{self.group.prefix}/progress/{self.group.name}/{self.name}")
        return int(json.loads(raw)["revision"]) if raw else -1
