"""A whole site is lost with its disk, and comes back as an administrator brings it back: a new machine takes over its name, empty."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from piehole.errors import PieholeError
from tests.fault.history.bed import Bed
from tests.fault.history.evidence import Loss
from tests.fault.history.place import Place
from tests.support.etcd_raw import RawEtcdError

Heal = Callable[[], None]
_AGAIN: Final = 1.0  # seconds


class DiskLosses:
    """One at a time, and the next only when all sites have what the group had when the last one came back: what a promise of two copies
    allows for. In a group that promises none, no disk is lost: it would lose commits by design.
    """

    def __init__(self, bed: Bed, later: Callable[[float, Heal], None], is_used: Callable[[Place], bool]) -> None:
        """
        :param later: has something done after so many seconds
        :param is_used: whether something else must not miss its files there, or relies on other sites meanwhile
        """
        self._bed = bed
        self._later = later
        self._is_used = is_used
        self._since = 0

    @property
    def under_way(self) -> bool:
        """Whether some commit may be at fewer sites than promised."""
        bed = self._bed
        if any(place.is_lost for place in bed.places):
            return True
        return any(bed.recorder.progress(bed.group.name, place.site.name) < self._since for place in bed.places)

    def make(self, place: Place) -> Heal | None:
        bed = self._bed
        if bed.copies < 2 or place.is_down or self.under_way or self._is_used(place):
            return None
        place.lose_disk(bed.folder / "lost" / f"{place.site.name}-{len(bed.losses) + 1}.git")
        bed.losses.append(Loss(place.site.name, place.lost_at, float("inf")))
        return lambda: self._begin_again(place)

    def _begin_again(self, place: Place) -> None:
        try:
            # Whatever the old machine has written into etcd is older than this.
            place.lost_at_revision = self._bed.revision()
            self._bed.install(place, replace=True)
        except (PieholeError, OSError, RawEtcdError):  # etcd cannot be reached now, or the disk is full
            self._later(_AGAIN, lambda: self._begin_again(place))
            return
        self._bed.losses[-1] = replace(self._bed.losses[-1], back=time.monotonic())
        self._since = place.lost_at_revision
        place.replaced()
