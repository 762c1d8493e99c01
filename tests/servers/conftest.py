"""One bed for all tests of a process; each test finds it whole, and what it breaks is mended behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide.conftest import page
from tests.servers.bed.links import Links
from tests.servers.bed.missing import what_is_missing
from tests.servers.bed.three import ThreeServers

__all__ = ["page"]
# So that logins expire while tests run, on etcd 3.5 and newer (the default is 300).
TOKEN_SECONDS = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there can be no such hosts, one test is skipped and says so for all. Else these come first.

    Where several processes share the tests, each begins with a part of them in their order: so one process gets these, and makes
    one bed.
    """
    ours = [item for item in items if item.get_closest_marker("servers")]
    items.sort(key=lambda item: item not in ours)
    missing = what_is_missing() if ours else ""
    if missing:
        reason = f"{missing}; so the {len(ours)} tests of three servers cannot run"
        ours[0].add_marker(pytest.mark.skip(reason=reason))
        items[:] = [item for item in items if item not in ours[1:]]
        config.hook.pytest_deselected(items=ours[1:])


@pytest.fixture(scope="session")
def shared_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeServers]:
    bed = ThreeServers(tmp_path_factory.mktemp("servers"), etcd_settings={"ETCD_AUTH_TOKEN_TTL": str(TOKEN_SECONDS)})
    try:
        yield bed.begin()
    finally:
        bed.end()


@pytest.fixture
def own_bed(tmp_path: Path) -> Iterator[ThreeServers]:
    """Three servers for one test alone, which breaks what could not be mended behind it."""
    bed = ThreeServers(tmp_path / "own")
    try:
        yield bed.begin()
    finally:
        bed.end()


@pytest.fixture
def bed(shared_bed: ThreeServers) -> Iterator[ThreeServers]:
    """Three servers in step, and a laptop. Whatever a test does to services and links is undone after it."""
    yield shared_bed
    shared_bed.mend()


@pytest.fixture
def links(bed: ThreeServers) -> Iterator[Links]:
    links = Links()
    yield links
    links.heal_all(*(server.host for server in bed), bed.laptop.host)


@pytest.fixture
def clone(bed: ThreeServers) -> str:
    """A clone on the laptop with everything that has been pushed so far."""
    return bed.laptop.clone(bed.servers[0].https)
