"""What a test starts ends with it; what it waits for, it awaits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process import ManagedProcess, descendants
from tests.support.wait import until


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_ending_a_process_ends_children_that_began_sessions_of_their_own(tmp_path: Path) -> None:
    process = ManagedProcess(["sh", "-c", "setsid sleep 60 & sleep 60 & wait"], tmp_path / "log")
    until(lambda: len(descendants(process.pid)) >= 2, what="both children run")
    below = descendants(process.pid)

    process.end()

    until(lambda: not any(map(_runs, below)), what="nothing is left")
    assert not process.alive
    process.end()


def test_until_returns_what_it_waited_for() -> None:
    values = iter(["", "", "there"])
    assert until(lambda: next(values)) == "there"


def test_until_names_the_promise_that_was_not_kept() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.05 s in vain: the door opens \(last value: 0\)"):
        until(lambda: 0, 0.05, "the door opens")
