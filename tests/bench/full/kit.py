"""What the large measurements share: an etcd that fsyncs, the cost of a process, histories made quickly, and where results go."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.bench import bed
from tests.bench.report import Report
from tests.support.etcd import EtcdOptions, EtcdProcess, etcd_version
from tests.support.git import git

MAIN: Final = "refs/heads/main"
# Every repository is written with the same care: what `piehole install` sets, set on the ones beside it, too.
FSYNC: Final = bed.FSYNC
_LOOK_EVERY: Final = 0.0005
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def careful_etcd(binary: Path, folder: Path, *extra: str) -> EtcdProcess:
    """A member that fsyncs, as a real one does; the tests' members do not where they need not."""
    return EtcdProcess(
        binary, folder, options=EtcdOptions(progress_interval="5s", extra=[*bed.fsync_flags(binary), *extra])
    ).start()


def save(report: Report, scenario: str, root: Path) -> None:
    """Print the table, and write .cache/bench-full/SCENARIO.json."""
    folder = root / ".cache" / "bench-full"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{scenario}.json").write_text(report.to_json())
    print(f"\n{report.table()}")  # noqa: T201 -- this is what the measurement is for


def machine(etcd_binary: Path, folder: Path) -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "git": git(folder, "version").stdout.split()[-1],
        "etcd": etcd_version(etcd_binary),
        "python": platform.python_version(),
        "piehole": version("piehole"),
        "kernel": platform.release(),
        "processors": str(os.cpu_count()),
        "core.fsync": f"{FSYNC} in every repository; etcd with fsync",
    }


@dataclass(frozen=True)
class Usage:
    """What a process has used: ``own`` and ``children`` are seconds of processor time, the latter of children that have ended."""

    at: float
    own: float
    children: float
    resident: float
    peak: float
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system, child_user, child_system = (int(fields[n]) / _TICKS for n in (11, 12, 13, 14))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(
            time.monotonic(),
            user + system,
            child_user + child_system,
            int(status["VmRSS"].split()[0]) / 1024,
            int(status["VmHWM"].split()[0]) / 1024,
            len(list(Path(f"/proc/{pid}/fd").iterdir())),
        )

    def percent_since(self, before: Usage) -> float:
        """Processor time since then, children's included, in percent of one processor."""
        spent = self.own + self.children - before.own - before.children
        return 100 * spent / (self.at - before.at)


def timed(work: Callable[..., object], *arguments: object) -> float:
    """The seconds that it took."""
    started = time.monotonic()
    work(*arguments)
    return time.monotonic() - started


def shows(repository: Path, ref: str, oid: str) -> bool:
    """Whether a loose ref is at this oid, read from the disk: a process would cost more than what is measured."""
    try:
        return (repository / ref).read_text() == f"{oid}\n"
    except FileNotFoundError:
        return False


def arrival(repositories: Iterable[Path], ref: str, oid: str, patience: float = 60.0) -> float:
    """Wait until all of them show the ref at the oid; the seconds from now."""
    waiting = list(repositories)
    started = time.monotonic()
    while waiting := [one for one in waiting if not shows(one, ref, oid)]:
        assert time.monotonic() - started < patience, f"{waiting[0]} never had {oid} at {ref}"
        time.sleep(_LOOK_EVERY)
    return time.monotonic() - started


def push(work: Path, url: Path, *refspecs: str) -> float:
    """``git push``; the seconds that it took."""
    started = time.monotonic()
    done = subprocess.run(
        ["git", "push", "--quiet", str(url), *refspecs], cwd=work, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    return took


def write_history(
    repository: Path, commits: int, *, branch: str = MAIN, folders: int = 40, begin: int = 0
) -> list[str]:
    """Commits of one small change each, on top of what the branch has; their oids, oldest first."""
    there = git(repository, "rev-parse", "--verify", "--quiet", branch, check=False).stdout.strip()
    known = git(repository, "rev-list", "--count", branch).stdout.strip() if there else "0"
    subprocess.run(
        ["git", "fast-import", "--quiet", "--force"],
        cwd=repository,
        input=b"".join(_stream(commits, branch, folders, begin or int(known), there)),
        check=True,
    )
    listed = git(repository, "rev-list", "--reverse", branch, *([f"^{there}"] if there else [])).stdout.split()
    assert len(listed) == commits
    return listed


def _stream(commits: int, branch: str, folders: int, begin: int, parent: str) -> Iterator[bytes]:
    for number in range(begin, begin + commits):
        text = f"{branch} {number}\n" * 8
        name = f"d{number % folders}/f{number // folders % 12}"
        yield f"commit {branch}\ncommitter A Pusher <pusher@example.org> {1_700_000_000 + number} +0000\n".encode()
        yield f"data {len(str(number))}\n{number}\n".encode()
        if number == begin and parent:
            yield f"from {parent}\n".encode()
        yield f"M 100644 inline {name}\ndata {len(text)}\n{text}\n".encode()


def disk(folder: Path) -> float:
    """What all files below it take on the disk, in MB."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6


def packs(repository: Path) -> int:
    return sum(path.suffix == ".pack" for path in (repository / "objects" / "pack").iterdir())


def loose(repository: Path) -> int:
    return sum(1 for path in (repository / "objects").glob("??/*"))
