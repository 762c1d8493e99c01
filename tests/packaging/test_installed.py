"""piehole as a user gets it: installed from the built wheel or sdist, upgraded, and removed again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.built import ROOT, Built
from tests.support.assertions import accepted, refused
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN, clone, commit, make_bare, push, rev_parse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The last commit that was built by setuptools: the wheel that somebody may have from before there were releases.
BEFORE = "4baf4c9"


def _run(
    *words: str | Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd="/", env={**os.environ, **(env or {})}, check=False
    )
    assert not check or done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


@dataclass
class Tools:
    """Folders of a user's own in which pipx and uv install programs; all that they need is in a folder, too."""

    folder: Path
    wheels: Path

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    def pipx(self, *words: str | Path) -> None:
        places = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
        env = {name: str(self.folder / place) for name, place in places.items()}
        env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{self.wheels} {self.folder}"}
        _run(sys.executable, "-m", "pipx", *words, env=env)

    def uv(self, *words: str | Path) -> None:
        places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "UV_CACHE_DIR": "cache"}
        env = {name: str(self.folder / place) for name, place in places.items()}
        _run(Path(sys.executable).with_name("uv"), "tool", *words, env=env)

    def uv_install(self, *words: str | Path) -> None:
        self.uv("install", "--python", sys.executable, "--no-index", "--find-links", self.wheels, *words)

    def piehole(self, *words: str | Path, check: bool = True) -> str:
        done = _run(self.programs / "piehole", *words, check=check)
        return done.stdout + done.stderr


@pytest.fixture
def tools(tmp_path: Path, wheels: Path) -> Tools:
    return Tools(tmp_path / "tools", wheels)


@pytest.fixture
def install(tmp_path: Path, etcd: EtcdProcess, prefix: str, tools: Tools) -> Callable[[], str]:
    """Make the bare repository oslo.git the only site of a group, as the README says."""
    repository = make_bare(tmp_path / "oslo.git")
    options = ("--group", "g", "--site", "oslo", "--url", repository, "--etcd", etcd.endpoint, "--prefix", prefix)
    return lambda: tools.piehole("install", repository, *options)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "oslo.git"


@pytest.fixture
def work(tmp_path: Path, install: object, repository: Path) -> Path:
    return clone(repository, tmp_path / "work")


def _pushed(work: Path, repository: Path) -> None:
    """A commit is pushed, and the group has agreed on it."""
    oid = commit(work)
    assert f"piehole: accepted: {MAIN}" in accepted(push(work, "origin", f"HEAD:{MAIN}")).stderr
    assert rev_parse(repository, MAIN) == oid


def _newer_structlog(folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "structlog-99.0-py3-none-any.whl", "w") as wheel:
        files = {
            "METADATA": "Metadata-Version: 2.1\nName: structlog\nVersion: 99.0\n",
            "WHEEL": "Wheel-Version: 1.0\n",
            "RECORD": "",
        }
        for name, text in files.items():
            wheel.writestr(f"structlog-99.0.dist-info/{name}", text)


def test_pipx_installs_the_wheel_with_the_constraints_and_the_first_push_is_accepted(
    built: Built, tools: Tools, install: Callable[[], str], work: Path, repository: Path
) -> None:
    _newer_structlog(tools.folder)
    constraints = built.folder / "constraints.txt"
    how = ("--backend", "pip", "--python", sys.executable, f"--pip-args=--constraint={constraints}")
    tools.pipx("install", *how, built.wheel)
    found = _run(tools.folder / "home/venvs/piehole/bin/python", "-m", "pip", "freeze").stdout.replace("_", "-")
    others = [line for line in found.splitlines() if not line.startswith("piehole @")]
    assert others and [line for line in others if line not in constraints.read_text().splitlines()] == []
    assert tools.piehole("--version") == f"piehole {built.version}\n"
    pages = {Path(name).name for name in built.tree if name.startswith("share/man/")}
    assert {path.name for path in (tools.folder / "man/man1").iterdir()} == pages
    tools.piehole("files", tools.folder / "deploy")
    copied = {
        path.relative_to(tools.folder).as_posix() for path in (tools.folder / "deploy").rglob("*") if path.is_file()
    }
    assert copied == {name.removeprefix("piehole/") for name in built.in_wheel if name.startswith("piehole/deploy/")}
    install()
    _pushed(work, repository)
    tools.pipx("uninstall", "piehole")
    assert not (tools.programs / "piehole").exists()


def test_uv_installs_the_sdist_and_python_warns_of_nothing(
    built: Built, tools: Tools, install: Callable[[], str], work: Path, repository: Path
) -> None:
    tools.uv_install("--constraints", built.folder / "constraints.txt", built.sdist)
    python = tools.folder / "tools/piehole/bin/python"
    for words in (("--version",), ("--help",), ("files",), ("controller", "--help")):
        assert _run(python, "-W", "error", "-m", "piehole.cli", *words).stderr == ""
    for name in (name for name in built.tree if name.startswith("share/")):
        assert (tools.folder / "tools/piehole" / name).read_bytes() == (ROOT / name).read_bytes()
    install()
    _pushed(work, repository)


@pytest.fixture
def before(tmp_path: Path, built: Built) -> Path:
    """The wheel before."""
    tree = tmp_path / "before"
    tree.mkdir()
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=False)
    if packed.returncode:
        pytest.skip("this clone has no history to build the version before from")
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    build = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path / "old",
        tree,
    )
    _run(*build)
    (wheel,) = (tmp_path / "old").glob("*.whl")
    return wheel


def test_an_upgrade_keeps_repositories_working_and_a_removal_leaves_them_refusing(
    built: Built, before: Path, tools: Tools, install: Callable[[], str], work: Path, repository: Path
) -> None:
    tools.uv_install(before)
    install()
    _pushed(work, repository)
    old = (repository / "hooks/update").read_text()
    assert (
        "No module"
        in _run(tools.folder / "tools/piehole/bin/python", "-c", "import piehole.installed_files", check=False).stderr
    )

    tools.uv_install("--force", built.wheel)
    assert tools.piehole("--version") == f"piehole {built.version}\n"
    _pushed(work, repository)  # by the hooks of the version before
    (repository / "hooks/update").write_text(old + "# of an older version\n")
    assert "hooks" in install()
    assert "# of an older version" not in (repository / "hooks/update").read_text()
    _pushed(work, repository)

    tools.uv("uninstall", "piehole")
    before_removal = rev_parse(repository, MAIN)
    commit(work)
    said = refused(push(work, "origin", f"HEAD:{MAIN}"), "no-access")
    assert re.fullmatch(r"piehole is no longer at \S+; run 'piehole install' at this site", said)
    assert rev_parse(repository, MAIN) == before_removal
    assert rev_parse(clone(repository, work.with_name("reader"))) == before_removal  # fetching needs no piehole

    tools.uv_install(built.wheel)
    _pushed(work, repository)
