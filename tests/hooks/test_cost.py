"""What a push costs with hooks, with and without somebody who answers them. Measures, and promises nothing."""

from __future__ import annotations

from contextlib import nullcontext
from statistics import median
from time import monotonic

import pytest

from tests.support.assertions import accepted
from tests.support.git import commit, make_bare, push
from tests.support.groups import Group
from tests.support.hook_socket import serving

ROUNDS = 15


@pytest.mark.bench
@pytest.mark.parametrize("how", ["no hooks", "no controller", "a controller"])
def test_the_cost_of_a_push_of_one_commit(world: Group, how: str) -> None:
    site, work, _ = world.founded()
    if how == "no hooks":
        site = make_bare(world.folder / "plain.git")
        accepted(push(work, site, "HEAD:main"))
    took = []
    with serving(site) if how == "a controller" else nullcontext():
        for _ in range(ROUNDS):
            commit(work)
            began = monotonic()
            accepted(push(work, site, "HEAD:main"))
            took.append((monotonic() - began) * 1000)
    print(f"\npush of one commit, {how}: {median(took):.0f} ms (least {min(took):.0f}, most {max(took):.0f})")  # noqa: T201 -- a measurement is for reading
