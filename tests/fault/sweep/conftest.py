"""One bed for many stories: setting it up takes longer than telling one. After a violation it is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault.sweep.bed import Bed
from tests.support.etcd import EtcdProcess
from tests.support.git import git_environment, make_home

GetBed = Callable[[], Bed]


@pytest.fixture(scope="session")
def beds(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Bed]]:
    """The bed of this process, if it has one; ``bed`` makes it."""
    made: list[Bed] = []
    yield made
    for bed in made:
        bed.end()


@pytest.fixture(scope="session")
def sweep_etcd(etcd_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    member = EtcdProcess(etcd_binary, tmp_path_factory.mktemp("sweep-etcd")).start()
    yield member
    member.kill()


@pytest.fixture
def bed(
    beds: list[Bed],
    sweep_etcd: EtcdProcess,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bed]:
    """Three sites in step, their controllers running."""
    if not beds:
        folder = tmp_path_factory.mktemp("sweep")
        home = git_environment(make_home(folder / "home"))
        beds.append(Bed(folder, sweep_etcd, f"/{folder.name}", home))
    yield beds[0]
    if beds[0].spoilt:
        beds.pop().end()
