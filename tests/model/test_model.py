"""The models of the protocol (piehole.pml, copies.pml), searched by spin: nothing may fail, and each rule that is taken out must be missed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

MODEL: Final = Path(__file__).with_name("piehole.pml")
COPIES: Final = Path(__file__).with_name("copies.pml")
COMPILER: Final = shutil.which("gcc") or shutil.which("cc")
# Megabytes for the states; a search that needs more is cut short, and then the test fails.
MEMORY: Final = 6000

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and COMPILER), reason="needs spin and a C compiler: apt-get install spin gcc"
)

# Beginnings, as `init` in the model numbers them.
IN_STEP, BEHIND, DELETED_BEHIND, NO_REF = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Search:
    """What one search of the model found."""

    states: int
    seconds: float
    megabytes: float
    violated: str
    complete: bool

    def __str__(self) -> str:
        found = f"assertion violated: {self.violated}" if self.violated else "no error"
        return f"{self.states:,} states, {self.seconds:.1f} s, {self.megabytes:.0f} MB: {found}"


def search(folder: Path, numbers: Mapping[str, int], *names: str, exact: bool = True, model: Path = MODEL) -> Search:
    """Search all states of the model that the given macros make.

    :param numbers: macros that bound the search
    :param names: macros that take a rule out
    :param exact: keep the states themselves; else 64 bits of hash for each, which may overlook one in very many
    """
    macros = [f"-D{name}" for name in names] + [f"-D{name}={value}" for name, value in numbers.items()]
    subprocess.run(["spin", *macros, "-a", str(model)], cwd=folder, check=True, capture_output=True, timeout=60)
    keeping = "-DCOLLAPSE" if exact else "-DHC4"
    compile_ = [str(COMPILER), "-O2", "-w", "-DSAFETY", keeping, f"-DMEMLIM={MEMORY}", "-o", "pan", "pan.c"]
    subprocess.run(compile_, cwd=folder, check=True, capture_output=True, timeout=300)
    ran = subprocess.run(
        ["./pan", "-m100000", "-w24", "-n"], cwd=folder, check=True, capture_output=True, text=True, timeout=1700
    )
    return _read(ran.stdout)


def _read(text: str) -> Search:
    violated = re.search(r"^pan:\d+: (?:assertion violated\s*)?(.*?) \(at depth", text, re.MULTILINE)

    def number(pattern: str) -> float:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise AssertionError(f"spin did not say {pattern!r}:\n{text}")
        return float(found[1])

    errors = int(number(r"errors: (\d+)"))
    cut_short = re.search(r"max search depth too small|Search not completed|out of memory", text) is not None
    return Search(
        states=int(number(r"^\s*([\d.e+]+) states, stored")),
        seconds=number(r"elapsed time ([\d.e+-]+) seconds"),
        megabytes=number(r"^\s*([\d.]+)\s+total actual memory usage"),
        violated=violated[1] if violated and errors else "an end that is none" if errors else "",
        complete=not cut_short and not errors,
    )


def told(name: str, found: Search) -> None:
    print(f"\n{name}: {found}")  # noqa: T201 - the numbers are what docs/explanation/reliability.md quotes


@pytest.mark.slow
def test_nothing_fails_where_a_ref_is_created(tmp_path: Path) -> None:
    """The quick part of the searches below."""
    found = search(tmp_path, {"START": NO_REF, "KILLS": 0, "SILENCES": 1, "EDITS": 0})
    told("sound, a new ref", found)
    assert found.complete, found
    assert found.states > 100_000


SOUND: Final = [
    pytest.param({"KILLS": 0, "SILENCES": 1, "EDITS": 0, "RACES": 0}, True, id="an_answer_stays_away"),
    pytest.param({"START": NO_REF, "KILLS": 0, "SILENCES": 1, "EDITS": 1, "RACES": 0}, False, id="a_rewrite_by_hand"),
    pytest.param({"START": IN_STEP, "KILLS": 1, "SILENCES": 0, "EDITS": 0, "RACES": 0}, False, id="killed_in_step"),
    pytest.param({"START": BEHIND, "KILLS": 1, "SILENCES": 0, "EDITS": 0, "RACES": 0}, False, id="killed_behind"),
    pytest.param(
        {"START": DELETED_BEHIND, "KILLS": 1, "SILENCES": 0, "EDITS": 0, "RACES": 0}, False, id="killed_deleted_behind"
    ),
    pytest.param(
        {"START": NO_REF, "KILLS": 1, "SILENCES": 0, "EDITS": 0, "RACES": 0}, False, id="killed_with_a_new_ref"
    ),
]


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("numbers", "exact"), SOUND)
def test_nothing_fails_in_any_order_of_events(tmp_path: Path, numbers: dict[str, int], exact: bool) -> None:
    found = search(tmp_path, numbers, exact=exact)
    told(f"sound, {numbers}", found)
    assert found.complete, found


# What is taken out, and where the model looks for it.
MISSED: Final = {
    "NO_COMPARE": {"EDITS": 0},
    "NO_FENCE": {"EDITS": 0},
    "NO_FENCE_ON_REAP": {"EDITS": 0},
    "ABSENT_IS_DELETE": {"EDITS": 1, "START": IN_STEP},
    "SWAP_IN_UPDATE": {"EDITS": 0},
    "PROGRESS_EARLY": {"EDITS": 0, "START": DELETED_BEHIND},
    "UNKNOWN_IS_REFUSED": {"EDITS": 0},
    "NO_CONNECTIVITY": {"EDITS": 0, "START": BEHIND},
    "NO_KEEP": {"EDITS": 0},
    "DESIRED_FIRST": {"EDITS": 0},
    # Found by this model.
    "CLAIM_PAST_A_PUSH": {"EDITS": 0, "START": NO_REF},
    "MOVE_AS_PLANNED": {"EDITS": 0},
    "DELETE_UNDER_A_CREATION": {"EDITS": 1, "START": NO_REF},
}


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MISSED)
def test_each_rule_that_is_taken_out_is_missed(tmp_path: Path, name: str) -> None:
    found = search(tmp_path, {"KILLS": 0, "SILENCES": 1, "RACES": 1} | MISSED[name], name)
    told(name, found)
    assert found.violated, found


# ---- copies before the swap


@pytest.mark.slow
def test_one_push_and_its_copies_survive_the_loss_of_a_disk_at_any_moment(tmp_path: Path) -> None:
    found = search(tmp_path, {"PUSHES": 1}, model=COPIES)
    told("copies, one push", found)
    assert found.complete, found
    assert found.states > 5_000


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "numbers", [{"EXPIRIES": 0, "SILENCES": 1}, {"EXPIRIES": 1, "SILENCES": 1}], ids=["no_lease_ends", "a_lease_ends"]
)
def test_two_pushes_and_their_copies_survive_the_loss_of_a_disk_at_any_moment(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    found = search(tmp_path, numbers, exact=False, model=COPIES)
    told(f"copies, two pushes, {numbers}", found)
    assert found.complete, found


# What is taken out, and the number of pushes that it takes to see it.
COPIES_MISSED: Final = {
    "NO_COPIES": 1,
    "NO_FSYNC": 1,
    "NO_HOLD": 1,
    "NO_COMPARE": 1,
    "DROPPED_WITH_KEYS": 1,
    "DROPPED_WHEN_REPLACED": 2,
}


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", COPIES_MISSED)
def test_each_rule_of_copies_that_is_taken_out_is_missed(tmp_path: Path, name: str) -> None:
    found = search(tmp_path, {"PUSHES": COPIES_MISSED[name]}, name, model=COPIES)
    told(f"copies, {name}", found)
    assert found.violated, found
