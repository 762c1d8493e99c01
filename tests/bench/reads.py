"""A fetch where nothing is missing: with git alone, and behind the read gate. All kinds take turns."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from tests.bench.bed import Bed, Site
from tests.bench.report import Row, Target
from tests.support.git import git

PLAIN: Final = "fetch of nothing: git upload-pack"
AND_READ: Final = "fetch of nothing: git upload-pack, after one linearizable read"
GATE: Final = "fetch of nothing: read-gate.pl"
OFF: Final = "fetch of nothing: read-gate.pl, piehole.readGate = off"
PYTHON: Final = "fetch of nothing: piehole upload-pack"
READ: Final = "etcd: one linearizable read, warm"

_DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_WARM_UP: Final = 3
_TOLD: Final[dict[str, tuple[str | None, str | None, Target | None, str]]] = {
    PLAIN: (None, None, None, "by path, protocol v2"),
    AND_READ: (PLAIN, None, None, "on a warm connection"),
    GATE: (AND_READ, None, ("over beside", 4.0), "strict; 1 Range of two keys a fetch"),
    OFF: (PLAIN, None, None, "the gate is in place and switched off"),
    PYTHON: (AND_READ, None, None, "strict; as the command that pip installs"),
    READ: (None, None, None, "one member with fsync"),
}


def measure(bed: Bed, rounds: int, ends: ExitStack) -> list[Row]:
    """Rounds in which each kind has its turn."""
    gated, off = (Site(bed.folder / f"gate-{mode}", f"gate-{mode}", bed.etcd.endpoint) for mode in ("strict", "off"))
    git(gated.repository, "config", "piehole.readGate", "strict")
    for site in (gated, off):
        site.start_controller(ends)
        site.begin()
    gate = bed.folder / "upload-pack"
    shutil.copy(_DEPLOY / "read-gate.pl", gate)
    command = f"{Path(sys.executable).parent}/piehole upload-pack"
    etcd = Etcd([bed.etcd.endpoint])
    ends.callback(etcd.close)

    def read() -> None:
        etcd.head(b"/piehole", deadline=Deadline(5))

    def read_and_fetch() -> None:
        read()
        _fetch(gated, "git upload-pack")

    kinds: dict[str, Callable[[], object]] = {
        PLAIN: lambda: _fetch(gated, "git upload-pack"),
        AND_READ: read_and_fetch,
        GATE: lambda: _fetch(gated, str(gate)),
        OFF: lambda: _fetch(off, str(gate)),
        PYTHON: lambda: _fetch(gated, command),
        READ: read,
    }
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(_WARM_UP + rounds):
        for name in random.sample(list(kinds), len(kinds)):
            began = time.monotonic()
            kinds[name]()
            if number >= _WARM_UP:
                seconds[name].append(1000 * (time.monotonic() - began))
    return [Row(name, "ms", seconds[name], *told[:3], note=told[3]) for name, told in _TOLD.items()]


def _fetch(site: Site, upload_pack: str) -> None:
    done = subprocess.run(
        ["git", "fetch", "--quiet", f"--upload-pack={upload_pack}", "origin"],
        cwd=site.work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
