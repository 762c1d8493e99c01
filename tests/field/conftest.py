from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.groups import Group, MakeGroup


@pytest.fixture
def pair(make_group: MakeGroup) -> Iterator[Group]:
    """Two sites in step, with main and topic; a controller answers at each, and replicates nothing."""
    group = make_group(2, started=False)
    group.commit("one")
    group.push("a", "HEAD:main", "HEAD:topic")
    assert group.reconcile("a", "b").status == 0
    with group.answering():
        yield group
