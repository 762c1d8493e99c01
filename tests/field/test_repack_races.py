"""Repacks without a pause, of the kinds that have lost objects elsewhere, while pushes and arrivals go on."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.assertions import accepted, arrives
from tests.support.git import MAIN, commit, git, push
from tests.support.groups import MakeGroup

PUSHES = 20


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
    with repacking([a.repository, b.repository], *how):
        for number in range(PUSHES):
            tip = commit(work, f"push {number}")
            accepted(push(work, (a, b)[number // 5 % 2].repository, "HEAD:main"))
        arrives(group, MAIN, tip, timeout=40)
    for site in group:
        site.fsck()
        assert git(site.repository, "rev-list", "--count", MAIN).stdout.strip() == str(PUSHES + 1)
    group.in_step()
