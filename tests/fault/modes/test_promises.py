"""What a group or a site was told to promise beyond the agreement itself: copies before the answer, and fresh reads."""

from __future__ import annotations

from pathlib import Path

from tests.reads.bed import Front, oid_of
from tests.support import git
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.groups import MakeGroup


def test_site_lost(make_group: MakeGroup, tmp_path: Path) -> None:
    """The site that received a push is destroyed with its disk right after the answer. Where nobody could hold the push, it is refused."""
    group = make_group(3, settings={"piehole.copiesTimeout": "2"})
    a, b, c = group
    work, _ = group.begun()
    a.piehole("group", "set", "copies", "2")
    second = git.commit(work, "second")
    b.pause()
    c.pause()
    with group.unchanged(a.repository):
        refused(git.push(work, a.repository, "HEAD:main"), "copies")
    b.resume()
    accepted(git.push(work, a.repository, "HEAD:main"))
    a.kill()
    a.repository.rename(tmp_path / "destroyed.git")
    work.rename(tmp_path / "laptop")
    c.resume()
    group.arrives(MAIN, second, [b, c])
    for site in (b, c):
        site.fsck()


def test_stale_read(make_group: MakeGroup, tmp_path: Path) -> None:
    """A fetch from a site that lags behind gets no old state behind a strict gate, and waits for what is on its way."""
    group = make_group(2, settings={"piehole.readGate": "strict", "piehole.readWait": "1"})
    a, b = group
    work, first = group.begun()
    front = Front(tmp_path / "front", "piehole")
    assert oid_of(front.listed(b)) == first
    b.kill()
    second = git.commit(work, "second")
    accepted(git.push(work, a.repository, "HEAD:main"))
    listed = front.listed(b)
    assert listed.returncode != 0
    assert "piehole: behind:" in listed.stderr
    b.start()
    git.git(b.repository, "config", "piehole.readWait", "20")
    assert oid_of(front.listed(b)) == second
