"""The types of objects that were looked up just now."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from piehole.refs import Command, is_zero
from piehole.repository.repository import Repository

_RECENT: Final = 0.5  # seconds for which the type of an object need not be looked up again
_KNOWN: Final = 10_000


class RecentKinds:
    """A push of many refs asks about the same few objects again and again, so what was found just now is not looked up again: whatever is
    pruned meanwhile could be pruned right after the look-up as well.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: tuple[float, dict[str, str]] = (0.0, {})

    def of(self, moves: Sequence[Command]) -> dict[str, str]:
        """The types of the moves' objects, as :meth:`Repository.kinds`."""
        oids = dict.fromkeys(oid for move in moves for oid in (move.old, move.new) if not is_zero(oid))
        until, known = self._known
        if monotonic() > until or len(known) > _KNOWN:
            until, known = self._known = (monotonic() + _RECENT, {})
        unknown = [oid for oid in oids if oid not in known]
        known |= self._repository.kinds(unknown) if unknown else {}
        return {oid: known[oid] for oid in oids if oid in known}
