"""Two or three sites on this machine that look to a page as the servers oslo, lima and kyoto, and a laptop: for the pages of docs/trouble.

A page says `/srv/git/project.git`, and URLs with the servers' names. Here each site has a folder, so these words are replaced.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from piehole.fastpath.hook_messages import ADMINISTRATORS
from tests.guide.markdown import fences, lines_match
from tests.guide.runner import Page, Place
from tests.support import git
from tests.support.assertions import refused
from tests.support.command_line import start_piehole
from tests.support.etcd import EtcdProcess, find_etcdctl
from tests.support.git import MAIN
from tests.support.groups import Group
from tests.support.process import ManagedProcess
from tests.support.sites import Site

PREFIX = "/piehole"
SECOND = "piehole-controller-2"
ALICE = {"REMOTE_USER": "alice"}
_SETTINGS = {"piehole.hookTimeout": "3", "piehole.catchUp": "3", "piehole.copiesTimeout": "1"}


class TroubleBed:
    """``group["oslo"]``, ``group["lima"]``: their controllers run. ``work``: alice's clone of oslo, with one commit that every site has."""

    def __init__(self, etcd: EtcdProcess) -> None:
        self.etcd = etcd
        self.folder = Path(tempfile.mkdtemp(prefix="ph-", dir="/tmp"))  # short: it stands where /srv/git would
        self.group = Group(self.folder, [etcd.endpoint], PREFIX, name="project", settings=_SETTINGS)
        self.said: list[str] = []
        self.second: ManagedProcess | None = None
        self._bin = self.folder / "bin"
        self._asked, self._answer = self.folder / "asked", self.folder / "answer"
        self._make_tools()

    # ---- the servers

    def sites(self, *names: str, endpoints: Sequence[str] = ()) -> list[Site]:
        """Install these sites, with running controllers and a first commit. With ``endpoints`` there are none."""
        sites = [self.group.add(name).build(endpoints=endpoints) for name in names]
        if not endpoints:
            self.group.start()
        self.work = sites[0].clone("alice")
        self.push("first", published=not endpoints)
        return sites

    def push(self, message: str = "from alice", *, ref: str = MAIN, published: bool = False) -> str:
        """Alice pushes a new commit. ``published``: every site has published that it has it."""
        oid = git.commit(self.work, message)
        git.git(self.work, "push", "--quiet", "origin", f"HEAD:{ref}", env=ALICE)
        if published:
            self.group.published(ref)
        return oid

    def refuse(self, token: str, *refspecs: str) -> str:
        """Alice pushes, and is refused; returns the sentence."""
        pushed = git.push(self.work, "origin", *(refspecs or ("HEAD:main",)), env=ALICE)
        self.said += [line.rstrip() for line in pushed.stderr.splitlines()]
        sentence = refused(pushed, token)
        assert sentence.endswith(f" (piehole explain {token})") == (token in ADMINISTRATORS)
        return sentence

    def bob(self, site: Site, file: str = "bob.txt") -> str:
        """Bob pushes a commit to main by way of this site."""
        work = site.clone("bob")
        oid = git.commit(work, "from bob", file=file)
        git.git(work, "push", "--quiet", "origin", "HEAD:main", env={"REMOTE_USER": "bob"})
        return oid

    def start_second(self, site: Site) -> None:
        """A second controller that finds the repository of this site."""
        arguments = ["controller", "--root", str(self.folder), "--log-format", "json"]
        self.second = start_piehole(arguments, self.folder / f"{site.name}-2.log", self.group.environment)

    # ---- the page

    def read(self, page: Page) -> None:
        """Run all of the page, whose messages must be what was printed before."""
        for fence in fences(page.path):
            for line in fence.lines if fence.language == "text" else ():
                assert any(lines_match([line], [one]) for one in self.said), f"{line}\nis not in\n{self.said}"
        places = {
            f"{account}@{site.name}{sign}": self._server(site) for site in self.group for account, sign in _ACCOUNTS
        }
        page.run({**places, "alice@laptop$": self._laptop()}, seconds=30)

    def _server(self, site: Site) -> Place:
        own = f"{site.root}/"
        others = {self._url(one): f"{one.root}/" for one in self.group if one is not site}
        endpoints = {f"https://{site.name}.example.org:2379": self.etcd.endpoint}
        words = {**others, **endpoints, "/srv/git/": own, self._url(site).removesuffix("/srv/git/") + own: own}
        return Place(env=self._environment(site.name), replaced=words)

    def _laptop(self) -> Place:
        words = {self._url(one): f"{one.root}/" for one in self.group}
        return Place(env={**self._environment("laptop"), **ALICE}, cwd=self.work, replaced=words)

    def _url(self, site: Site) -> str:
        return f"ssh://git@{site.name}.example.org/srv/git/"

    def _environment(self, place: str) -> Mapping[str, str]:
        path = f"{self._bin}:{os.environ['PATH']}"
        etcdctl = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.etcd.endpoint}
        return {**self.group.environment, **etcdctl, "PATH": path, "PLACE": place}

    # ---- the tools of a server

    def _make_tools(self) -> None:
        os.mkfifo(self._asked)
        os.mkfifo(self._answer)
        self._tool("piehole", f'exec {sys.executable} -m piehole.cli "$@"')
        self._tool("systemctl", f'echo "$PLACE $*" > {self._asked}; read answer < {self._answer}; [ "$answer" = done ]')
        self._tool("journalctl", f'case "$*" in *{SECOND}*) log=-2 ;; esac\ncat {self.folder}/$PLACE$log.log')
        etcdctl = find_etcdctl(self.etcd.binary)
        if etcdctl:
            (self._bin / "etcdctl").symlink_to(etcdctl)
        threading.Thread(target=self._serve, daemon=True).start()

    def _tool(self, name: str, script: str) -> None:
        path = self._bin / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def _serve(self) -> None:
        """What systemd does for systemctl."""
        while words := self._asked.read_text().split():
            place, verb, unit = words
            try:
                self._systemctl(self.group[place], verb, unit)
            except Exception as error:  # noqa: BLE001 -- it is the answer
                self._answer.write_text(f"{error}\n")
            else:
                self._answer.write_text("done\n")

    def _systemctl(self, site: Site, verb: str, unit: str) -> None:
        if unit == "etcd":
            self.etcd.start()
            return
        if unit == SECOND:
            assert self.second is not None
            self.second.end()
            return
        if verb in ("stop", "restart"):
            site.kill()
        if verb in ("start", "restart"):
            site.start()

    def end(self) -> None:
        self._asked.write_text("")
        try:
            self.group.end()
        finally:
            if self.second is not None:
                self.second.end()
            shutil.rmtree(self.folder, ignore_errors=True)


_ACCOUNTS = (("git", "$"), ("root", "#"))


@pytest.fixture(scope="session")
def page_etcd(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    """An etcd where the group may have the prefix that pages show."""
    member = EtcdProcess(etcd_binary, tmp_path_factory.mktemp("etcd")).start()
    yield member
    member.kill()


@pytest.fixture
def bed(page_etcd: EtcdProcess, git_env: object) -> Iterator[TroubleBed]:
    if not page_etcd.alive:
        page_etcd.start()
    if page_etcd.raw.delete_prefix(f"{PREFIX}/"):
        page_etcd.raw.compact(page_etcd.raw.revision())  # `piehole log` reads the history
    bed = TroubleBed(page_etcd)
    try:
        yield bed
    finally:
        bed.end()
