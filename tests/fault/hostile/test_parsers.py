"""No bytes do more to our own parsers than be refused: by hypothesis, and by atheris where it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fault.hostile.parsers import PARSERS, SEEDS

ROOT = Path(__file__).parents[3]
needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="not possible here: atheris is not installed (pip install --group fuzz)"
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few places cut out, doubled or overwritten, or bytes out of nothing."""
    data = bytearray(draw(st.sampled_from([seed for seed in seeds if len(seed) < 2000]) | st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        other = draw(st.sampled_from([b"", bytes(data[start:end]) * 2]) | st.binary(max_size=8))
        data[start:end] = other
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_no_seed_does_more_than_be_refused(name: str) -> None:
    for seed in SEEDS[name]:
        PARSERS[name](seed)


@pytest.mark.parametrize("name", PARSERS)
def test_no_mutation_of_a_seed_does_more_than_be_refused(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(mutated(SEEDS[name]))
    def tried(data: bytes) -> None:
        PARSERS[name](data)

    tried()


def fuzzed(name: str, seconds: int, folder: Path) -> str:
    """What libFuzzer said in so many seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.hostile.fuzz", name, str(seconds), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 100,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stderr


@needs_atheris
@pytest.mark.slow
def test_atheris_finds_nothing_in_a_few_seconds_and_keeps_its_corpus(tmp_path: Path) -> None:
    assert "Done" in fuzzed("all", 5, tmp_path)
    seeds = sum(map(len, SEEDS.values()))
    assert len(list((tmp_path / "corpus-all").iterdir())) > seeds
    assert [path.name for path in tmp_path.iterdir()] == ["corpus-all"]


def test_where_atheris_is_missing_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.hostile.fuzz", "all", "1", str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("atheris is not installed")


@needs_atheris
@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PARSERS)
def test_atheris_finds_nothing_in_a_minute(name: str, tmp_path: Path) -> None:
    said = fuzzed(name, 60, tmp_path)
    print(next((line for line in said.splitlines() if line.startswith("Done")), ""))  # noqa: T201 -- the number of runs
