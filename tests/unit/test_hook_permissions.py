"""How much of the hooks' socket one account may have, and what it may ask about."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from controller.hook_permissions import AT_ONCE, ConnectionCounter, may_read, may_write

STRANGER = 54321  # an account that no machine has


def test_one_account_has_so_many_connections_at_a_time_and_the_others_theirs() -> None:
    callers = ConnectionCounter(65536)
    assert all(callers.enter(STRANGER) for _ in range(AT_ONCE))
    assert not callers.enter(STRANGER)
    assert callers.enter(STRANGER + 1)
    callers.leave(STRANGER)
    assert callers.enter(STRANGER)
    assert not callers.enter(STRANGER)


def test_the_account_that_receives_everybodys_pushes_has_as_many_as_all_others_together() -> None:
    callers = ConnectionCounter(65536)
    assert all(callers.enter(os.geteuid()) for _ in range(30 * AT_ONCE))
    assert callers.enter(STRANGER)


def test_readers_who_wait_leave_half_of_the_connections_to_pushes() -> None:
    callers = ConnectionCounter(65536)
    for uid, most in ((STRANGER, AT_ONCE // 2), (os.geteuid(), 1024)):
        with ExitStack() as waiting:
            assert all(waiting.enter_context(callers.reading(uid)) for _ in range(most))
            assert not waiting.enter_context(callers.reading(uid))
        with callers.reading(uid) as free:
            assert free


@pytest.mark.parametrize("descriptors", [24, 40, 1024])
def test_connections_leave_three_quarters_of_the_descriptors_for_the_work(descriptors: int) -> None:
    callers = ConnectionCounter(descriptors)
    strangers = sum(callers.enter(STRANGER + number) for number in range(100) for _ in range(100))
    own = sum(callers.enter(uid) for uid in (0, os.geteuid()) for _ in range(1000))
    assert strangers == own >= 2
    assert strangers + own <= descriptors / 4


@pytest.mark.parametrize(
    ("mode", "may"), [(0o777, True), (0o773, True), (0o772, False), (0o775, False), (0o770, False)]
)
def test_who_is_neither_owner_nor_of_the_group_may_what_others_may(tmp_path: Path, mode: int, may: bool) -> None:
    if any(not folder.stat().st_mode & 0o001 for folder in tmp_path.parents):
        tmp_path = Path("/tmp") / f"callers-{os.getpid()}"  # noqa: S108 -- a place that every account may enter
        tmp_path.mkdir()
    repository = tmp_path / "project.git"
    repository.mkdir()
    try:
        tmp_path.chmod(0o755)
        repository.chmod(mode)
        assert may_write(repository, STRANGER) is may
        assert may_read(repository, STRANGER) is (mode & 0o5 == 0o5)
        assert may_write(repository, os.geteuid())
        tmp_path.chmod(0o700)
        assert not may_write(repository, STRANGER)
        assert not may_read(repository, STRANGER)
    finally:
        repository.rmdir()
        tmp_path.rmdir()
