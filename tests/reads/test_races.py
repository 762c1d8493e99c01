"""Pushes to one site and fetches from another one right after, many times, while each arrival takes a moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reads.bed import Front, oid_of
from tests.support import git
from tests.support.assertions import accepted
from tests.support.groups import Group, MakeGroup

_USERS = 4


@contextmanager
def slow_arrivals(group: Group, seconds: float) -> Iterator[None]:
    """Inside, the controllers' fetches by path take so much longer."""
    with group.git_that(group.folder / "slow", "upload-pack", f'sleep {seconds}; exec "$git" "$@"'):
        group.start()
    yield


def read_after_write(group: Group, front: Front, rounds: int) -> list[str]:
    """What users have read too old who push to one site and read at once from the other ones, each on a branch of its own."""

    def user(number: int) -> list[str]:
        branch = f"refs/heads/user-{number}"
        here, *others = (list(group) * 2)[number % 3 :][:3]
        work = works[number]
        stale = []
        for turn in range(rounds):
            oid = git.commit(work, f"{turn}")
            accepted(git.push(work, here.repository, f"HEAD:{branch}"))
            got = front.listed(others[turn % 2], branch)
            assert got.returncode == 0, got.stderr
            if oid_of(got) != oid:
                stale.append(f"{branch} {turn} at {others[turn % 2]}")
        return stale

    works = [git.clone(group[0].repository, group.fresh("user")) for _ in range(_USERS)]
    with ThreadPoolExecutor(_USERS) as users:
        return [one for found in users.map(user, range(_USERS)) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "off"])
def test_no_read_is_stale_behind_the_gate_and_many_are_without(
    make_group: MakeGroup, tmp_path: Path, mode: str
) -> None:
    group = make_group(3, started=False, settings={"piehole.readGate": mode, "piehole.readWait": "30"})
    group.commit()
    group.push("a")
    with slow_arrivals(group, 0.1):
        stale = read_after_write(group, Front(tmp_path / "bin", "read-gate.pl"), 15)
    if mode == "strict":
        assert stale == []
    else:
        assert len(stale) > 15, "the arrivals were not slow, so this test shows nothing"
