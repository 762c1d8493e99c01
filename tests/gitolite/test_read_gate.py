"""The read gate before gitolite's git: the trigger PRE_GIT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gitolite.bed import Bed, GitoliteSite
from tests.support.git import commit, git
from tests.support.wait import until

pytestmark = pytest.mark.slow


@pytest.fixture
def gated(lima: GitoliteSite) -> Iterator[GitoliteSite]:
    """A site with the line that docs/guides/gitolite.md names, and a gate that refuses."""
    before = lima.rc.read_text()
    lima.rc.write_text(before.replace("# $RC{NON_CORE} .=", "$RC{NON_CORE} .="))
    assert lima.rc.read_text() != before
    repository = lima.repository("tools")
    for name, value in (("readGate", "strict"), ("readWait", "0.3")):
        git(repository, "config", f"piehole.{name}", value)
    yield lima
    lima.rc.write_text(before)
    git(repository, "config", "--unset", "piehole.readGate")


def test_a_user_waits_at_the_gate_and_a_peer_passes_by(
    bed: Bed, oslo: GitoliteSite, gated: GitoliteSite, work: Path, branch: str
) -> None:
    ref = f"refs/heads/{branch}"
    oid = commit(work)
    assert oslo.push("alice", work, "tools", f"HEAD:{ref}").returncode == 0
    bed.arrives("tools", oid, ref)

    def listed(who: str) -> tuple[int, str, str]:
        done = bed.as_user(who, "ls-remote", gated.url("tools"), ref)
        return done.returncode, done.stdout.partition("\t")[0], done.stderr

    until(lambda: listed("alice")[:2] == (0, oid), 30, "a user gets what is there")
    bed.etcd.put(bed.ref_key("tools", f"{ref}-lost"), "1" * 40)
    try:
        until(lambda: "piehole: behind: " in listed("alice")[2], 30, "a user is refused")
        assert listed("alice")[0] != 0
        assert listed("piehole-oslo")[:2] == (0, oid)
        # A push does not read.
        new = commit(work)
        assert gated.push("alice", work, "tools", f"HEAD:{ref}").returncode == 0
        bed.arrives("tools", new, ref)
    finally:
        bed.etcd.put(bed.ref_key("tools", f"{ref}-lost"), "0" * 40)
