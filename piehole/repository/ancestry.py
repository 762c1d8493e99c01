"""Which old tips their new values contain, for many pairs at once: a process per pair would take a mass move minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from piehole import git

# What `git rev-list ARGUMENTS --stdin` prints for these revisions; None where it cannot walk them.
Walk = Callable[[Sequence[str], Iterable[str]], bytes | None]

_FEW: Final = 4  # pairs that are quicker asked one by one


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
