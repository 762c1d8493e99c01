"""The controller's own memory does not grow with what it has brought."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fault.hostile.memory import largest
from tests.fault.hostile.test_rubbish import sound
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup

MB = 1_000_000
PART = 20 * MB


def brought(group: Group, work: Path, size: int) -> tuple[int, int]:
    """The controller's memory before and after a transfer of so many bytes, in MB."""
    before = largest(group[1])
    group[1].pause()
    for number in range(size // PART):
        (work / f"part-{number}").write_bytes(os.urandom(PART))
    git.git(work, "add", ".")
    git.git(work, "commit", "-q", "-m", "large")
    accepted(git.push(work, group[0].repository, "HEAD:main"))
    group[1].resume()
    group.arrives(MAIN, git.rev_parse(work), timeout=600)
    return before, largest(group[1])


def quick_packing(group: Group, work: Path) -> None:
    """What is random is neither compressed nor compared."""
    for repository in (*(site.repository for site in group), work):
        git.git(repository, "config", "core.bigFileThreshold", "1m")
        git.git(repository, "config", "core.compression", "0")


def stays_small(make_group: MakeGroup, size: int) -> None:
    group = make_group(2)
    work, _ = group.begun()
    quick_packing(group, work)
    before, after = brought(group, work, size)
    print(f"a transfer of {size // MB} MB: the controller had {before} MB before it, {after} MB at most")  # noqa: T201
    assert sum(path.stat().st_size for path in group[1].repository.rglob("*.pack")) > size * 0.9
    assert after < 150
    assert after - before < 40
    sound(group)


def test_a_controller_stays_small_beside_a_large_transfer(make_group: MakeGroup) -> None:
    stays_small(make_group, 100 * MB)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_controller_stays_below_150_mb_beside_a_transfer_of_1_gb(make_group: MakeGroup) -> None:
    stays_small(make_group, 1000 * MB)
