"""One bed for all tests of a process: setting up two gitolite servers takes seconds. Each test uses branches of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gitolite.bed import Bed, GitoliteSite
from tests.guide.conftest import page
from tests.support.etcd import EtcdProcess
from tests.support.git import commit, git
from tests.support.servers import Unavailable

__all__ = ["page"]


@pytest.fixture(scope="session")
def bed(etcd: EtcdProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two gitolite servers, oslo and lima, as two sites of each of their repositories."""
    made = Bed(tmp_path_factory.mktemp("gl"), etcd.endpoint, f"/piehole-{uuid4().hex}")
    try:
        made.begin()
        yield made
    except Unavailable as missing:
        pytest.skip(f"gitolite: {missing}")
    finally:
        made.end()


@pytest.fixture
def oslo(bed: Bed) -> GitoliteSite:
    return bed[0]


@pytest.fixture
def lima(bed: Bed) -> GitoliteSite:
    return bed[1]


@pytest.fixture
def branch() -> str:
    """A branch that no other test uses."""
    return f"branch-{uuid4().hex[:8]}"


@pytest.fixture
def work(bed: Bed) -> Path:
    """Somebody's work, not pushed anywhere yet."""
    folder = bed.fresh("work")
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    commit(folder, folder.name)
    return folder
