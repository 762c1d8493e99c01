"""Repacks without a pause, of the kinds that have lost objects elsewhere, while pushes and arrivals go on."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.assertions import accepted, arrives
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import MakeGroup
from tests.support.wait import PATIENCE

PUSHES = 20
# A push takes a fraction of a second, and ten seconds on a machine that does much else. After so many seconds these are enough.
SECONDS = 30.0
LEAST = 8
IN_A_ROW = 5  # pushes to one site before the other one gets the next


@contextmanager
def repacking(repositories: Sequence[Path], *how: str) -> Iterator[None]:
    """Repack each of these repositories again and again until the block ends."""
    stop = threading.Event()

    def loop(repository: Path) -> None:
        while not stop.is_set():
            subprocess.run(["git", "repack", "-q", *how], cwd=repository, capture_output=True, check=False)

    threads = [threading.Thread(target=loop, args=(repository,)) for repository in repositories]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [("-a", "-d"), ("--geometric=2", "-d", "--write-midx"), ("-a", "-d", "-f")], ids=" ".join
)
def test_pushes_and_arrivals_lose_nothing_to_repacks_without_a_pause(make_group: MakeGroup, how: Sequence[str]) -> None:
    group = make_group(2, settings={"receive.unpackLimit": "1"})
    a, b = group
    work, tip = group.begun()
    pushes = 0
    with repacking([a.repository, b.repository], *how):
        enough = time.monotonic() + SECONDS
        while pushes < PUSHES and (pushes < LEAST or time.monotonic() < enough):
            site = (a, b)[pushes // IN_A_ROW % 2]
            # Git refuses a push to a ref that a reconcile moves after git has shown it to the pusher.
            arrives([site], MAIN, tip, timeout=PATIENCE)
            tip = commit(work, f"push {pushes}")
            accepted(push(work, site.repository, "HEAD:main"))
            pushes += 1
        arrives(group, MAIN, tip, timeout=PATIENCE)
    for site in group:
        site.fsck()
        assert git(site.repository, "rev-list", "--count", MAIN).stdout.strip() == str(pushes + 1)
    group.in_step()
