"""Sites that are brought along by ``piehole reconcile --once`` alone, run in this process as the command line runs it."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from piehole.cli.parser import run
from piehole.commands.install import Installer, InstallRequest
from piehole.group.replica import Replica
from tests.support.etcd_raw import RawEtcd
from tests.support.git import clone, commit, git, make_bare, push, refs, rev_parse

MAIN = "refs/heads/main"
KEPT = "refs/piehole/kept/"
ZERO = "0" * 40


class Answer:
    """How a command ended, and what it said."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


def piehole(*arguments: str | Path) -> Answer:
    """Run ``piehole ARGUMENTS``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(argument) for argument in arguments])
    return Answer(status, out.getvalue(), err.getvalue())


class Bed:
    """One group below one prefix of etcd, its sites, and a user's clone ``work``."""

    def __init__(self, folder: Path, endpoint: str, prefix: str, *, object_format: str = "sha1") -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.prefix = prefix
        self.object_format = object_format
        self.etcd = RawEtcd(endpoint)
        self.work = folder / "work"

    def path(self, site: str) -> Path:
        return self.folder / f"{site}.git"

    def bare(self, site: str) -> Path:
        """A repository for a site, not installed yet."""
        path = make_bare(self.path(site), self.object_format)
        git(path, "config", "piehole.allowProtocol", "file")
        return path

    def install(self, *sites: str, url: str = "") -> None:
        """Make what is missing, and install it."""
        for site in sites:
            if not self.path(site).exists():
                self.bare(site)
            overrides: dict[str, str | Sequence[str]] = {
                "group": "g",
                "site": site,
                "url": url or str(self.path(site)),
                "etcd": [self.endpoint],
                "prefix": self.prefix,
            }
            Installer(InstallRequest(self.path(site), overrides), lambda _: None).run()

    def replica(self, site: str) -> Replica:
        return Replica.open(self.path(site))

    def reconcile(self, *sites: str) -> Answer:
        return piehole("reconcile", "--once", *(self.path(site) for site in sites))

    # ---- the user

    def commit(self, message: str = "a change", *, onto: str = "") -> str:
        if not self.work.exists():
            git(self.folder, "init", "-q", f"--object-format={self.object_format}", "-b", "main", str(self.work))
        if onto:
            git(self.work, "reset", "-q", "--hard", onto)
        return commit(self.work, message)

    def push(self, site: str, *refspecs: str) -> subprocess.CompletedProcess[str]:
        done = push(self.work, self.path(site), *(refspecs or ("HEAD:main",)))
        assert done.returncode == 0, done.stderr
        return done

    def clone(self, site: str) -> None:
        clone(self.path(site), self.work)

    # ---- what there is

    def key(self, ref: str) -> str:
        return f"{self.prefix}/ref/g/{ref}"

    def value(self, ref: str = MAIN) -> str | None:
        return self.etcd.get(self.key(ref))

    def put(self, ref: str, value: str) -> int:
        """An administrator's ``etcdctl put``."""
        return self.etcd.put(self.key(ref), value)

    def at(self, site: str, ref: str = MAIN) -> str:
        """The oid of a ref, ``""`` where there is none."""
        return git(self.path(site), "rev-parse", "--verify", "--quiet", ref, check=False).stdout.strip()

    def refs(self, site: str) -> dict[str, str]:
        return {name: oid for name, oid in refs(self.path(site)).items() if not name.startswith("refs/piehole/")}

    def kept(self, site: str) -> set[str]:
        return {oid for name, oid in refs(self.path(site)).items() if name.startswith(KEPT)}

    def head(self, site: str) -> str:
        return git(self.path(site), "symbolic-ref", "HEAD").stdout.strip()

    def move(self, site: str, ref: str, oid: str) -> None:
        """An administrator's ``git update-ref``, past the hooks."""
        git(self.path(site), "update-ref", *(("-d", ref) if not oid else (ref, oid)))

    def tip(self, site: str) -> str:
        return rev_parse(self.path(site), MAIN)

    def complete(self, site: str) -> bool:
        return git(self.path(site), "fsck", "--full", "--no-dangling", check=False).returncode == 0
