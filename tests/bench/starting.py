"""How long commands take that somebody waits for, beside the start of Python itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.bench.bed import Bed
from tests.bench.report import Row, Target

PYTHON: Final = "start: python"
_PIEHOLE: Final = str(Path(sys.executable).parent / "piehole")
_TYPED: Final = "piehole status --wa"


def measure(bed: Bed, repetitions: int) -> list[Row]:
    """All in turns; the first round, which reads the modules from the disk, does not count."""
    site = str(bed.home.repository)
    asked: dict[str, tuple[list[str], Target | None]] = {
        PYTHON: ([sys.executable, "-c", "pass"], None),
        "start: piehole --help": ([_PIEHOLE, "--help"], ("at most", 120.0)),
        "start: piehole status --help": ([_PIEHOLE, "status", "--help"], ("at most", 120.0)),
        "start: piehole status": ([_PIEHOLE, "status", "-C", site], ("at most", 200.0)),
        "start: completion of an option": ([_PIEHOLE, "completion", "bash", "--line", _TYPED], ("at most", 150.0)),
    }
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(repetitions + 1):
        for name, (command, _target) in asked.items():
            began = time.monotonic()
            done = subprocess.run(command, cwd=bed.folder, capture_output=True, text=True, check=False)
            found[name].append(1000 * (time.monotonic() - began))
            assert done.stderr == "", done.stderr
    return [
        Row(name, "ms", found[name][1:], None if name == PYTHON else PYTHON, None, target)
        for name, (_, target) in asked.items()
    ]
