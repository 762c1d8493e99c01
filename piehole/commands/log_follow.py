"""The changes of a group's refs as they are agreed: each once, in order, across etcd's outages and compactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from piehole.commands.log import LoggedMove, from_history, known
from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdUnreachable, PieholeError
from piehole.etcd.json_gateway import CompactedAt
from piehole.group.replica import Replica
from piehole.refs import zero

_PATIENCE: Final = 5.0  # seconds for etcd to answer
_IDLE: Final = 15.0  # seconds without a message until another connection is tried
_LONGEST_PAUSE: Final = 2.0  # seconds between two tries


def follow(replica: Replica, before: Sequence[LoggedMove], note: Callable[[str], None]) -> Iterator[list[LoggedMove]]:
    """Yield the changes that are newer than those in ``before`` (newest first), those of one message of etcd together.

    :param note: gets a sentence when etcd stops answering and when it answers again
    :raises PieholeError: etcd went back behind what was yielded, or holds another group
    :raises EtcdRefused: etcd says no
    """
    none = zero(replica.config.object_format)
    last = before[0].entry.revision if before else 0
    values = {change.entry.ref: change.entry.new or none for change in reversed(before)}
    lost = False
    pause = 0.0
    compacted: int | None = None
    while True:
        try:
            if compacted is not None:
                moves, last = _forgotten(replica, last, compacted, values)
                compacted = None
                if moves:
                    yield moves
            for moves, reached in _from(replica, last, values):
                if lost:
                    note("etcd answers again.")
                last, lost, pause = reached, False, 0.0
                if moves:
                    yield moves
        except CompactedAt as gone:
            compacted = gone.revision
        except Compacted as error:
            raise PieholeError(f"what was shown reaches to revision {last}, and etcd is older: {error}") from error
        except EtcdUnreachable as error:
            if not lost:
                note(f"{str(error).removesuffix('.')}; what is agreed meanwhile is shown when it answers again.")
            lost, pause = True, min(_LONGEST_PAUSE, 2 * pause + 0.1)
            time.sleep(pause)


def _from(replica: Replica, last: int, values: dict[str, str]) -> Iterator[tuple[list[LoggedMove], int]]:
    """Each message of one watch, with the revision up to which it tells everything. The first comes when the watch begins, and is empty."""
    prefix = replica.keyspace.group_refs(replica.config.group)
    with replica.etcd.watch(prefix, last, idle=_IDLE, deadline=Deadline(_PATIENCE)) as watch:
        yield [], last
        for batch in watch:
            yield list(from_history(replica, batch.events, values)), batch.revision


def _forgotten(replica: Replica, last: int, compacted: int, values: dict[str, str]) -> tuple[list[LoggedMove], int]:
    """The changes after a revision that etcd has compacted away: what it still has, and what the local log has."""
    changes, wrong = known(replica)
    if wrong is not None:
        raise wrong
    newer = [change for change in reversed(changes) if change.entry.revision > last]
    none = zero(replica.config.object_format)
    values.update((change.entry.ref, change.entry.new or none) for change in newer)
    return newer, max([last, compacted, *(change.entry.revision for change in newer)])
