"""Git's trace of a push, read: every millisecond belongs to one part."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.bench import within
from tests.support.git import clone, commit, git, make_bare

_SLOW = "#!/bin/sh\nsleep 0.1\n"


def _traced(folder: Path, hook: str = "") -> tuple[within.Parts, float]:
    """The parts of a first push, and the milliseconds that it took."""
    repository = make_bare(folder / "r.git")
    if hook:
        (repository / "hooks" / "update").write_text(hook)
        (repository / "hooks" / "update").chmod(0o755)
    work = clone(repository, folder / "w")
    commit(work)
    trace = folder / "trace"
    started, before = time.time(), time.monotonic()
    git(work, "push", "--quiet", "origin", "HEAD:main", env={"GIT_TRACE2_EVENT": str(trace)})
    took = time.monotonic() - before
    return within.parts(trace.read_text(), started, took), 1000 * took


def test_the_parts_are_the_whole_push(tmp_path: Path) -> None:
    found, took = _traced(tmp_path)
    assert sum(found.parts.values()) == pytest.approx(took, abs=0.001)
    assert {"git unpack-objects", "git rev-list", within.BEFORE, within.BETWEEN, within.AFTER} <= set(found.parts)


def test_a_slow_hook_is_seen_as_its_own_part(tmp_path: Path) -> None:
    found, took = _traced(tmp_path, _SLOW)
    assert 100 <= found.parts["hook update"] <= took


def test_a_hook_is_one_process_more(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    without, _ = _traced(tmp_path / "without")
    hooked, _ = _traced(tmp_path / "with", _SLOW)
    assert hooked.processes == without.processes + 1
    assert "hook update" not in without.parts
