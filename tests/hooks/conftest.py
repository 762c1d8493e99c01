from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.groups import Group, MakeGroup
from tests.support.pushes import catching_up
from tests.support.wait import until


@pytest.fixture
def world(make_group: MakeGroup) -> Iterator[Group]:
    """A group whose sites have no controller; what a refused push started to catch up must end with the test."""
    group = make_group(0)
    yield group
    for site in group:
        until(lambda site=site: not catching_up(site.repository), 30, f"nothing catches up at {site} any more")  # type: ignore[misc]
