"""A site's disk loses a pack, or bytes of it. Only what another site has as well: the loss of the only copy is no fault of piehole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from piehole.group.replica import Replica
from piehole.replicate import examination
from tests.fault.history.losses import DiskLosses
from tests.fault.history.place import Place
from tests.support.git import git

Heal = Callable[[], None]
_OLD: Final = 0.5  # seconds: a younger pack is just being published
_PAUSE: Final = 0.3  # seconds between two examinations, which would take the time of the repair
_EXAMINE: Final = 20.0  # seconds


class Damage:
    """One at a time: two damaged sites may have lost the same."""

    def __init__(self, places: Sequence[Place], later: Callable[[float, Heal], None], losses: DiskLosses) -> None:
        """
        :param later: has something done after so many seconds
        :param losses: of whole disks, which may leave the only copy with a site
        """
        self._losses = losses
        self._places = places
        self._later = later
        self._hurt: Place | None = None

    @property
    def is_hurt(self) -> bool:
        return self._hurt is not None

    def make(self, place: Place, variant: int) -> Heal | None:
        """Lose a pack of this site, or zero 20 bytes of it, and return what waits for its repair; None where there is no pack that
        another site has as well.
        """
        if self._hurt is not None or self._losses.under_way:
            return None
        whole = {oid for other in self._places if other is not place for oid in _reached(other)}
        packs = place.site.repository / "objects" / "pack"
        for pack in sorted(packs.glob("*.pack"), key=lambda path: path.name):
            index = pack.with_suffix(".idx")
            if pack.with_suffix(".keep").exists() or time.time() - pack.stat().st_mtime < _OLD or not index.exists():
                continue
            listed = git(packs, "verify-pack", "-v", str(index), check=False).stdout.splitlines()
            held = {line.split()[0] for line in listed if len(line.split()) >= 5 and len(line.split()[0]) == 40}
            if held and held <= whole:
                self._hurt = place
                if variant % 2:
                    pack.chmod(0o644)
                    with pack.open("r+b") as file:
                        file.seek(pack.stat().st_size // 2)
                        file.write(bytes(20))
                else:
                    index.unlink()
                    pack.unlink()
                return self._await_repair
        return None

    def _await_repair(self) -> None:
        if not self._is_repaired():
            time.sleep(_PAUSE)
            self._later(1.0, self._await_repair)

    def _is_repaired(self) -> bool:
        """Examine the site, as `piehole status` does: its controller repairs what that finds."""
        if self._hurt is None:
            return True
        replica = Replica.open(self._hurt.site.repository)
        if examination.corrupt(replica, _EXAMINE):
            return False
        self._hurt = None
        return True


def _reached(place: Place) -> list[str]:
    shown = git(place.site.repository, "rev-list", "--objects", "--branches", "--tags", check=False)
    return [line.split(" ")[0] for line in shown.stdout.splitlines()] if shown.returncode == 0 else []
