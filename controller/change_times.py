"""When the changes of one group were heard of: how long a site has lacked the oldest change that it lacks."""

from __future__ import annotations

from typing import Final

_MOST: Final = 64


class ChangeTimes:
    """Bounded: where there are many changes, neighbours are remembered together, with the time of the first. So no answer is too late.

    :param since: nothing is known of changes up to this revision
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self._known: list[
            tuple[int, float]
        ] = []  # the last revision of some changes, and when the first of them was heard of

    def note(self, revision: int, at: float) -> None:
        """All changes after the last that was noted, up to this revision, were heard of now."""
        self._known.append((revision, at))
        if len(self._known) > _MOST:
            old, new = self._known[: _MOST // 2], self._known[_MOST // 2 :]
            self._known = [(last[0], first[1]) for first, last in zip(old[::2], old[1::2], strict=True)] + new

    def after(self, revision: int) -> float | None:
        """When the first change after this revision was heard of, or one shortly before it; None where that is not known."""
        if revision < self.since:
            return None
        return next((at for last, at in self._known if last > revision), None)

    def forget(self, revision: int) -> None:
        """Every site has all changes up to this revision."""
        self._known = [one for one in self._known if one[0] > revision]
