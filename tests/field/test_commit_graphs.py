"""A commit-graph that still lists commits which the store has pruned: nothing that piehole does is misled by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.assertions import accepted, arrives
from tests.support.command_line import piehole_in_process as piehole
from tests.support.git import MAIN, clone, commit, git, has_object, push, rev_parse
from tests.support.groups import MakeGroup
from tests.support.wait import PATIENCE, until


@pytest.mark.parametrize("started", [True, False], ids=["controller", "no controller"])
def test_a_dropped_tip_that_comes_back_arrives_though_the_graph_lists_it(
    make_group: MakeGroup, tmp_path: Path, started: bool
) -> None:
    group = make_group(2, started=started)
    a, b = group
    work, first = group.begun()
    dropped = commit(work, "dropped")
    accepted(push(work, a.repository, "HEAD:main"))
    if started:
        arrives(group, MAIN, dropped)
    else:
        assert group.reconcile("a", "b").status == 0
    git(b.repository, "commit-graph", "write", "--reachable", "--split")
    accepted(push(work, a.repository, "--force", f"{first}:main"))
    if started:
        until(lambda: b.kept() == {dropped}, PATIENCE, "b keeps the tip")
    else:
        assert group.reconcile("a", "b").status == 0
    # An administrator drops the kept tip and prunes; the graph stays as it was.
    git(b.repository, "update-ref", "-d", f"refs/piehole/kept/{dropped}")
    git(b.repository, "reflog", "expire", "--expire=now", "--all")
    git(b.repository, "-c", "gc.writeCommitGraph=false", "gc", "-q", "--prune=now")
    assert not has_object(b.repository, dropped)
    back = commit(work, "onto the dropped one")
    accepted(push(work, a.repository, "HEAD:main"))
    if started:
        arrives(group, MAIN, back)
    else:
        once = group.reconcile("a", "b")
        assert once.status == 0, once
    assert b.at() == back
    assert has_object(b.repository, dropped)
    mine = clone(b.repository, tmp_path / "clone", "--no-local")
    assert rev_parse(mine) == back
    commit(mine, "at b")
    accepted(push(mine, b.repository, "HEAD:main"))
    assert ": corrupt: " not in piehole("status", "-C", b.repository).out
