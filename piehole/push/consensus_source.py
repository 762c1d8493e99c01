"""Where a decision's consensus values come from when nobody keeps a view of etcd: one linearizable read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from piehole.deadline import Deadline
from piehole.errors import Halted, PieholeError
from piehole.group import progress, rollback_guard
from piehole.group.group_state import Readout
from piehole.group.replica import Local
from piehole.refs import Command

_LOOK_EVERY = 0.03  # seconds


class Linearizable:
    """Reads everything anew. ``nudge`` makes sure that this site is catching up."""

    def __init__(self, local: Local, nudge: Callable[[], None]) -> None:
        self._local = local
        self._nudge = nudge

    def readouts(self, commands: Sequence[Command], deadline: Deadline) -> Iterator[Readout]:
        yield self._local.swapper.read(commands, deadline)

    def halted(self, readout: Readout) -> Halted | None:
        # The disk is read after etcd, so it may already know a newer progress record than the one in the readout.
        # That passes; a real disagreement stays.
        disk = rollback_guard.load(self._local.git_dir)
        found = rollback_guard.check(self._local.config, disk, readout)
        for _ in range(3):
            if found is None or readout.progress is None:
                break
            readout = self._local.swapper.read([], Deadline(2))
            disk = rollback_guard.load(self._local.git_dir)
            found = rollback_guard.check(self._local.config, disk, readout)
        return found or progress.forgotten(self._local, disk, Deadline(2))

    def catch_up(self, ref: str, oid: str, deadline: Deadline) -> str:
        repository = self._local.repository
        try:
            if repository.read_ref(ref) == oid:
                return ""
            repository.check_owner()
            self._nudge()
        except PieholeError as error:
            return f"This site could not catch up first: {error}"
        while not deadline.passed:
            time.sleep(_LOOK_EVERY)
            if repository.read_ref(ref) == oid:
                return ""
        return (
            "This site has not caught up yet: if the pull brings nothing new, wait a moment, and see `piehole status`."
        )
