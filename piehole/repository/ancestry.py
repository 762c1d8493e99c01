"""Which commits descend from which: for many pairs at once, and for a push's commits without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from piehole import git
from piehole.refs import LENGTHS
from piehole.transfer.git_objects import InflateBudget, LeaveToGit, read_loose, tree_and_parents

# What `git rev-list ARGUMENTS --stdin` prints for these revisions; None where it cannot walk them.
Walk = Callable[[Sequence[str], Iterable[str]], bytes | None]

_FEW: Final = 4  # pairs that are quicker asked one by one
_FEW_COMMITS: Final = 100  # commits that are read here; git is quicker with more
_LARGEST: Final = 1 << 18  # bytes of a commit that is read here, deflated and inflated together


def contained(
    pairs: Sequence[tuple[str, str]], walk: Walk, is_ancestor: Callable[[str, str], bool]
) -> set[tuple[str, str]]:
    """Those of the pairs ``(old, new)`` of commits in which ``new`` descends from ``old``."""
    olds, news = {old for old, _ in pairs}, {new for _, new in pairs}
    outside = walk([], [*olds, *(f"^{new}" for new in news)]) if len(pairs) > _FEW else None
    graph = walk(["--parents"], [*news, *(f"^{old}" for old in olds)]) if outside is not None else None
    if outside is None or graph is None:
        return {(old, new) for old, new in pairs if is_ancestor(old, new)}
    lost = set(git.lines(outside))
    inside = [(old, new) for old, new in pairs if old not in lost]
    parents = _graph(graph)
    # The walk ends at every old tip, so a path that leads through another one is asked for.
    return {(old, new) for old, new in inside if reaches(parents, new, old) or is_ancestor(old, new)}


def _graph(listed: bytes) -> dict[str, list[str]]:
    words = (line.split(" ") for line in git.lines(listed))
    return {commit: above for commit, *above in words}


def reaches(parents: Mapping[str, Sequence[str]], new: str, old: str) -> bool:
    """Whether ``old`` is ``new``, or above it as far as these parents of commits tell."""
    seen: set[str] = set()
    waiting = [new]
    while waiting:
        commit = waiting.pop()
        if commit == old:
            return True
        if commit not in seen:
            seen.add(commit)
            waiting += parents.get(commit, ())
    return False


def adds(git_dir: Path, old: str | None, new: str) -> bool:
    """Whether ``new`` is a loose commit that, where ``old`` is given, descends from it through loose commits alone.

    It needs no process, and what a push has just brought is loose as a rule. False means "not known": ask git. In a shallow
    repository, whose history is cut, nothing descends from anything.
    """
    first = loose_parents(git_dir, new)
    if first is None or (git_dir / "shallow").exists():
        return False
    pending, seen = list(first), {new}
    while old is not None and old not in pending:
        if not pending or len(seen) > _FEW_COMMITS:
            return False
        oid = pending.pop()
        if oid not in seen:
            seen.add(oid)
            pending += loose_parents(git_dir, oid) or ()
    return True


def loose_parents(git_dir: Path, oid: str) -> Sequence[str] | None:
    """The parents of a commit; None where no file of its own holds it, sound and of the form that git writes."""
    raw = bytes.fromhex(oid)
    object_format = next(name for name, length in LENGTHS.items() if length == len(oid))
    try:
        commit = read_loose(git_dir / "objects", raw, object_format, InflateBudget(_LARGEST))
        return tree_and_parents(commit, len(raw))[1] if commit is not None else None
    except (LeaveToGit, OSError):
        return None
