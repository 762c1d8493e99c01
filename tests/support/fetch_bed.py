"""Two repositories without a group: a peer that is ahead, and a local one that fetches from it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from piehole.transfer.fetch import Fetched, fetch
from piehole.transfer.keep_files import Hold
from piehole.transfer.watchdog import Limits
from tests.support.git import commit, git, make_bare, push, rev_parse

ALL = ("ssh", "http", "https", "git", "file")
QUICK = Limits(connect=5, stall=1.0, total=20)


@dataclass
class FetchBed:
    """``work`` pushes to ``peer``; ``local`` is what is behind."""

    folder: Path
    object_format: str = "sha1"
    peer: Path = field(init=False)
    local: Path = field(init=False)
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.peer = make_bare(self.folder / "peer.git", self.object_format)
        self.local = make_bare(self.folder / "local.git", self.object_format)
        # Not a clone: git 2.39 takes an empty sha256 repository for one of sha1.
        self.work = self.folder / "work"
        git(self.folder, "init", "-q", f"--object-format={self.object_format}", "-b", "main", str(self.work))
        self.advance("one")

    def advance(self, message: str, *, content: str | None = None) -> str:
        """One more commit at the peer."""
        oid = commit(self.work, message, content=content)
        assert push(self.work, self.peer, "HEAD:refs/heads/main").returncode == 0
        return oid

    def follow(self) -> str:
        """Local gets what the peer has now, by plain git."""
        git(self.local, "fetch", "-q", str(self.peer), "+refs/heads/*:refs/heads/*")
        return rev_parse(self.local, "refs/heads/main")

    def bring(
        self,
        url: str,
        wants: Sequence[str],
        haves: Sequence[str] = (),
        *,
        limits: Limits = QUICK,
        hold: Hold | None = None,
        stop: threading.Event | None = None,
        shared: str | None = "",
    ) -> Fetched:
        with Hold() as own:
            return fetch(
                self.local,
                url,
                wants,
                haves,
                allowed=ALL,
                limits=limits,
                object_format=self.object_format,
                hold=hold or own,
                shared=shared,
                stop=stop,
            )


def leftovers(repository: Path) -> list[str]:
    """Quarantines, .keep and temporary files."""
    objects = repository / "objects"
    return sorted(
        p.name
        for p in (*objects.iterdir(), *(objects / "pack").iterdir())
        if "tmp" in p.name or "piehole" in p.name or p.suffix == ".keep"
    )


def packs(repository: Path) -> set[str]:
    return {p.name for p in (repository / "objects" / "pack").glob("*.pack")}


def complete(repository: Path, *oids: str) -> bool:
    """Whether the whole closure is there and readable; not piehole's own way of asking."""
    done = git(repository, "rev-list", "--objects", *oids, check=False)
    listed = "".join(f"{line.split(' ')[0]}\n" for line in done.stdout.splitlines())
    checked = git(repository, "cat-file", "--batch-check", stdin=listed)
    return done.returncode == 0 and "missing" not in checked.stdout
