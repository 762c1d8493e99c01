from __future__ import annotations

import pytest

from tests.support.groups import Group, MakeGroup


@pytest.fixture
def bed(make_group: MakeGroup) -> Group:
    """A group without a site yet."""
    return make_group(0)
