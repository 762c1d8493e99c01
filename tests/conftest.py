"""Fixtures for everybody, and the rule about skips.

Tests run in several processes at once: nothing here or in a test may lie outside ``tmp_path`` or listen on a fixed
port. One etcd serves all tests of a process; each test has a ``prefix`` of its own. A test that kills or stops etcd,
or needs other flags, takes ``own_etcd``. Mark with ``etcd_versions`` what depends on etcd's own behaviour: it runs on
every etcd line that is supported, everything else on one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.assertions import accepted
from tests.support.etcd import EtcdCluster, EtcdOptions, EtcdProcess, find_etcds
from tests.support.etcd_tamper import Tamper, tampering
from tests.support.git import commit, git_environment, make_home, push
from tests.support.gitdaemon import GitDaemon
from tests.support.groups import Group, last_words, make_group, world
from tests.support.httpd import HttpServer
from tests.support.servers import NOT_POSSIBLE, Unavailable
from tests.support.sshd import SshServer

__all__ = ["make_group", "world"]

ETCD_LINES = ("3.5", "3.4")
SLOW_SECONDS = 10.0

OwnEtcd = Callable[..., EtcdProcess]
OwnCluster = Callable[..., EtcdCluster]


def _everything_is_required() -> bool:
    """PIEHOLE_REQUIRE_ALL decides (0 or 1); without it, CI=true means yes."""
    wish = os.environ.get("PIEHOLE_REQUIRE_ALL", "")
    if wish:
        return wish != "0"
    return os.environ.get("CI", "") == "true"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``etcd_versions`` on every line, unless PIEHOLE_TEST_ETCD names the one binary to use."""
    marked = metafunc.definition.get_closest_marker("etcd_versions") is not None
    if marked and "etcd_binary" in metafunc.fixturenames and not os.environ.get("PIEHOLE_TEST_ETCD"):
        metafunc.parametrize("etcd_binary", ETCD_LINES, indirect=True, scope="session")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def _is_failure(report: pytest.TestReport | pytest.CollectReport) -> bool:
    return report.skipped and not hasattr(report, "wasxfail") and not _reason(report).startswith(NOT_POSSIBLE)


class SkipsAreFailures:
    """Where everything is required, a skipped test has failed: unless no installation could make it run on this machine."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if _is_failure(report):
            report.outcome = "failed"
            report.longrepr = f"skipped, and nothing may be skipped here: {_reason(report)}"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if _is_failure(report):
            report.outcome = "failed"
            report.longrepr = f"skipped, and nothing may be skipped here: {_reason(report)}"
        return report


class LastWords:
    """Shows what the controllers logged where a test has failed: on another machine nobody can look for it afterwards."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and report.failed:
            report.sections += list(last_words(getattr(item, "funcargs", {}).values()))
        return report


class SkipLedger:
    """Names, after pytest's closing line, what was skipped and why."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._reasons[_reason(report)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._reasons[_reason(report)] += 1

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if self._reasons and reporter is not None:
            told = "; ".join(f"{reason} ({count})" for reason, count in sorted(self._reasons.items()))
            reporter.write_line(f"{self._reasons.total()} skipped: {told}")


class SlowLedger:
    """Names, before pytest's closing line, each test that took long and is not marked ``slow``. A busy machine is no failure."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "slow" not in report.keywords and "faults" not in report.keywords:
            self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        late = {name: seconds for name, seconds in self._seconds.items() if seconds > SLOW_SECONDS}
        if late:
            terminalreporter.section(f"longer than {SLOW_SECONDS:g} s and not marked slow")
        for name, seconds in sorted(late.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:6.1f} s  {name}")


def _use_the_git_asked_for() -> None:
    """PIEHOLE_GIT names the git of the whole suite, servers and users alike; without it, the one on PATH is used.

    :raises pytest.UsageError: it is no git
    """
    wish = os.environ.get("PIEHOLE_GIT", "")
    if not wish:
        return
    folder = Path(wish).absolute().parent
    found = shutil.which("git", path=str(folder))
    if found is None or not Path(wish).samefile(found):
        raise pytest.UsageError(f"PIEHOLE_GIT={wish} is no program named git")
    path = os.environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != str(folder):  # as in a worker of pytest-xdist, whose parent has done it
        os.environ["PATH"] = f"{folder}{os.pathsep}{path}"


def pytest_report_header() -> str:
    return subprocess.run(["git", "version"], capture_output=True, text=True, check=False).stdout.strip()


def pytest_configure(config: pytest.Config) -> None:
    _use_the_git_asked_for()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipLedger())
        config.pluginmanager.register(SlowLedger())
    config.pluginmanager.register(LastWords())
    if _everything_is_required():
        config.pluginmanager.register(SkipsAreFailures())


