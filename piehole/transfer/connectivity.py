"""Check that everything a ref needs is in this repository, and keep it from being pruned before the ref moves.

The existence of a tip proves neither: an interrupted fetch leaves tips without their closure, and git may be pruning
objects that no ref holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import TransferError
from piehole.transfer.keep_files import Hold
from piehole.transfer.process import call
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.watchdog import Limits, Watchdog

# Runs `git ARGUMENTS` with this stdin; whether it succeeded.
RunGit = Callable[[Sequence[str], bytes], bool]

_FATAL: Final = (0, 1, 128)
_SECURE: Final = Limits()
# The border of a shallow repository is no end of a history: what lies behind it is missing.
_WHOLE: Final = ("--shallow-file", "")


def existing(git_dir: Path, oids: Collection[str]) -> set[str]:
    """The oids whose object exists here; their closure may be incomplete. :raises GitError: git failed"""
    if not oids:
        return set()
    done = git.run(git_dir, ["cat-file", "--batch-check=%(objectname)"], stdin=_lines(oids))
    return {line for line in git.lines(done.stdout) if " " not in line}


def is_closed(run_git: RunGit, wants: Sequence[str], bases: Sequence[str]) -> bool:
    """Whether the closure of all wants is complete, given that the closure of each base is.

    :param bases: oids that exist and that local refs hold; where none are given, everything that refs hold counts as complete
    """
    walk = [*_WHOLE, "rev-list", "--objects", "--quiet", "--stdin"]
    if bases:
        # A stale commit-graph lists commits that were pruned. The walk is short and needs no graph.
        return run_git(["-c", "core.commitGraph=false", *walk], _lines([*wants, *(f"^{base}" for base in bases)]))
    # As arguments: git 2.39 refuses --not and --all on stdin.
    return run_git([*walk, "--not", "--all"], _lines(wants))


def is_self_contained(run_git: RunGit, wants: Sequence[str]) -> bool:
    """Whether the closure of all wants is complete, by a full walk that relies on no ref."""
    walk = ["rev-list", "--objects", "--quiet", "--stdin"]
    return run_git([*_WHOLE, "-c", "core.commitGraph=false", *walk], _lines(wants))


def lacks_nothing(git_dir: Path, wants: Collection[str], *, beyond_refs: bool, seconds: float) -> bool:
    """Whether everything that the wants need is really here, whatever this repository takes for complete: shallow borders, promised
    objects, grafts and replacements do not count.

    :param beyond_refs: check only what no ref holds; False: walk all of it
    :raises GitError: git could not tell, or not within so many seconds
    """
    walk = [
        "rev-list",
        "--objects",
        "--quiet",
        "--missing=print",
        "--stdin",
        *(("--not", "--all") if beyond_refs else ()),
    ]
    done = git.run(
        git_dir,
        [*_WHOLE, "-c", "core.commitGraph=false", *walk],
        stdin=_lines(wants),
        timeout=seconds,
        extra_env={"GIT_NO_LAZY_FETCH": "1"},
        ok=_FATAL,
    )
    return done.returncode == 0 and not done.stdout


@dataclass(frozen=True, slots=True)
class ClosureCheck:
    """``missing``: the wants whose object is absent or whose closure is incomplete here; ``bases``: those bases that exist."""

    missing: set[str]
    bases: list[str]


def check_closures(git_dir: Path, wants: Collection[str], *, bases: Sequence[str]) -> ClosureCheck:
    """Find which of the wants are complete here: by one walk when all are, by a bisection when not.

    The walk ends at those ``bases`` that exist; they must be tips that local refs hold. A want that is complete may still be
    pruned where no ref holds it: see ``secure``.

    :raises GitError: git failed in another way than by not finding an object
    """
    run_git = _runner(git_dir)
    here = existing(git_dir, {*wants, *bases})
    known = [base for base in bases if base in here]
    return ClosureCheck(_incomplete(wants, here, lambda some: is_closed(run_git, some, known)), known)


def incomplete(git_dir: Path, wants: Collection[str]) -> set[str]:
    """The wants whose object is absent or whose closure is incomplete here, found by a full walk: no ref is relied upon.

    :raises GitError: git failed in another way than by not finding an object
    """
    run_git = _runner(git_dir)
    return _incomplete(wants, existing(git_dir, wants), lambda some: is_self_contained(run_git, some))


def _runner(git_dir: Path) -> RunGit:
    def run_git(arguments: Sequence[str], stdin: bytes) -> bool:
        return git.run(git_dir, arguments, stdin=stdin, ok=_FATAL).returncode == 0

    return run_git


def _incomplete(wants: Collection[str], here: Collection[str], complete: Callable[[Sequence[str]], bool]) -> set[str]:
    def bisect(some: Sequence[str]) -> set[str]:
        if not some or complete(some):
            return set()
        if len(some) == 1:
            return {some[0]}
        middle = len(some) // 2
        return bisect(some[:middle]) | bisect(some[middle:])

    wanted = list(dict.fromkeys(wants))
    return {want for want in wanted if want not in here} | bisect([want for want in wanted if want in here])


def secure(git_dir: Path, wants: Collection[str], *, hold: Hold) -> None:
    """Keep what the wants need from being pruned until ``hold`` ends; move the refs before that.

    Objects that no ref reaches are copied into a new pack whose ``.keep`` file is written first. Nothing happens where refs
    reach everything already.

    :raises TransferError: something is missing, or was pruned meanwhile
    """
    with Watchdog(_SECURE) as watchdog, tempfile.TemporaryFile() as listed:
        watchdog.listen(False)
        walk = ["rev-list", "--objects", "--stdin", "--not", "--all"]
        status, words = call(watchdog, git_dir, walk, stdin=_lines(wants), stdout=listed, env=git.environment())
        if status:
            raise TransferError(f"objects that refs will need are missing from {git_dir}: {words}")
        if listed.tell() == 0 and not listed.seek(0, 2):
            return
        listed.seek(0)
        with Quarantine(git_dir) as quarantine:
            pack = ["-c", "core.fsync=all", "pack-objects", "--quiet", "--delta-base-offset"]
            target = str(quarantine.pack_directory / "pack")
            status, words = call(watchdog, git_dir, [*pack, target], stdin=listed, env=quarantine.environment())
            received = quarantine.received()
            if status or not received:
                raise TransferError(f"objects vanished from {git_dir} while they were copied: {words}")
            quarantine.publish(received, hold)
        # What the walk found reachable may have lost its ref meanwhile. What was copied cannot vanish any more.
        status, words = call(
            watchdog,
            git_dir,
            ["rev-list", "--objects", "--quiet", *walk[2:]],
            stdin=_lines(wants),
            env=git.environment(),
        )
        if status:
            raise TransferError(f"objects vanished from {git_dir} while they were secured: {words}")


def _lines(oids: Collection[str]) -> bytes:
    return "".join(f"{oid}\n" for oid in oids).encode()
