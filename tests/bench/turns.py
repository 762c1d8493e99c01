"""A push of one commit, and how soon others have it: all kinds take turns, so that a busy minute is every kind's."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from piehole.deadline import Deadline
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Put
from tests.bench.bed import FSYNC, Bed, Server, arrival
from tests.bench.fetchers import DulwichFetch, GitFetch
from tests.bench.report import Row, Target

PLAIN: Final = "push: no hooks"
SHELL: Final = "push: three empty shell hooks"
PYTHON: Final = "push: one empty Python hook"
PIEHOLE: Final = "push: piehole"
ALONE: Final = "push: piehole, no controller"
FOREGROUND: Final = "push: mirror hook, foreground"
BACKGROUND: Final = "push: mirror hook, background"

BY_HAND: Final = "lag: git fetch by hand, 1 site"
LAG: Final = "lag: piehole, 2 sites"
MIRROR_LAG: Final = "lag: mirror hook in the background, 2 sites"
DULWICH: Final = "lag: dulwich's own fetch, 1 site"

SWAP: Final = "etcd: one compare and put, warm"
FLUSH: Final = "disk: write and fsync 4 KiB"
START_SHELL: Final = "process: sh"
START_PYTHON: Final = "process: python -IS"
START_GIT: Final = "process: git"

_WARM_UP: Final = 3
_PAGE: Final = b"\0" * 4096
_FSYNC: Final = f"core.fsync={FSYNC}"
# Beside, physical limit, target, note.
_TOLD: Final[dict[str, tuple[str | None, str | None, Target | None, str]]] = {
    PLAIN: (None, FLUSH, None, _FSYNC),
    SHELL: (PLAIN, None, None, f"pre-receive, update, reference-transaction; {_FSYNC}"),
    PYTHON: (PLAIN, None, None, f"update; {_FSYNC}"),
    PIEHOLE: (PLAIN, SWAP, ("over beside", 30.0), f"a group of three sites; {_FSYNC}, etcd with fsync"),
    ALONE: (PLAIN, SWAP, ("over beside", 220.0), f"a group of one; {_FSYNC}, etcd with fsync"),
    FOREGROUND: (PLAIN, None, None, f"git push --mirror to two sites in post-receive; {_FSYNC} there, too"),
    BACKGROUND: (PLAIN, None, None, f"the same, both in the background; {_FSYNC} there, too"),
    BY_HAND: (None, None, None, _FSYNC),
    LAG: (BY_HAND, None, ("times beside", 1.0), f"from the push's return; {_FSYNC} at each site"),
    MIRROR_LAG: (BY_HAND, None, None, f"from the push's return; {_FSYNC} at each site"),
    DULWICH: (BY_HAND, None, None, "in a process that runs already; core.fsyncObjectFiles=true"),
    SWAP: (None, FLUSH, None, "one member with fsync"),
    FLUSH: (None, None, None, ""),
    START_SHELL: (None, None, None, "sh -c :"),
    START_PYTHON: (None, None, None, "the interpreter that the hooks use"),
    START_GIT: (None, None, None, "git version"),
}


def measure(bed: Bed, rounds: int, most: float) -> list[Row]:
    """Rounds in which each kind has its turn.

    :param most: seconds after which no further round begins; a slow machine does fewer
    """
    turns = _Turns(bed)
    started = time.monotonic()
    try:
        for number in range(_WARM_UP + rounds):
            if number == _WARM_UP:
                turns.forget()
            if number > _WARM_UP and time.monotonic() - started > most:
                break
            turns.play()
    finally:
        turns.close()
    return [
        Row(name, "ms", [1000 * seconds for seconds in turns.seconds[name]], beside, limit, target, note)
        for name, (beside, limit, target, note) in _TOLD.items()
    ]


class _Turns:
    def __init__(self, bed: Bed) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._bed = bed
        self._etcd = Etcd([bed.etcd.endpoint])
        self._by_hand = GitFetch(bed.folder)
        self._dulwich = DulwichFetch(bed.folder)
        for one in (self._by_hand, self._dulwich):
            one.fetch(bed.home.repository)
        self._kinds: list[Callable[[], None]] = [
            *(lambda name=name, server=server: self._push(name, server) for name, server in _alone(bed).items()),
            self._push_to_the_group,
            self._push_to_the_mirrored,
            self._touch_the_machine,
        ]

    def forget(self) -> None:
        self.seconds.clear()

    def close(self) -> None:
        self._etcd.close()

    def play(self) -> None:
        """One turn of each kind, in any order."""
        for server in self._bed.pushed_to:
            server.stock_up()
        for kind in random.sample(self._kinds, len(self._kinds)):
            kind()

    def _push(self, name: str, server: Server) -> None:
        self.seconds[name].append(server.push_one_commit().seconds)

    def _push_to_the_group(self) -> None:
        home = self._bed.home
        pushed = home.push_one_commit()
        self.seconds[PIEHOLE].append(pushed.seconds)
        self.seconds[LAG].append(arrival(self._bed.others, pushed.oid, pushed.ended))
        self.seconds[BY_HAND].append(self._by_hand.fetch(home.repository))
        self.seconds[DULWICH].append(self._dulwich.fetch(home.repository))

    def _push_to_the_mirrored(self) -> None:
        pushed = self._bed.background.push_one_commit()
        self.seconds[BACKGROUND].append(pushed.seconds)
        self.seconds[MIRROR_LAG].append(arrival(self._bed.background.others, pushed.oid, pushed.ended))

    def _touch_the_machine(self) -> None:
        self.seconds[SWAP] += [_swap(self._etcd) for _ in range(5)]
        self.seconds[FLUSH] += [_flush(self._bed.folder / "page") for _ in range(2)]
        self.seconds[START_SHELL].append(_start(["/bin/sh", "-c", ":"]))
        self.seconds[START_PYTHON].append(_start([sys.executable, "-IS", "-c", "pass"]))
        self.seconds[START_GIT].append(_start(["git", "version"]))


def _alone(bed: Bed) -> dict[str, Server]:
    """The kinds after whose push nothing is waited for."""
    return {PLAIN: bed.plain, SHELL: bed.shell, PYTHON: bed.python, ALONE: bed.alone, FOREGROUND: bed.foreground}


def _swap(etcd: Etcd) -> float:
    key = b"/bench/key"
    found = etcd.range(key, deadline=Deadline(5)).kvs
    compare = Compare(key, mod_revision=found[0].mod_revision if found else 0)
    started = time.monotonic()
    result = etcd.txn([compare], [Put(key, b"0" * 40)], deadline=Deadline(5))
    took = time.monotonic() - started
    assert result.succeeded
    return took


def _flush(path: Path) -> float:
    started = time.monotonic()
    with path.open("wb", buffering=0) as file:
        file.write(_PAGE)
        os.fsync(file.fileno())
    return time.monotonic() - started


def _start(command: Sequence[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started
