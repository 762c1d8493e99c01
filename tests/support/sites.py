"""A group of sites on this machine: each with its root, its repository, and a controller that can be stopped in every way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from piehole.commands.install import Installer, InstallRequest
from tests.support import forked, git
from tests.support.etcd import EtcdProcess
from tests.support.etcd_raw import RawEtcd
from tests.support.forked import ManagedPiehole
from tests.support.process import ManagedProcess
from tests.support.wait import until

__all__ = ["MAIN", "Group", "MakeGroup", "Pushed", "Site", "accepted", "make_group", "refused"]

MAIN = "refs/heads/main"
Pushed = subprocess.CompletedProcess[str]
_SETTINGS = {"piehole.hookTimeout": "8", "piehole.catchUp": "5"}
_STARTED = 30.0


class Site:
    """One site: a repository below a root of its own, and at most one controller at a time."""

    def __init__(self, group: Group, name: str, url: str, root: Path | None = None) -> None:
        self.group = group
        self.name = name
        self.root = root or group.folder / name
        self.repository = self.root / "project.git"
        self.url = url or str(self.repository)
        self.log = group.folder / f"{name}.log"
        self.controller: ManagedProcess | None = None

    # ---- the repository

    def build(
        self,
        *,
        adopt: tuple[str, ...] | None = None,
        settings: Mapping[str, str] | None = None,
        replace: bool = False,
    ) -> Site:
        """Make the repository where there is none, and install it."""
        if not self.repository.exists():
            git.make_bare(self.repository, self.group.object_format)
        for name, value in {**_SETTINGS, **self.group.settings, **(settings or {})}.items():
            git.git(self.repository, "config", name, value)
        for protocol in ("file", "git", "http", "ssh"):
            git.git(self.repository, "config", "--add", "piehole.allowProtocol", protocol)
        self.install(adopt=adopt, replace=replace)
        return self

    def install(self, *, adopt: tuple[str, ...] | None = None, replace: bool = False) -> None:
        """What `piehole install` does; `piehole install` itself has its own tests."""
        overrides: dict[str, str | Sequence[str]] = {
            "group": self.group.name,
            "site": self.name,
            "url": self.url,
            "etcd": list(self.group.endpoints),
            "prefix": self.group.prefix,
        }
        request = InstallRequest(self.repository, overrides, adopt=adopt, replace=replace, pusher="the installer")
        Installer(request, lambda _: None).run()

    def refs(self) -> dict[str, str]:
        """The refs that users see."""
        return {name: oid for name, oid in git.refs(self.repository).items() if not name.startswith("refs/piehole/")}

    def kept(self) -> set[str]:
        """The tips below refs/piehole/kept/."""
        return {oid for name, oid in git.refs(self.repository).items() if name.startswith("refs/piehole/kept/")}

    def at(self, ref: str = MAIN) -> str:
        """The oid of one ref, ``""`` where there is none."""
        return git.git(self.repository, "rev-parse", "--verify", "--quiet", ref, check=False).stdout.strip()

    def move(self, ref: str, oid: str) -> None:
        """An administrator's `git update-ref`, past the hooks' decision."""
        git.git(self.repository, "update-ref", ref, oid)

    def fsck(self) -> None:
        git.git(self.repository, "fsck", "--full", "--strict", "--no-dangling")

    def clone(self, name: str = "") -> Path:
        """A user's clone of this site."""
        return git.clone(self.url, self.group.fresh(name or f"clone-of-{self.name}"))

    # ---- the command line

    def piehole(self, *arguments: str, check: bool = True) -> Pushed:
        """``piehole COMMAND … `` for this repository (``-C`` is added after the command)."""
        command, *rest = arguments
        return self.group.piehole(command, "-C", str(self.repository), *rest, check=check)

    # ---- the controller

    def launch(self, *options: str) -> Site:
        """Start the controller without waiting for anything."""
        if self.controller is not None and self.controller.alive:
            raise RuntimeError(f"the controller of {self.name} is running already")
        (self.repository / "piehole" / "controller").unlink(missing_ok=True)
        arguments = ["controller", "--root", str(self.root), "--log-format", "json", *options]
        self.controller = ManagedPiehole(arguments, self.log, env=self.group.environment)
        return self

    def start(self, *options: str) -> Site:
        """Start the controller and wait until it serves the repository."""
        self.launch(*options)
        self.wait_served()
        return self

    def wait_served(self) -> None:
        def served() -> bool:
            assert self.running, f"the controller of {self.name} ended:\n{self.log_text()}"
            return (self.repository / "piehole" / "controller").exists()

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

    def wait_event(self, name: str, timeout: float = 15.0, **fields: object) -> dict[str, Any]:
        """Wait until an event with these fields is in the log."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.events(name) if fields.items() <= one.items()), None)

        return until(found, timeout, f"{self.name} logs {name} {fields}")

    # ---- what it has told etcd

    def progress(self) -> int:
        """The revision of the published progress, -1 where there is none."""
        raw = self.group.etcd.get(f"{self.group.prefix}/progress/{self.group.name}/{self.name}")
        return int(json.loads(raw)["revision"]) if raw else -1


class Group:
    """The sites of one group below one prefix of etcd."""

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[str],
        prefix: str,
        *,
        name: str = "g",
        settings: Mapping[str, str] | None = None,
        object_format: str = "sha1",
    ) -> None:
        self.folder = folder
        self.endpoints = tuple(endpoints)
        self.prefix = prefix
        self.name = name
        self.settings = dict(settings or {})
        self.object_format = object_format
        self.etcd = RawEtcd(self.endpoints[0])
        self.sites: list[Site] = []
        # Short, since a socket's path has at most 107 bytes.
        self.runtime = Path(tempfile.mkdtemp(prefix="ph-"))
        self.runtime.chmod(0o755)  # as systemd makes it: pushers have accounts of their own
        self.environment = {**_inherited(), "RUNTIME_DIRECTORY": str(self.runtime)}
        self._made = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, *, url: str = "", root: Path | None = None) -> Site:
        """One more site, neither built nor started."""
        site = Site(self, name, url, root)
        self.sites.append(site)
        return site

    def __getitem__(self, number: int) -> Site:
        return self.sites[number]

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def end(self) -> None:
        for site in self.sites:
            site.end()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        self._made += 1
        return self.folder / "work" / f"{name}-{self._made}"

    def start(self) -> Group:
        """Start all controllers, and wait for them."""
        for site in self.sites:
            site.launch()
        for site in self.sites:
            site.wait_served()
        return self

    def piehole(self, *arguments: str, check: bool = True, timeout: float = 60.0) -> Pushed:
        """The command line, as an administrator has it."""
        done = forked.run(*arguments, env=self.environment, timeout=timeout)
        assert not check or done.returncode == 0, f"{arguments} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    # ---- the consensus

    def key(self, name: str) -> str:
        """The key of a ref, of ``HEAD``, ``@push`` or ``@fence``."""
        return f"{self.prefix}/ref/{self.name}/{name}"

    def value(self, ref: str = MAIN) -> str | None:
        return self.etcd.get(self.key(ref))

    def put(self, ref: str, value: str) -> int:
        """An administrator's `etcdctl put`."""
        return self.etcd.put(self.key(ref), value)

    def history(self, ref: str = MAIN) -> list[str | None]:
        """Every value that the key has had."""
        return [change.value for change in self.etcd.history(self.key(ref))]

    # ---- waiting

    def everywhere(self, ref: str, oid: str, sites: Iterable[Site] | None = None, *, timeout: float = 20.0) -> None:
        """Wait until these sites (all) have the ref at the oid; ``""``: until it is gone."""
        for site in self.sites if sites is None else sites:
            until(lambda site=site: site.at(ref) == oid, timeout, f"{ref} is at {oid[:12] or 'nothing'} at {site.name}")  # type: ignore[misc]

    def in_step(self, sites: Iterable[Site] | None = None, *, timeout: float = 20.0) -> dict[str, str]:
        """Wait until these sites (all) show exactly the live refs of the consensus; returns them."""
        start = self.key("")

        def wanted() -> dict[str, str]:
            found = {key[len(start) :]: value.strip() for key, value in self.etcd.get_prefix(start).items()}
            return {name: value for name, value in found.items() if name.startswith("refs/") and value.strip("0")}

        for site in self.sites if sites is None else sites:
            until(lambda site=site: site.refs() == wanted(), timeout, f"{site.name} is in step")  # type: ignore[misc]
        return wanted()


