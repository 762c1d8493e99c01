"""A group of sites on this machine, its keys in etcd, and what its users and administrators do."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from tests.support import git
from tests.support.assertions import Pushed, accepted, arrives
from tests.support.command_line import Answer, piehole, piehole_in_process
from tests.support.etcd import EtcdProcess
from tests.support.etcd_raw import Change, RawEtcd
from tests.support.git import MAIN
from tests.support.hook_socket import serving
from tests.support.pushes import catching_up
from tests.support.sites import Site
from tests.support.wait import PATIENCE, until

_LINES = 25  # of a controller's log, in the report of a test that has failed
_WIDTH = 600  # of each line


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
        self.work = folder / "work"
        self._made = 0
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def runtime(self) -> Path:
        """Where the controllers' sockets are; short, since a socket's path has at most 107 bytes."""
        made = Path(tempfile.mkdtemp(prefix="ph-"))
        made.chmod(0o755)  # as systemd makes it: pushers have accounts of their own
        return made

    @cached_property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "RUNTIME_DIRECTORY": str(self.runtime)}

    # ---- the sites

    def add(self, name: str, *, url: str = "", root: Path | None = None) -> Site:
        """One more site, neither built nor started."""
        site = Site(self, name, url, root)
        self.sites.append(site)
        return site

    def __getitem__(self, which: int | str) -> Site:
        """By number, or by name: a site that is not there yet is added, neither built nor started."""
        if isinstance(which, int):
            return self.sites[which]
        return next((site for site in self.sites if site.name == which), None) or self.add(which)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def end(self) -> None:
        for site in self.sites:
            site.end()
        wrong = {one for site in self.sites for one in site.log_problems()}
        if "runtime" in vars(self):
            shutil.rmtree(self.runtime, ignore_errors=True)
        assert not wrong, f"logged otherwise than controller/events.py says: {sorted(wrong)}"

    def fresh(self, name: str) -> Path:
        """A path that nothing has had yet."""
        self._made += 1
        return self.folder / "clones" / f"{name}-{self._made}"

    def start(self) -> Group:
        """Start all controllers, and wait for them."""
        for site in self.sites:
            site.launch()
        for site in self.sites:
            site.wait_served()
        return self

    def install(self, *names: str) -> Group:
        """Make what is missing of these sites, and install them."""
        for name in names:
            site = self[name]
            if not site.repository.exists():
                site.make()
            site.install()
        return self

    def piehole(self, *arguments: str, check: bool = True) -> Answer:
        """The command line, as an administrator has it."""
        return piehole(*arguments, env=self.environment, check=check)

    def reconcile(self, *sites: str | Path) -> Answer:
        """``piehole reconcile --once`` of these sites or repositories, in this process."""
        repositories = (self[site].repository if isinstance(site, str) else site for site in sites)
        return piehole_in_process("reconcile", "--once", *repositories)

    # ---- users

    def clone(self, url: Path | str, name: str = "clone") -> Path:
        """A user's clone."""
        return git.clone(url, self.fresh(name))

    def founded(self, name: str = "a") -> tuple[Path, Path, str]:
        """A new site, a clone of it, and the first commit, which both and the group have."""
        site = self[name].build()
        work = site.clone()
        first = git.commit(work, "first")
        accepted(git.push(work, site.repository, "HEAD:main"))
        return site.repository, work, first

    def begun(self, *more: str) -> tuple[Path, str]:
        """A clone of the first site, and the first commit, which every site has on main (and on ``more``)."""
        work = self.clone(self[0].repository)
        first = git.commit(work, "first")
        accepted(git.push(work, self[0].repository, "HEAD:main", *(f"HEAD:{name}" for name in more)))
        for site in self:
            until(lambda site=site: site.at() == first or not site.running, PATIENCE, f"{site} has the first commit")  # type: ignore[misc]
        return work, first

    def commit(self, message: str = "a change", *, onto: str = "") -> str:
        """A new commit in :attr:`work`, the repository of the user whom the tests with one user have."""
        if not self.work.exists():
            # Not a clone: git 2.39 takes an empty sha256 repository for one of sha1.
            git.git(self.folder, "init", "-q", f"--object-format={self.object_format}", "-b", "main", str(self.work))
        if onto:
            git.git(self.work, "reset", "-q", "--hard", onto)
        return git.commit(self.work, message)

    def push(self, site: str, *refspecs: str) -> Pushed:
        """Push from :attr:`work`; it must be accepted."""
        return accepted(git.push(self.work, self[site].repository, *(refspecs or ("HEAD:main",))))

    # ---- the consensus

    def key(self, name: str) -> str:
        """The key of a ref, of ``HEAD``, ``@push`` or ``@fence``."""
        return f"{self.prefix}/ref/{self.name}/{name}"

    def value(self, ref: str = MAIN) -> str | None:
        return self.etcd.get(self.key(ref))

    def put(self, ref: str, value: str) -> int:
        """An administrator's `etcdctl put`."""
        return self.etcd.put(self.key(ref), value)

    def values(self) -> dict[str, str]:
        """All of the group's keys that are named as refs are, by name."""
        start = self.key("")
        return {key[len(start) :]: value for key, value in self.etcd.get_prefix(start).items()}

    def refs(self) -> dict[str, str]:
        """The values of all refs, the tombstones included."""
        return {name: value for name, value in self.values().items() if name.startswith("refs/")}

    def changes(self, ref: str = MAIN) -> list[Change]:
        return self.etcd.history(self.key(ref))

    def history(self, ref: str = MAIN) -> list[str | None]:
        """Every value that the key has had."""
        return [change.value for change in self.changes(ref)]

    def pushes(self) -> dict[int, dict[str, str]]:
        """Every push record by its revision."""
        return {change.revision: json.loads(change.value or "{}") for change in self.changes("@push")}

    # ---- waiting

    def arrives(self, ref: str, oid: str, sites: Iterable[Site] | None = None, *, timeout: float = 20.0) -> None:
        """Wait until these sites (all) have the ref at the oid; ``""``: until it is gone."""
        arrives(self.sites if sites is None else sites, ref, oid, timeout)

    def in_step(self, sites: Iterable[Site] | None = None, *, timeout: float = 20.0) -> dict[str, str]:
        """Wait until these sites (all) show exactly the live refs of the consensus; returns them."""

        def wanted() -> dict[str, str]:
            return {name: value.strip() for name, value in self.refs().items() if value.strip().strip("0")}

        for site in self.sites if sites is None else sites:
            try:
                until(lambda site=site: site.refs() == wanted(), timeout, f"{site.name} is in step")  # type: ignore[misc]
            except AssertionError as error:
                differ = sorted(site.refs().items() ^ wanted().items())
                raise AssertionError(f"{error}: here or in etcd alone are {differ}") from None
        return wanted()

    def published(self, ref: str = MAIN) -> None:
        """Wait until every site has published that it has this ref's newest value."""
        newest = self.etcd.look(self.key(ref))
        assert newest is not None
        for site in self:
            until(lambda site=site: site.progress() >= newest.mod_revision, PATIENCE, f"{site} has published {ref}")  # type: ignore[misc]

    @contextmanager
    def unchanged(self, *repositories: Path) -> Iterator[None]:
        """The block must write no ref and no push record of the group, and move no ref of these repositories."""

        def state() -> object:
            return self.etcd.look_prefix(self.key("")), [git.refs(repository) for repository in repositories]

        before = state()
        yield
        assert state() == before

    @contextmanager
    def answering(self, *names: str) -> Iterator[None]:
        """Inside this a controller answers at these sites (all) that replicates nothing: what is to be done there stays to be done."""
        with ExitStack() as served:
            for site in [self[name] for name in names] or self.sites:
                served.enter_context(serving(site.repository))
            yield

    # ---- faults

    @contextmanager
    def git_that(self, folder: Path, command: str, script: str) -> Iterator[Path]:
        """Controllers that are started inside this run ``script`` where they would run ``git COMMAND``; ``$git`` is the real one.

        Yields a file that the script may make to show that it ran.
        """
        real = shutil.which("git")
        folder.mkdir()
        wrapper = folder / "git"
        seen = folder / "seen"
        wrapper.write_text(
            f'#!/bin/sh\ngit={real}\nseen={seen}\ncase " $* " in *" {command} "*)\n{script}\n;;\nesac\nexec "$git" "$@"\n'
        )
        wrapper.chmod(0o755)
        before = self.environment
        self.environment = {**before, "PATH": f"{folder}:{before['PATH']}"}
        try:
            yield seen
        finally:
            self.environment = before


