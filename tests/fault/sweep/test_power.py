"""A site that says it holds what a push brings has it after a power failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed, Plant
from tests.fault.sweep.power import COMPILER, Disk, SyncLog
from tests.fault.tree import Tree
from tests.support import git
from tests.support.etcd import EtcdProcess
from tests.support.pushes import start_push
from tests.support.wait import until

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler: apt-get install gcc"),
]


def nothing(_: Tree) -> None:
    return


def no_sync_of_objects(tree: Tree) -> None:
    tree.patch("piehole/transfer/quarantine.py", "                    sync(file)\n", "                    pass\n")


def no_sync_of_held_refs(tree: Tree) -> None:
    tree.patch("piehole/repository/held_refs.py", "    _sync(repository, push_id, oids)\n", "")


@pytest.mark.slow
def test_a_site_that_says_it_holds_a_push_has_it_after_a_power_failure(
    sweep_etcd: EtcdProcess, git_env: dict[str, str], tmp_path: Path
) -> None:
    assert lost(sweep_etcd, git_env, tmp_path, nothing) == ""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("plant", "words"),
    [(no_sync_of_objects, "objects: "), (no_sync_of_held_refs, "no held ref")],
    ids=["objects", "refs"],
)
def test_a_hold_without_fsync_is_seen(
    sweep_etcd: EtcdProcess, git_env: dict[str, str], tmp_path: Path, plant: Plant, words: str
) -> None:
    assert words in lost(sweep_etcd, git_env, tmp_path, plant)


def lost(etcd: EtcdProcess, environment: dict[str, str], folder: Path, plant: Plant) -> str:
    """What a power failure takes of a push from the one other site that holds it, right before that site says so; ``""``: nothing."""
    log = SyncLog(folder)
    bed = Bed(folder / "bed", etcd, f"/{folder.name}", environment | {"LD_PRELOAD": str(log.library)}, plant)
    try:
        home, holder, other = bed.sites
        bed.promise(2)
        other.kill()
        oid = bed.commit(bed.base, "a push that is held")
        disk = Disk(holder.repository, log)
        telling = holder.order(Step.COPY_TELLING, "hold")
        push = start_push(bed.work, home.repository, f"{oid}:refs/heads/held")
        until(lambda: holder.obeyed(telling), 60, "the site is about to say that it holds the push")
        after = disk.after_power_failure(folder / "after.git")
        holder.kill()
        push.kill()
        push.communicate()
    finally:
        bed.end()
    refs = git.git(after, "for-each-ref", "--format=%(objectname)", "refs/piehole/held", check=False).stdout.split()
    if oid not in refs:
        return f"no held ref: {refs}"
    walked = git.git(after, "rev-list", "--objects", oid, check=False)
    return "" if walked.returncode == 0 else f"objects: {walked.stderr}"
