"""What is large at once: a first clone of many objects, and a group of many refs through its life.

Everything is done by the commands that an administrator runs, and beside each stands what git's own takes in the same run, with
the same ``core.fsync``. git's peers read over file://, as piehole does: a plain path would be cloned by hard links.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Put
from tests.bench.full.kit import FSYNC, MAIN, timed
from tests.support.etcd import EtcdProcess
from tests.support.git import git, make_bare
from tests.support.process import descendants

_BLOB: Final = 1400  # bytes; with its tree and commit about 150 MB for 300,000 objects
_FOLDERS: Final = 200
_TOGETHER: Final = 4000  # puts in one transaction
_LOOK_EVERY: Final = 0.02


def write_objects(repository: Path, objects: int) -> str:
    """One branch whose history has so many objects, each third one a blob that cannot be compressed; its tip."""
    subprocess.run(
        ["git", "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"],
        cwd=repository,
        input=b"".join(_stream(objects // 4)),
        check=True,
    )
    return git(repository, "rev-parse", MAIN).stdout.strip()


def _stream(commits: int) -> Iterator[bytes]:
    # A commit, its tree, that of the one folder which changes, and a blob: four objects.
    for number in range(commits):
        blob = hashlib.shake_128(str(number).encode()).digest(_BLOB)
        yield f"commit {MAIN}\ncommitter A Pusher <pusher@example.org> {1_700_000_000 + number} +0000\n".encode()
        yield f"data {len(str(number))}\n{number}\n".encode()
        yield f"M 100644 inline d{number % _FOLDERS}/f{number // _FOLDERS % 20}\ndata {_BLOB}\n".encode() + blob + b"\n"


def write_refs(repository: Path, refs: int, commits: Sequence[str]) -> None:
    """So many branches, in folders of a thousand, packed as a repository has them that was there for long."""
    create = (f"{_branch(number)} {commits[number % len(commits)]}" for number in range(refs))
    lines = sorted(f"{oid} {name}\n" for name, oid in (one.split(" ") for one in create))
    (repository / "packed-refs").write_text("".join(lines))
    git(repository, "pack-refs", "--all")


def _branch(number: int) -> str:
    return f"refs/heads/team-{number // 1000:03}/work-{number:06}"


def advance(repository: Path, refs: int) -> None:
    """A new commit on each of the first branches, all at once and past the hooks: an administrator clobbers the group with it."""
    tips = git(
        repository, "for-each-ref", f"--count={refs}", "--format=%(refname) %(objectname)", "refs/heads/team-*/*"
    ).stdout
    stream = []
    for number, line in enumerate(tips.splitlines()):
        name, tip = line.split(" ")
        stream.append(
            f"commit {name}\ncommitter A Pusher <pusher@example.org> {1_800_000_000 + number} +0000\ndata 2\nto\n"
        )
        stream.append(f"from {tip}\nM 100644 inline changed\ndata {len(str(number))}\n{number}\n")
    assert len(stream) == 2 * refs
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "fast-import", "--quiet"]
    subprocess.run(command, cwd=repository, input="".join(stream).encode(), check=True)


def live_refs(repository: Path) -> str:
    """All refs that users see, as one text."""
    listed = git(repository, "for-each-ref", "--format=%(objectname) %(refname)").stdout.splitlines()
    return "\n".join(line for line in listed if " refs/piehole/" not in line)


def mirror(source: Path, target: Path) -> float:
    """``git clone --mirror`` of it; the seconds that it took."""
    command = ["git", "-c", f"core.fsync={FSYNC}", "clone", "--quiet", "--mirror", f"file://{source}", str(target)]
    took = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    git(target, "config", "core.fsync", FSYNC)
    return took


def fetch(source: Path, target: Path) -> float:
    """One ``git fetch`` of all refs; the seconds that it took."""
    return timed(lambda: git(target, "fetch", "--quiet", f"file://{source}", "+refs/*:refs/*"))


def put_refs(etcd: EtcdProcess, refs: int) -> float:
    """The least that adopting costs: as many keys put in transactions that compare nothing."""
    client = Etcd([etcd.endpoint])
    started = time.monotonic()
    for begin in range(0, refs, _TOGETHER):
        names = (f"/beside/{_branch(number)}" for number in range(begin, min(begin + _TOGETHER, refs)))
        client.txn([], [Put(name.encode(), b"0" * 40) for name in names], deadline=Deadline(30))
    took = time.monotonic() - started
    client.close()
    return took


class Site:
    """A site that the command line brings along."""

    def __init__(self, folder: Path, group: str, etcd: EtcdProcess) -> None:
        self.group = group
        self.repository = make_bare(folder / f"{group}.git")
        self._name = folder.name
        self._etcd = etcd
        git(self.repository, "config", "core.fsync", FSYNC)
        git(self.repository, "config", "piehole.allowProtocol", "file")

    def install(self) -> float:
        return self.piehole(
            "install", "--group", self.group, "--site", self._name,
            "--url", str(self.repository), "--etcd", self._etcd.endpoint,
        )  # fmt: skip

    def reconcile(self) -> float:
        return self.piehole("reconcile", "--once")

    def reconcile_counted(self) -> tuple[float, int, int]:
        """The seconds, the fetches and git's transactions on refs that it took: each git tells its arguments on the way."""
        folder = self.repository.parent
        log, shim = folder / "git.log", folder / "bin" / "git"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {shutil.which("git")} "$@"\n')
        shim.chmod(0o755)
        took = self.piehole("reconcile", "--once", path=shim.parent)
        lines = log.read_text().splitlines()
        return took, sum("upload-pack" in line for line in lines), sum("update-ref" in line for line in lines)

    def clobber(self) -> float:
        return self.piehole("clobber", "--yes")

    def piehole(self, *arguments: str, path: Path | None = None) -> float:
        """Run the command; the seconds that it took, its start included.

        :param path: where programs are looked for first
        """
        command, *rest = arguments
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "piehole.cli", command, "-C", str(self.repository), *rest],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"} if path else None,
        )  # fmt: skip
        took = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        return took


@dataclass
class Peak:
    """The most resident memory, in MB, of a process and of the largest of its children, each by itself."""

    own: float = 0.0
    children: dict[str, float] = field(default_factory=dict)

    def look(self, pid: int) -> None:
        self.own = max(self.own, _peak(pid)[1])
        for child in descendants(pid):
            name, megabytes = _peak(child)
            self.children[name] = max(megabytes, self.children.get(name, 0.0))


def _peak(pid: int) -> tuple[str, float]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return "", 0.0
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
    known = [word for word in words if word in ("index-pack", "rev-list", "upload-pack", "pack-objects", "update-ref")]
    return (f"git {known[0]}" if known else Path(words[0]).name), int(peak) / 1024


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Look at the memory of a process and its children all the time."""
    peak = Peak()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_EVERY):
            peak.look(pid)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak.look(pid)
