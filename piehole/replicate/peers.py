"""Which peer to fetch from: a pure order, and a memory of those that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_FIRST_PENALTY: Final = 2.0  # seconds; doubled by each further failure in a row
_LONGEST_PENALTY: Final = 120.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another site of the group, as its records say. ``left``: it was made to leave, and may be gone."""

    site: str
    url: str
    progress: int = -1
    left: bool = False


class Health:
    """Remembers which peers failed lately, so that they are asked last. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: Mapping[str, tuple[int, float]] = {}

    def failed(self, site: str) -> None:
        count = self._failures.get(site, (0, 0.0))[0] + 1
        until = self._clock() + min(_FIRST_PENALTY * 2 ** min(count - 1, 10), _LONGEST_PENALTY)
        self._failures = {**self._failures, site: (count, until)}

    def succeeded(self, site: str) -> None:
        if site in self._failures:
            self._failures = {name: value for name, value in self._failures.items() if name != site}

    def suspect(self, site: str) -> bool:
        return self._failures.get(site, (0, 0.0))[1] > self._clock()


def order(peers: list[Peer], revision: int, origin: str, suspect: Callable[[str], bool]) -> list[Peer]:
    """First the site that made the push, then sites whose progress has passed ``revision``, then anyone.

    Sites that left come after all that did not, and suspects last.

    :param revision: the newest mod_revision among the refs whose objects are wanted
    :param origin: the site that the push record names, ``""`` where it is not known
    """
    return sorted(
        peers,
        key=lambda peer: (
            suspect(peer.site),
            peer.left,
            peer.site != origin,
            peer.progress < revision,
            peer.site,
        ),
    )
