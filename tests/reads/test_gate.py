"""The read gate: a fetch from one site sees every push that another site has answered before, or says that it may not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reads.bed import FRONTS, Front, lagging, oid_of
from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup

Push = Callable[[str], str]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Front:
    return Front(tmp_path / "bin", request.param)


@pytest.fixture
def quick(tmp_path: Path) -> Front:
    """Where it does not matter which of the two it is."""
    return Front(tmp_path / "bin", "read-gate.pl")


def gate(group: Group, mode: str, wait: float) -> Group:
    """Set the gate of all sites."""
    for site in group:
        git.git(site.repository, "config", "piehole.readGate", mode)
        git.git(site.repository, "config", "piehole.readWait", f"{wait}")
    return group


def pushed(group: Group, site: int = 0) -> str:
    """A new commit that a site has accepted."""
    oid = group.commit()
    accepted(git.push(group.work, group[site].repository, "HEAD:main"))
    return oid


def test_a_push_to_one_site_is_seen_by_every_fetch_from_another_one_that_starts_afterwards(
    make_group: MakeGroup, front: Front
) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "20"})
    for number in range(10):
        oid = pushed(group, number % 2)
        for site in group:
            got = front.listed(site)
            assert oid_of(got) == oid, got.stderr
            assert not got.stderr


def test_a_site_that_lags_behind_refuses_or_warns_and_is_waited_for(make_group: MakeGroup, front: Front) -> None:
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "0.3"})
    old = pushed(group)
    group.arrives(MAIN, old)
    with lagging(group, "b"):
        new = pushed(group)
        refused = front.listed(group[1])
        assert (refused.returncode, refused.stdout) == (128, "")
        assert "remote error: piehole: behind: " in refused.stderr
        assert "has not reached the newest state of the group 'g'" in refused.stderr
        assert git.git(group.folder, "ls-remote", str(group[1].repository), MAIN).stdout.startswith(old), "no lag"
    group.arrives(MAIN, new)
    gate(group, "wait", 0.3)
    with lagging(group, "b"):
        old, new = new, pushed(group)
        warned = front.listed(group[1])
        assert (warned.returncode, oid_of(warned)) == (0, old)
        assert warned.stderr.startswith("piehole: behind: ")
        assert "What you get may be out of date." in warned.stderr
    group.arrives(MAIN, new)
    gate(group, "strict", 20)
    with lagging(group, "b") as lag:
        new = pushed(group)
        timer = threading.Timer(0.5, lag.end)
        timer.start()
        assert oid_of(front.listed(group[1])) == new
        timer.join()
