"""A thousand new refs in one push, all at once and one by one."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench.bed import FSYNC, Bed, Server, Shells, Site
from tests.bench.report import Row, Target
from tests.support.git import rev_parse

_PATIENCE: Final = 60.0
_AFTERWARDS: Final = 1.5  # seconds in which a site follows up its first commit: no part of the push
_NO_HOOKS: Final = "no hooks"
_SHELLS: Final = "three empty shell hooks"
_PIEHOLE: Final = "piehole"
_KINDS: Final = (_NO_HOOKS, _SHELLS, _PIEHOLE)
_ATOMIC: Final = "--atomic"
_MODES: Final = (_ATOMIC, "without --atomic")
# Seconds for each thousand of refs, over no hooks; seconds for each thousand, in all.
_ATOMIC_TARGET: Final = 1.6
_SINGLE_TARGET: Final = 7.0


def measure(bed: Bed, refs: int, repetitions: int) -> tuple[list[Row], list[str]]:
    """All kinds in turn; the rows, and a sentence for each kind whose push took too long and was ended, so that it is not tried again.

    The site is a group of one, so that other sites' work, which is other machines' elsewhere, is not in the pusher's time.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    given_up: dict[str, str] = {}
    for repetition in range(repetitions):
        for kind, mode in ((kind, mode) for kind in _KINDS for mode in _MODES):
            if kind in given_up:
                continue
            name = _name(refs, kind, mode)
            folder = bed.folder / "many" / f"{_KINDS.index(kind)}{_MODES.index(mode)}{repetition}"
            try:
                with ExitStack() as ends:
                    found[name].append(_push(_new(kind, folder, bed, ends), refs, mode))
            except subprocess.TimeoutExpired:
                given_up[kind] = f"{name}: more than {_PATIENCE:.0f} s, ended; not tried again."
    named = [(kind, mode) for mode in _MODES for kind in _KINDS]
    return [_row(refs, kind, mode, found) for kind, mode in named if _name(refs, kind, mode) in found], [
        *given_up.values()
    ]


def _new(kind: str, folder: Path, bed: Bed, ends: ExitStack) -> Server:
    """A server for one push. It cannot be had by undoing another: with each thousand refs that are there already, git itself takes 0.3 s
    more; and where a thousand were just deleted, ext4 without a journal takes 0.5 ms more for each new file, for up to a minute (it
    passes over inodes that were freed of late: ``recently_deleted`` in fs/ext4/ialloc.c).
    """
    server: Server
    if kind == _PIEHOLE:
        server = Site(folder, f"many-{folder.name}", bed.quiet_etcd.endpoint)
        server.start_controller(ends)
    else:
        server = Shells(folder) if kind == _SHELLS else Server(folder)
    server.begin()
    time.sleep(_AFTERWARDS)
    return server


def _push(server: Server, refs: int, mode: str) -> float:
    """The seconds of one push."""
    tip = rev_parse(server.work, "origin/main")
    took, _ = server.push(
        [f"{tip}:refs/heads/many/{number:05}" for number in range(refs)],
        *((mode,) if mode == _ATOMIC else ()),
        timeout=_PATIENCE,
    )
    return took


def _row(refs: int, kind: str, mode: str, found: dict[str, list[float]]) -> Row:
    scale = refs / 1000
    atomic = mode == _ATOMIC
    target: Target | None = None
    if kind == _PIEHOLE:
        target = ("over beside", _ATOMIC_TARGET * scale) if atomic else ("at most", _SINGLE_TARGET * scale)
    beside = None if kind == _NO_HOOKS else _name(refs, _NO_HOOKS, mode)
    name = _name(refs, kind, mode)
    return Row(
        name, "s", found[name], beside, None, target, f"core.fsync={FSYNC}; all at a commit that is there already"
    )


def _name(refs: int, kind: str, mode: str) -> str:
    return f"{refs:,} new refs, {mode}: {kind}"
