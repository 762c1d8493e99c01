"""Whether the history of a pushed value is complete here: git has proven it for most pushes, and here it is known for which it has not."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import CORRUPT, NO_ACCESS, GitError
from piehole.group.config import Config
from piehole.push.rules import Refuse
from piehole.refs import Command
from piehole.repository import fitness

_RECENT: Final = 1.0  # seconds for which a proof counts: `update` and `prepared` ask one after the other
_KNOWN: Final = 10_000
_LEAST: Final = 0.1  # seconds


class CompletenessCheck:
    """Proves the histories of one repository's pushes, where something may hide gaps from git."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._proven: tuple[float, set[str]] = (0.0, set())

    def gaps(self) -> fitness.Gaps | None:
        """What may hide gaps from git here; None: what git accepts is complete."""
        return fitness.gaps(self._config.git_dir, self._config.admits_gaps)

    def refusal(self, moves: Sequence[Command], deadline: Deadline) -> Refuse | None:
        """Refuse a history that is not complete here: no other site could fetch it."""
        gaps = self.gaps()
        if gaps is None:
            return None
        until, proven = self._proven
        if monotonic() > until or len(proven) > _KNOWN:
            until, proven = self._proven = (monotonic() + _RECENT, set())
        fix = f"({gaps.why} at this site; see `piehole check` there)"
        for move in moves:
            if move.deletes or move.new in proven:
                continue
            try:
                complete = self._is_complete(move, gaps, deadline)
            except GitError as error:
                why = f"cannot tell in time whether the history of {move.new} is complete: {error}"
                return Refuse(NO_ACCESS, f"{why} {fix}")
            if not complete:
                return Refuse(
                    CORRUPT,
                    f"cannot move {move.ref}: the history of {move.new} is not complete here; push from a complete clone "
                    f"(`git fetch --unshallow`). {fix}",
                )
            proven.add(move.new)
        return None

    def _is_complete(self, move: Command, gaps: fitness.Gaps, deadline: Deadline) -> bool:
        from piehole.transfer import connectivity  # which a push hardly ever needs

        seconds = max(deadline.remaining() / 2, _LEAST)
        return connectivity.lacks_nothing(self._config.git_dir, [move.new], beyond_refs=not gaps.old, seconds=seconds)
