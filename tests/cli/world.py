"""A group of sites on this machine, worked on by the real command line only: no controller runs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import forked
from tests.support.etcd import EtcdProcess
from tests.support.etcd_raw import RawEtcd
from tests.support.git import clone, commit, git, make_bare, push, rev_parse
from tests.support.wait import until

COMMAND = (sys.executable, "-m", "piehole.cli")
ROOT = Path(__file__).parents[2]


class Answer:
    """What a command printed, and how it ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value

    def line(self, part: str) -> str:
        """The first line of the output that holds this."""
        return next(line for line in self.out.splitlines() if part in line)


def piehole(*arguments: str | Path, cwd: Path = ROOT) -> Answer:
    """Run ``piehole ARGUMENTS`` where there is no terminal."""
    done = forked.run(*map(str, arguments), cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done)


class Terminal:
    """A command that runs at a terminal; ``with`` ends it."""

    def __init__(self, *arguments: str | Path) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def sees(self, part: str) -> None:
        """Wait until the command has printed this, and forget everything up to there."""

        def found() -> bool:
            self._read()
            return part in self.shown

        until(found, 30, f"the terminal shows {part!r}")
        self.shown = self.shown.partition(part)[2]

    def types(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def end(self) -> int:
        status = self._process.wait(30)
        self._read()
        return status

    def _read(self) -> None:
        try:
            while chunk := os.read(self._master, 1 << 16):
                self.shown += chunk.decode()
        except (BlockingIOError, OSError):  # nothing yet, or the other end is closed
            return


class World:
    """The group ``g`` with the sites that were installed, and a user's clone ``work``."""

    def __init__(self, folder: Path, etcd: EtcdProcess, prefix: str) -> None:
        self.folder = folder
        self.etcd = etcd
        self.prefix = prefix
        self.work = folder / "work"

    @property
    def raw(self) -> RawEtcd:
        return self.etcd.raw

    def key(self, *parts: str) -> str:
        return "/".join((self.prefix, *parts))

    def ref_key(self, ref: str) -> str:
        return self.key("ref", "g", ref)

    def consensus(self, ref: str) -> str | None:
        return self.raw.get(self.ref_key(ref))

    def bare(self, site: str) -> Path:
        """A repository for a site, not installed yet."""
        path = make_bare(self.folder / f"{site}.git")
        git(path, "config", "piehole.allowProtocol", "file")
        return path

    def install(self, *sites: str) -> list[Path]:
        """Found the group with the first site and join it with the others."""
        found = []
        for site in sites:
            path = self.folder / f"{site}.git"
            if not path.exists():
                self.bare(site)
            answer = piehole(
                *("install", path, "--group", "g", "--site", site, "--url", str(path)),
                *("--etcd", self.etcd.endpoint, "--prefix", self.prefix),
            )
            assert answer.status == 0, answer
            found.append(path)
        return found

    def commit(self, message: str = "a change") -> str:
        if not self.work.exists():
            clone(self.folder / "a.git", self.work)
        return commit(self.work, message)

    def push(self, site: str, *refspecs: str) -> None:
        done = push(self.work, self.folder / f"{site}.git", *refspecs)
        assert done.returncode == 0, done.stderr

    def reconcile(self, *sites: str) -> Answer:
        return piehole("reconcile", "--once", *(self.folder / f"{site}.git" for site in sites))

    def tip(self, site: str, ref: str = "refs/heads/main") -> str:
        return rev_parse(self.folder / f"{site}.git", ref)

    def has(self, site: str, ref: str) -> bool:
        return git(self.folder / f"{site}.git", "show-ref", "--verify", "-q", ref, check=False).returncode == 0
