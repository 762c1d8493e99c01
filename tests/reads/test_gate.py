"""The read gate: a fetch from one site sees every push that another site has answered before."""

from __future__ import annotations

import sys

import pytest

from tests.support import git
from tests.support.assertions import Pushed, accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.sites import Site


@pytest.fixture
def gated(make_group: MakeGroup) -> Group:
    return make_group(2, settings={"piehole.readGate": "strict"})


def fetched(site: Site, ref: str = MAIN, *, gate: bool = True) -> Pushed:
    """What a user gets who lists a ref of this site now."""
    command = f"{sys.executable} -m piehole.cli upload-pack" if gate else "git upload-pack"
    work = site.group.folder
    return git.git(work, "ls-remote", f"--upload-pack={command}", str(site.repository), ref, check=False)


def test_a_push_to_one_site_is_seen_by_every_fetch_from_another_one_that_starts_afterwards(gated: Group) -> None:
    work, _ = gated.begun()
    for number in range(5):
        oid = git.commit(work, f"commit {number}")
        accepted(git.push(work, gated[0].repository, "HEAD:main"))
        got = fetched(gated[1])
        assert got.stdout.split()[:1] == [oid], got.stderr
