"""A controller that is dead, hung, or wakes at the wrong moment: pushes go on, and each is settled exactly once."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.support import git
from tests.support.assertions import accepted
from tests.support.git import MAIN
from tests.support.groups import Group, MakeGroup
from tests.support.wait import until


def push_ids(group: Group) -> list[str]:
    """The id of every push record that was ever written for main, oldest first."""
    pushes = {change.revision: change.value for change in group.etcd.history(group.key("@push"))}
    moved = [change.revision for change in group.etcd.history(group.key(MAIN))]
    return [json.loads(pushes[revision] or "{}")["id"] for revision in moved if revision in pushes]


def test_a_push_after_kill_9_works_at_once_and_is_replicated_when_it_is_back(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    fence = group.value("@fence")
    group[0].kill()
    oid = git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.arrives(MAIN, oid)  # the other site's controller fetches it all the same
    group[1].kill()
    newer = git.commit(work, "two")
    accepted(git.push(work, "origin", "HEAD:main"))
    group.start()
    group.arrives(MAIN, newer)
    assert group.value("@fence") == fence  # nobody had been asked, so nothing was uncertain


def test_a_push_beside_a_hung_controller_waits_for_it_once_and_is_settled_once(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    branches = [f"HEAD:branch{n}" for n in range(4)]
    git.commit(work, "zero")
    group[0].kill()
    began = time.monotonic()
    accepted(git.push(work, "origin", "HEAD:main", *branches))
    without = time.monotonic() - began
    group[0].start().pause()
    oid = git.commit(work, "one")
    began = time.monotonic()
    accepted(git.push(work, "origin", "HEAD:main", *branches))
    # A second to find out, and not one for each ref (the factor is for what else this machine does).
    assert time.monotonic() - began < 2 * without + 3
    group[0].resume()
    group.arrives(MAIN, oid)
    assert len(group.history()) == 2
    assert len(set(push_ids(group))) == 2


def test_a_controller_that_wakes_drops_what_its_hook_has_decided_without_it(
    make_group: MakeGroup, tmp_path: Path
) -> None:
    group = make_group(2)
    site = group[0]
    work = site.clone()
    git.commit(work, "one")
    accepted(git.push(work, "origin", "HEAD:main"))
    site.pause()
    oid = git.commit(work, "two")
    accepted(git.push(work, "origin", "HEAD:main"))
    third = git.commit(work, "three")
    accepted(git.push(work, "origin", "HEAD:main"))
    site.resume()
    group.arrives(MAIN, third)
    until(lambda: site.progress() >= group.etcd.look(group.key(MAIN)).mod_revision, 10, "it has settled down")  # type: ignore[union-attr]
    assert group.history()[1:] == [oid, third]
    assert len(set(push_ids(group))) == 3


def test_one_controller_killed_during_a_fetch_leaves_nothing_that_the_next_one_minds(make_group: MakeGroup) -> None:
    group = make_group(2)
    work = group[0].clone()
    for n in range(30):
        git.commit(work, f"n{n}", file=f"f{n}", content="x" * 20_000)
    for _ in range(5):
        oid = git.commit(work, "more")
        accepted(git.push(work, "origin", "HEAD:main"))
        group[1].kill()
        group[1].start()
    group.arrives(MAIN, oid)
    group[1].wait_event("reconcile")
    assert not list((group[1].repository / "objects").glob("tmp_objdir-piehole-*"))
    group[1].fsck()
