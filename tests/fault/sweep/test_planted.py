"""The sweep can fail: a bug that is planted in the copies is seen by the fault that it takes to see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed
from tests.fault.sweep.checks import violations
from tests.fault.sweep.disaster import LEASE, Disaster, DisasterStory
from tests.fault.sweep.story import Fault, Story
from tests.fault.tree import Tree
from tests.support.etcd import EtcdProcess


def unknown_is_refused(tree: Tree) -> None:
    """A swap whose answer is lost is taken for one that did not happen."""
    tree.patch("piehole/push/swap.py", "if not (error.maybe_sent or earlier):", "if True:")


def tips_are_not_kept(tree: Tree) -> None:
    tree.patch(
        "piehole/repository/kept_tips.py",
        "    if not oids:\n        return\n    names =",
        "    return\n    names =",
    )


def locks_stay(tree: Tree) -> None:
    """What a killed receive-pack left is nobody's business."""
    tree.patch("piehole/repository/stale_locks.py", "    if not dead:\n        return\n", "    return\n")


def swap_goes_without_copies(tree: Tree) -> None:
    gate = "piehole/push/copies_gate.py"
    tree.patch(gate, "        return basis.writes and bool(new", "        return False and bool(new")
    tree.patch(gate, "        if not self._promised.get(group, True):", "        if True:")


def copies_are_told_before_they_are_there(tree: Tree) -> None:
    tree.patch(
        "piehole/replicate/hold_copies.py",
        "        self._hide()\n        reached",
        "        self.tell(push_id, asked, request.lease)\n        raise Senseless('planted')\n        reached",
    )


def copies_are_held_by_no_ref(tree: Tree) -> None:
    tree.patch("piehole/replicate/hold_copies.py", "            held_refs.hold(repository, begun, push_id, oids)\n", "")


def swap_does_not_compare_copies(tree: Tree) -> None:
    tree.patch(
        "piehole/push/swap.py", "        return compares + list(proposal.copies.compares)", "        return compares"
    )


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("plant", "disaster"),
    [
        (swap_goes_without_copies, Disaster(Step.SWAPPED)),
        (copies_are_told_before_they_are_there, Disaster(Step.SWAPPED)),
        (copies_are_held_by_no_ref, Disaster(Step.SWAPPED)),
        (swap_does_not_compare_copies, Disaster(LEASE)),
    ],
    ids=["swap-without-copies", "told-before", "held-by-no-ref", "swap-compares-none"],
)
def test_a_planted_bug_of_copies_is_seen(
    sweep_etcd: EtcdProcess,
    git_env: dict[str, str],
    tmp_path: Path,
    plant: Callable[[Tree], None],
    disaster: Disaster,
) -> None:
    bed = Bed(tmp_path, sweep_etcd, f"/{tmp_path.name}", git_env, plant)
    try:
        found = DisasterStory(bed, disaster).tell(begin_again=False)
    finally:
        bed.end()
    assert [one for one in found if "no site has" in one], found


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("plant", "fault", "words"),
    [
        (unknown_is_refused, Fault(Step.SWAPPED, "error"), "was refused, and is in the history"),
        (tips_are_not_kept, Fault(Step.TIPS_KEPT, "kill"), "is not reachable at"),
        (locks_stay, Fault(Step.PREPARED_BEGUN, "killpush"), "no push of"),
    ],
    ids=["unknown-is-refused", "tips-are-not-kept", "locks-stay"],
)
def test_a_planted_bug_is_seen(
    sweep_etcd: EtcdProcess,
    git_env: dict[str, str],
    tmp_path: Path,
    plant: Callable[[Tree], None],
    fault: Fault,
    words: str,
) -> None:
    bed = Bed(tmp_path, sweep_etcd, f"/{tmp_path.name}", git_env, plant)
    try:
        found = violations(bed, Story(bed, fault).tell())
    except AssertionError as stopped:
        found = [str(stopped)]
    finally:
        bed.end()
    assert [one for one in found if words in one], found