def _inherited() -> dict[str, str]:
    import os

    return dict(os.environ)


def accepted(pushed: Pushed) -> Pushed:
    assert pushed.returncode == 0, pushed.stderr
    return pushed


def refused(pushed: Pushed, token: str) -> str:
    """The sentence of a refusal that begins with this token."""
    assert pushed.returncode != 0, f"the push was accepted: {pushed.stderr}"
    lines = [line.removeprefix("remote: ") for line in pushed.stderr.splitlines()]
    said = [line for line in lines if line.startswith(f"piehole: {token}: ")]
    assert said, pushed.stderr
    return said[0].removeprefix(f"piehole: {token}: ").rstrip()


class MakeGroup(Protocol):
    def __call__(
        self,
        size: int = 3,
        *,
        started: bool = True,
        etcd: EtcdProcess | None = None,
        endpoints: Sequence[str] = (),
        url: Callable[[Path], str] | None = None,
        settings: Mapping[str, str] | None = None,
        object_format: str = "sha1",
        name: str = "g",
    ) -> Group:
        """``size`` installed sites named a, b, c, …, their controllers running where ``started``.

        :param url: a repository's URL for its peers and users, by its path (default: the path)
        """


@contextmanager
def groups(etcd: EtcdProcess, prefix: str, folder: Path) -> Iterator[MakeGroup]:
    """What makes groups, all ended at the end."""
    shared = etcd
    with ExitStack() as ends:
        made = 0

        def make(
            size: int = 3,
            *,
            started: bool = True,
            etcd: EtcdProcess | None = None,
            endpoints: Sequence[str] = (),
            url: Callable[[Path], str] | None = None,
            settings: Mapping[str, str] | None = None,
            object_format: str = "sha1",
            name: str = "g",
        ) -> Group:
            nonlocal made
            made += 1
            where = endpoints or ((etcd or shared).endpoint,)
            home = folder / f"group{made}"
            group = Group(home, where, prefix, name=name, settings=settings, object_format=object_format)
            ends.callback(group.end)
            for number in range(size):
                site = group.add(chr(ord("a") + number))
                if url is not None:
                    site.url = url(site.repository)
                site.build()
            return group.start() if started else group

        yield make


@pytest.fixture
def make_group(etcd: EtcdProcess, prefix: str, tmp_path: Path) -> Iterator[MakeGroup]:
    """``make_group(3)`` gives three sites with controllers, on the shared etcd."""
    with groups(etcd, prefix, tmp_path) as make:
        yield make