class MakeGroup:
    """Makes groups in a folder of a test; they end with it."""

    def __init__(self, etcd: EtcdProcess, prefix: str, folder: Path) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._folder = folder
        self.made: list[Group] = []

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
        where = endpoints or ((etcd or self._etcd).endpoint,)
        folder = self._folder / f"group{len(self.made) + 1}"
        group = Group(folder, where, self._prefix, name=name, settings=settings, object_format=object_format)
        self.made.append(group)
        for number in range(size):
            site = group.add(chr(ord("a") + number))
            if url is not None:
                site.url = url(site.repository)
            site.build()
        return group.start() if started else group

    def end(self) -> None:
        for group in self.made:
            group.end()


def last_words(fixtures: Iterable[object]) -> Iterator[tuple[str, str]]:
    """What the controllers of these groups logged last, by controller: for the report of a test that has failed."""
    for fixture in fixtures:
        groups = fixture.made if isinstance(fixture, MakeGroup) else [fixture] if isinstance(fixture, Group) else []
        for site in (site for group in groups for site in group):
            if site.controller is not None:
                lines = (line[:_WIDTH] for line in site.controller.tail(_LINES).splitlines())
                yield f"the controller of {site.group.name}/{site}", "\n".join(lines)


@pytest.fixture
def make_group(etcd: EtcdProcess, prefix: str, tmp_path: Path) -> Iterator[MakeGroup]:
    """``make_group(3)`` gives three sites with controllers, on the shared etcd."""
    make = MakeGroup(etcd, prefix, tmp_path)
    try:
        yield make
    finally:
        make.end()


@pytest.fixture
def world(make_group: MakeGroup) -> Iterator[Group]:
    """A group whose sites have no controller; what a refused push started to catch up must end with the test."""
    group = make_group(0)
    yield group
    for site in group:
        until(lambda site=site: not catching_up(site.repository), 30, f"nothing catches up at {site} any more")  # type: ignore[misc]
