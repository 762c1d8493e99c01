"""Is everything here that a ref needs, and will it stay? Existence of the tip proves neither.

An interrupted fetch leaves tips without their closure; and objects that no ref holds may be in the middle of being
pruned.
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

# Arguments and stdin of `git ARGUMENTS`; whether it succeeded.
RunGit = Callable[[Sequence[str], bytes], bool]

_FATAL: Final = (0, 1, 128)
_SECURE: Final = Limits()


def existing(git_dir: Path, oids: Collection[str]) -> set[str]:
    """Those of the oids whose object exists here; nothing is said about their closure. :raises GitError: git failed"""
    if not oids:
        return set()
    done = git.run(git_dir, ["cat-file", "--batch-check=%(objectname)"], stdin=_lines(oids))
    return {line for line in git.lines(done.stdout) if " " not in line}


def is_closed(run_git: RunGit, wants: Sequence[str], bases: Sequence[str]) -> bool:
    """Whether the closure of all wants is complete, given that the closure of each base is.

    :param bases: oids that exist and that local refs hold; none: everything that the refs hold is taken for complete
    """
    walk = ["rev-list", "--objects", "--quiet", "--stdin"]
    if bases:
        # A stale commit-graph would vouch for commits that were pruned. The walk is short, it needs no graph.
        return run_git(["-c", "core.commitGraph=false", *walk], _lines([*wants, *(f"^{base}" for base in bases)]))
    # As arguments: git 2.39 refuses --not and --all on stdin.
    return run_git([*walk, "--not", "--all"], _lines(wants))


def is_self_contained(run_git: RunGit, wants: Sequence[str]) -> bool:
    """Whether the closure of all wants is complete, nothing taken for granted."""
    return run_git(["-c", "core.commitGraph=false", "rev-list", "--objects", "--quiet", "--stdin"], _lines(wants))


@dataclass(frozen=True, slots=True)
class ClosureCheck:
    """The wants whose object is absent, or whose closure is not complete here; and those of the bases that exist."""

    missing: set[str]
    bases: list[str]


def check_closures(git_dir: Path, wants: Collection[str], *, bases: Sequence[str]) -> ClosureCheck:
    """What of the wants is here.

    One walk when all is well, a bisection when not. It is bounded by those ``bases`` that exist; they must be tips
    that local refs hold. Nothing missing says what is here now: see ``secure`` for what no ref holds.

    :raises GitError: git failed in another way than by not finding an object
    """

    def run_git(arguments: Sequence[str], stdin: bytes) -> bool:
        return git.run(git_dir, arguments, stdin=stdin, ok=_FATAL).returncode == 0

    wanted = list(dict.fromkeys(wants))
    here = existing(git_dir, {*wanted, *bases})
    known = [base for base in bases if base in here]
    absent = {want for want in wanted if want not in here}
    return ClosureCheck(absent | _incomplete(run_git, [want for want in wanted if want in here], known), known)


def missing(git_dir: Path, wants: Collection[str], *, bases: Sequence[str]) -> set[str]:
    """As :func:`check_closures`, what is missing alone."""
    return check_closures(git_dir, wants, bases=bases).missing


def _incomplete(run_git: RunGit, wants: Sequence[str], bases: Sequence[str]) -> set[str]:
    if not wants or is_closed(run_git, wants, bases):
        return set()
    if len(wants) == 1:
        return {wants[0]}
    middle = len(wants) // 2
    return _incomplete(run_git, wants[:middle], bases) | _incomplete(run_git, wants[middle:], bases)


def secure(git_dir: Path, wants: Collection[str], *, hold: Hold) -> None:
    """Make what the wants need survive any prune until ``hold`` ends; the refs move before that.

    Objects that no ref reaches are copied into a new pack, whose ``.keep`` lies there before it does. Nothing happens
    where refs reach everything already.

    :raises TransferError: something is missing, or was pruned meanwhile
    """
    with Watchdog(_SECURE) as watchdog, tempfile.TemporaryFile() as listed:
        watchdog.listen(False)
        walk = ["rev-list", "--objects", "--stdin", "--not", "--all"]
        status, words = call(watchdog, git_dir, walk, stdin=_lines(wants), stdout=listed, env=git.environment())
        if status:
            raise TransferError(f"objects that refs shall need are missing from {git_dir}: {words}")
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
        # What the walk took for reachable may have lost its ref meanwhile; what was copied cannot vanish any more.
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
