"""Sites without a controller and the people who push to them: real git, real etcd, real hooks."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from piehole.commands.install import Installer, InstallRequest
from piehole.group.replica import Replica
from piehole.replicate.once import reconcile_once
from piehole.replicate.reconcile import Report
from tests.support import forked, git
from tests.support.etcd_raw import Change, RawEtcd
from tests.support.git import ZERO_SHA1
from tests.support.wait import until

ZERO = ZERO_SHA1
MAIN = "refs/heads/main"
GROUP = "g"
Pushed = subprocess.CompletedProcess[str]


class World:
    """Everything of one test: one group below one prefix of etcd, its sites, and clones."""

    def __init__(self, folder: Path, endpoint: str, prefix: str) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.prefix = prefix
        self.etcd = RawEtcd(endpoint)
        self.sites: dict[str, Path] = {}
        self._clones = 0

    # ---- sites

    def site(
        self,
        name: str = "a",
        *,
        endpoints: Sequence[str] = (),
        adopt: tuple[str, ...] | None = None,
        settings: Mapping[str, str] | None = None,
        repository: Path | None = None,
    ) -> Path:
        """Install a site; its repository is empty unless one is given."""
        path = repository or git.make_bare(self.folder / f"{name}.git")
        wanted = {
            "piehole.allowProtocol": "file",
            "piehole.hookTimeout": "8",
            "piehole.catchUp": "5",
            **(settings or {}),
        }
        for setting, value in wanted.items():
            git.git(path, "config", setting, value)
        overrides: dict[str, str | Sequence[str]] = {
            "group": GROUP,
            "site": name,
            "url": str(path),
            "etcd": [*(endpoints or (self.endpoint,))],
            "prefix": self.prefix,
        }
        Installer(InstallRequest(path, overrides, adopt=adopt, pusher="the installer"), lambda _: None).run()
        self.sites[name] = path
        return path

    def reconcile(self, site: Path) -> Report:
        """What `piehole reconcile --once` does."""
        return reconcile_once(Replica.open(site))

    def end(self) -> None:
        """Wait for every process that a refused push started to catch up."""
        for site in self.sites.values():
            until(lambda site=site: not catching_up(site), 30, f"nothing catches up at {site} any more")  # type: ignore[misc]

    # ---- people

    def user(self, site: Path) -> Path:
        """Somebody's clone of a site."""
        self._clones += 1
        return git.clone(site, self.folder / f"clone-{self._clones}")

    def founded(self, name: str = "a") -> tuple[Path, Path, str]:
        """A site, a clone of it, and the first commit, which both and the group have."""
        site = self.site(name)
        work = self.user(site)
        first = git.commit(work, "first")
        accepted(git.push(work, site, "HEAD:main"))
        return site, work, first

    # ---- the consensus

    def key(self, name: str) -> str:
        return f"{self.prefix}/ref/{GROUP}/{name}"

    def value(self, ref: str = MAIN) -> str | None:
        return self.etcd.get(self.key(ref))

    def values(self) -> dict[str, str]:
        """All of the group's keys, by name."""
        start = self.key("")
        return {key[len(start) :]: value for key, value in self.etcd.get_prefix(start).items()}

    def refs(self) -> dict[str, str]:
        return {name: value for name, value in self.values().items() if name.startswith("refs/")}

    def history(self, name: str = MAIN) -> list[str | None]:
        """Every value that a key has had."""
        return [change.value for change in self.changes(name)]

    def changes(self, name: str = MAIN) -> list[Change]:
        return self.etcd.history(self.key(name))

    def pushes(self) -> dict[int, dict[str, str]]:
        """Every push record by its revision."""
        return {change.revision: json.loads(change.value or "{}") for change in self.changes("@push")}


def catching_up(site: Path) -> bool:
    """Whether a process that a hook started is at work here."""
    lock = site / "piehole" / "catching-up.lock"
    if not lock.exists():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def accepted(pushed: Pushed) -> Pushed:
    assert pushed.returncode == 0, pushed.stderr
    return pushed


def refused(pushed: Pushed, token: str) -> str:
    """The sentence of a refusal that begins with this token."""
    assert pushed.returncode != 0, f"the push was accepted: {pushed.stderr}"
    # What `update` says comes over the sideband; what `reference-transaction` says comes beside it, where there is a way.
    lines = [line.removeprefix("remote: ") for line in pushed.stderr.splitlines()]
    said = [line for line in lines if line.startswith(f"piehole: {token}: ")]
    assert said, pushed.stderr
    return said[0].removeprefix(f"piehole: {token}: ").rstrip()


def records(site: Path) -> list[Path]:
    """The in-flight records."""
    return sorted((site / "piehole" / "inflight").iterdir())


def receive_pack(site: Path) -> int:
    """The pid of the one receive-pack that has announced something here; waits for it."""
    names = until(lambda: [path.name for path in records(site)], 20, "a receive-pack has announced a ref")
    assert len(names) == 1, names
    return int(names[0].split(".")[2])


def start_push(work: Path, site: Path, *refspecs: str) -> subprocess.Popen[str]:
    """A push that runs beside the test, in a process group of its own."""
    return subprocess.Popen(
        ["git", "push", str(site), *refspecs],
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(push: subprocess.Popen[str], timeout: float = 40) -> Pushed:
    out, err = push.communicate(timeout=timeout)
    return subprocess.CompletedProcess(push.args, push.returncode, out, err)


def piehole(*arguments: str, check: bool = True) -> Pushed:
    """The command line."""
    done = forked.run(*arguments)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def write_hook(site: Path, name: str, script: str) -> Path:
    """Write an executable file into the repository's hooks."""
    path = site / "hooks" / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def chain(site: Path, hook: str, script: str) -> None:
    """Put somebody's wrapper around piehole's hook; ``$piehole`` in the script is the wrapped one."""
    own = site / "hooks" / hook
    own.rename(own.with_name(f"{hook}.piehole"))
    write_hook(site, hook, f'#!/bin/sh\npiehole="$(dirname "$0")/{hook}.piehole"\n{script}\n')


def kill(pid: int, number: int = 9) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
