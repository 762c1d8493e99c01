"""The checker is worth what it finds: bugs planted in a copy of the program, one at a time, are each seen in a short run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.history.bed import ROOT
from tests.fault.history.mutants import MUTANTS, Mutant
from tests.fault.history.pushers import Habits
from tests.fault.history.run import Chaos, run
from tests.fault.tree import Tree


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_bug_can_still_be_planted(mutant: Mutant) -> None:
    """Quick, so that whoever moves the code notices here."""
    for patch in mutant.patches:
        count = (ROOT / patch.file).read_text().count(patch.old)
        assert count == 1, f"{patch.file} has this text {count} times, not once:\n{patch.old}"


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_is_seen(mutant: Mutant, etcd_binary: Path, tmp_path: Path) -> None:
    chaos = Chaos(
        seed=1,
        faults=mutant.faults,
        seconds=mutant.seconds,
        sites=mutant.sites,
        pushers=mutant.pushers,
        habits=Habits(dict(mutant.weights), pause=mutant.pause, home=mutant.home),
        converge=5.0,
        source=planted(mutant, tmp_path).folder,
        copies=mutant.copies,
        readers=mutant.readers,
        reading_pause=0.05,
    )
    result = run(chaos, tmp_path / "run", etcd_binary)
    rules = {one.rule for one in result.violations}
    first = next((one for one in result.violations if one.rule in mutant.caught_by), None)
    print(f"\n{mutant.name}: {sorted(rules)}; {first}; {result.summary(chaos.seed)}")  # noqa: T201 -- for the docs
    assert first is not None, f"{mutant.name} was not seen: {sorted(rules)} {result.trouble}"


def planted(mutant: Mutant, folder: Path) -> Tree:
    tree = Tree(folder / "tree")
    for patch in mutant.patches:
        tree.patch(patch.file, patch.old, patch.new)
    return tree
