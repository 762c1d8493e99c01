"""A thousand new refs in one push, all at once and one by one."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from typing import Final

from tests.bench.bed import FSYNC, MAIN, Bed, Server
from tests.bench.report import Row, Target
from tests.support.git import git, rev_parse

_PATIENCE: Final = 60.0
_AFTERWARDS: Final = 1.5  # seconds in which a site follows up what was pushed: no part of the next push
_ATOMIC: Final = "--atomic"
_MODES: Final = (_ATOMIC, "without --atomic")
# Seconds for each thousand of refs, over no hooks; seconds for each thousand, in all.
_ATOMIC_TARGET: Final = 1.6
_SINGLE_TARGET: Final = 7.0


def measure(bed: Bed, refs: int, repetitions: int) -> tuple[list[Row], list[str]]:
    """All kinds in turn; the rows, and a sentence for each push that took too long and was ended.

    Such a push leaves git's locks behind, so its repository is not pushed to again. The site is a group of one, so that other
    sites' work, which is other machines' elsewhere, is not in the pusher's time.
    """
    kinds: dict[str, Server] = {"no hooks": bed.plain, "three empty shell hooks": bed.shell, "piehole": bed.single}
    for server in kinds.values():  # a clone that tracks them all becomes slower with each thousand
        git(server.work, "config", "remote.origin.fetch", f"+{MAIN}:refs/remotes/origin/main")
    found: defaultdict[str, list[float]] = defaultdict(list)
    given_up: dict[str, str] = {}
    for repetition in range(repetitions):
        for kind, mode in ((kind, mode) for kind in kinds for mode in _MODES):
            if kind in given_up:
                continue
            name = _name(refs, kind, mode)
            try:
                took = _push(kinds[kind], refs, f"refs/heads/many/{repetition}{_MODES.index(mode)}", mode)
                found[name].append(took)
            except subprocess.TimeoutExpired:
                given_up[kind] = f"{name}: more than {_PATIENCE:.0f} s, ended; not pushed to again."
    named = [(kind, mode) for mode in _MODES for kind in kinds]
    return [_row(refs, kind, mode, found) for kind, mode in named if _name(refs, kind, mode) in found], [
        *given_up.values()
    ]


def _push(server: Server, refs: int, folder: str, mode: str) -> float:
    """The seconds of one push. Another one undoes it, so that each finds the same repository: with each thousand refs that are there
    already, git itself takes 0.3 s more.
    """
    tip = rev_parse(server.work, "origin/main")
    names = [f"{folder}/{number:05}" for number in range(refs)]
    options = (mode,) if mode == _ATOMIC else ()
    took, _ = server.push([f"{tip}:{name}" for name in names], *options, timeout=_PATIENCE)
    server.push([f":{name}" for name in names], _ATOMIC, timeout=_PATIENCE)
    time.sleep(_AFTERWARDS)
    return took


def _row(refs: int, kind: str, mode: str, found: dict[str, list[float]]) -> Row:
    scale = refs / 1000
    atomic = mode == _ATOMIC
    target: Target | None = None
    if kind == "piehole":
        target = ("over beside", _ATOMIC_TARGET * scale) if atomic else ("at most", _SINGLE_TARGET * scale)
    beside = None if kind == "no hooks" else _name(refs, "no hooks", mode)
    name = _name(refs, kind, mode)
    return Row(
        name, "s", found[name], beside, None, target, f"core.fsync={FSYNC}; all at a commit that is there already"
    )


def _name(refs: int, kind: str, mode: str) -> str:
    return f"{refs:,} new refs, {mode}: {kind}"