@pytest.fixture(autouse=True)
def git_env(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The hermetic environment, set for every test: a fresh HOME, and none of the caller's variables."""
    environment = git_environment(make_home(tmp_path_factory.mktemp("home")))
    for name in os.environ:
        if name not in environment and not name.startswith(("PYTEST_", "PYTHON", "PIEHOLE_TEST_", "COV_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture(scope="session")
def etcd_binary(request: pytest.FixtureRequest) -> Path:
    """The etcd of this test: PIEHOLE_TEST_ETCD, else the line that the test asks for, else the newest line there is."""
    chosen = os.environ.get("PIEHOLE_TEST_ETCD")
    if chosen:
        return Path(chosen)
    found = {".".join(version.split(".")[:2]): path for version, path in find_etcds().items()}
    lines: tuple[str, ...] = (request.param,) if hasattr(request, "param") else ETCD_LINES
    for line in lines:
        if line in found:
            return found[line]
    pytest.skip(f"no etcd {' or '.join(lines)} on this machine")


@pytest.fixture(scope="session")
def etcd_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, EtcdProcess]]:
    """The members that the tests of this process share, by binary. Take ``etcd`` instead."""
    pool: dict[Path, EtcdProcess] = {}
    yield pool
    for member in pool.values():
        member.kill()


@pytest.fixture(scope="session")
def compactable_pool() -> Iterator[dict[Path, EtcdProcess]]:
    """As ``etcd_pool``, for ``compactable_etcd``."""
    pool: dict[Path, EtcdProcess] = {}
    yield pool
    for member in pool.values():
        member.kill()


@pytest.fixture(scope="session")
def etcd(
    etcd_binary: Path, etcd_pool: dict[Path, EtcdProcess], tmp_path_factory: pytest.TempPathFactory
) -> EtcdProcess:
    """A healthy member that many tests share: keep to your ``prefix``, and do not stop it."""
    if etcd_binary not in etcd_pool:
        etcd_pool[etcd_binary] = EtcdProcess(etcd_binary, tmp_path_factory.mktemp("etcd")).start()
    return etcd_pool[etcd_binary]


@pytest.fixture(scope="session")
def compactable_etcd(
    etcd_binary: Path, compactable_pool: dict[Path, EtcdProcess], tmp_path_factory: pytest.TempPathFactory
) -> EtcdProcess:
    """A healthy member whose history may be compacted: on the one that all share, others read theirs from its beginning."""
    if etcd_binary not in compactable_pool:
        compactable_pool[etcd_binary] = EtcdProcess(etcd_binary, tmp_path_factory.mktemp("etcd")).start()
    return compactable_pool[etcd_binary]


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"/piehole-{uuid4().hex}"


@pytest.fixture
def own_etcd(etcd_binary: Path, tmp_path: Path) -> Iterator[OwnEtcd]:
    """``own_etcd(options=…)`` starts a member that belongs to this test alone, to be killed, stopped or put back."""
    with ExitStack() as ends:

        def make(*, options: EtcdOptions | None = None, start: bool = True) -> EtcdProcess:
            member = EtcdProcess(etcd_binary, tmp_path / f"etcd-{uuid4().hex[:8]}", options=options)
            ends.callback(member.kill)
            return member.start() if start else member

        yield make


@pytest.fixture
def own_cluster(etcd_binary: Path, tmp_path: Path) -> Iterator[OwnCluster]:
    """``own_cluster(3)`` starts a cluster that belongs to this test alone."""
    with ExitStack() as ends:

        def make(size: int = 3, *, options: EtcdOptions | None = None) -> EtcdCluster:
            cluster = EtcdCluster(etcd_binary, tmp_path / f"cluster-{uuid4().hex[:8]}", size, options=options)
            ends.callback(cluster.kill)
            return cluster.start()

        yield make


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An sshd that serves every repository that this account can read, at its absolute path."""
    try:
        server = SshServer(tmp_path_factory.mktemp("sshd"))
    except Unavailable as missing:
        pytest.skip(f"ssh: {missing}")
    yield server
    server.end()


@pytest.fixture
def sshd_that_names_keys(tmp_path: Path) -> Iterator[SshServer]:
    """An sshd that tells a session which key has logged in."""
    try:
        server = SshServer(tmp_path / "sshd", settings="ExposeAuthInfo yes\n")
    except Unavailable as missing:
        pytest.skip(f"ssh: {missing}")
    yield server
    server.end()


@pytest.fixture
def httpd(tmp_path: Path) -> Iterator[HttpServer]:
    """An HTTP server of the repositories below ``tmp_path``; everybody may push, as the user ``pusher``."""
    try:
        server = HttpServer(tmp_path / "httpd", tmp_path)
    except Unavailable as missing:
        pytest.skip(f"http: {missing}")
    yield server
    server.end()


@pytest.fixture
def git_daemon(tmp_path: Path) -> Iterator[GitDaemon]:
    """A git daemon of the repositories below ``tmp_path``, which takes pushes, too."""
    try:
        server = GitDaemon(tmp_path / "git-daemon", tmp_path, receive_pack=True)
    except Unavailable as missing:
        pytest.skip(f"git: {missing}")
    yield server
    server.end()


@pytest.fixture
def tamper(etcd: EtcdProcess) -> Iterator[Tamper]:
    """Between a site and etcd."""
    with tampering(etcd.endpoint) as made:
        yield made


@pytest.fixture
def scene(world: Group, tamper: Tamper) -> tuple[Path, Path, str]:
    """A site that reaches etcd through the tamperer only, a clone, and the first commit."""
    site = world["a"].build(endpoints=[tamper.endpoint], settings={"piehole.hookTimeout": "6"}).repository
    work = world.clone(site)
    first = commit(work, "first")
    accepted(push(work, site, "HEAD:main"))
    return site, work, first
