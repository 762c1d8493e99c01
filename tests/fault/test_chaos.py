"""Concurrent pushes while everything goes wrong: nothing that was acknowledged is lost, and the sites agree in the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fault.history.pushers import COPIES_WEIGHTS, Habits
from tests.fault.history.run import Chaos, Result, run
from tests.fault.history.schedule import COPIES_KINDS, schedule

# The bar of a long run.
PUSHES = 2_000
FAULTS = 60
SECONDS = 540.0
READS = 5_000
# The bar of a long run of a group that promises two copies.
COPIES_SECONDS = 900.0
# `make test-all` and CI play one short run; PIEHOLE_TEST_SEED chooses another seed.
SHORT = float(os.environ.get("PIEHOLE_TEST_SECONDS", "45"))
SEED = int(os.environ.get("PIEHOLE_TEST_SEED", "1"))


def judged(result: Result, seed: int) -> None:
    print(f"\n{result.summary(seed)}")  # noqa: T201 -- the figures, shown with -s
    told = "\n".join(str(one) for one in result.violations[:40])
    assert not result.violations, f"seed {seed}: {len(result.violations)} violations ({result.trouble})\n{told}"
    assert not result.trouble


@pytest.mark.slow
@pytest.mark.timeout(120 + 3 * SHORT)
def test_nothing_is_lost_and_nothing_forked_in_a_short_run(etcd_binary: Path, tmp_path: Path) -> None:
    result = run(Chaos(SEED, schedule(SEED, SHORT, gap=2.0), SHORT), tmp_path, etcd_binary)
    judged(result, SEED)
    assert result.told["ok"] > 20
    assert result.faults.total() > SHORT / 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sites_that_lose_packs_while_pushes_go_on_are_repaired(etcd_binary: Path, tmp_path: Path) -> None:
    """Every heal of a lost pack waits until the site is whole again; the endings run `git fsck` at each."""
    faults = schedule(SEED, 30.0, gap=2.0, kinds=("gc", "lost-pack", "controller-kill", "lost-pack"))
    result = run(Chaos(SEED, faults, 30.0), tmp_path, etcd_binary)
    judged(result, SEED)
    assert result.faults["lost-pack"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_copies_survive_the_loss_of_whole_sites_and_reads_are_fresh_in_a_short_run(
    etcd_binary: Path, tmp_path: Path
) -> None:
    kinds = ("disk-lost", "controller-kill", "link-cut", "hook-kill")
    faults = schedule(SEED, 25.0, gap=2.5, kinds=kinds)
    chaos = Chaos(
        SEED,
        faults,
        100.0,  # a machine that is busy with other tests makes few pushes in 25 seconds
        pushers=5,
        habits=Habits(COPIES_WEIGHTS),
        copies=2,
        readers=2,
        enough_pushes=40,
        enough_faults=0,
        enough_reads=12,
        least=25.0,
    )
    result = run(chaos, tmp_path, etcd_binary)
    judged(result, SEED)
    assert result.told["ok"] > 20
    assert result.swaps > 20
    assert result.faults["disk-lost"] >= 1
    assert result.reads["fresh"] > 10


@pytest.mark.faults
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("seed", "sites"), [(21, 3)])
def test_two_copies_survive_the_loss_of_whole_sites_and_reads_are_fresh_in_a_long_run(
    seed: int, sites: int, etcd_binary: Path, tmp_path: Path
) -> None:
    chaos = Chaos(
        seed,
        schedule(seed, COPIES_SECONDS, gap=6.0, kinds=COPIES_KINDS),
        COPIES_SECONDS,
        sites=sites,
        pushers=8,
        habits=Habits(COPIES_WEIGHTS),
        copies=2,
        readers=8,
        enough_pushes=PUSHES,
        enough_faults=FAULTS,
        enough_reads=READS,
    )
    result = run(chaos, tmp_path, etcd_binary)
    judged(result, seed)
    assert result.told["ok"] >= PUSHES
    assert result.faults.total() >= FAULTS
    assert result.faults["disk-lost"] >= 3
    assert result.reads["fresh"] >= READS


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("seed", "sites"), [(11, 3), (12, 4), (13, 5)])
def test_nothing_is_lost_and_nothing_forked_in_a_long_run(
    seed: int, sites: int, etcd_binary: Path, tmp_path: Path
) -> None:
    chaos = Chaos(
        seed,
        schedule(seed, SECONDS, gap=5.0),
        SECONDS,
        sites=sites,
        pushers=12,
        enough_pushes=PUSHES,
        enough_faults=FAULTS,
    )
    result = run(chaos, tmp_path, etcd_binary)
    judged(result, seed)
    assert result.told["ok"] >= PUSHES
    assert result.faults.total() >= FAULTS
    assert result.seconds < 600
