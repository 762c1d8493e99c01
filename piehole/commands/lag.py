"""Replication lag in seconds: the age of the oldest change that a site lacks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdError
from piehole.group import keys, records, ref_log
from piehole.group.records import PushRecord
from piehole.group.replica import Replica


def age(stamp: str) -> float | None:
    """Seconds since a time in a record, by this machine's clock; None if the text is no time."""
    then = records.at(stamp)
    return None if then is None else round(max(0.0, time.time() - then), 1)


def times_after(replica: Replica, revisions: Sequence[int], newest: int, deadline: Deadline) -> dict[int, str]:
    """For each revision, when the first push after it was made; ``""`` where that is not known.

    :param newest: the newest revision that moved a ref of the group
    """
    from concurrent.futures import ThreadPoolExecutor  # which a group in step does not need

    with ThreadPoolExecutor(8) as pool:
        times = pool.map(lambda revision: _time_after(replica, revision, newest, deadline), revisions)
        return dict(zip(revisions, times, strict=True))


def _time_after(replica: Replica, revision: int, newest: int, deadline: Deadline) -> str:
    """When the first push after a revision was made, ``""`` where that is not known. (A ref's mod_revision tells of its last move alone.)"""
    k, group = replica.keyspace, replica.config.group
    push, idle = k.ref(group, keys.PUSH), max(0.1, deadline.remaining())
    try:
        with replica.etcd.watch(k.group_refs(group), revision, idle=idle, deadline=deadline) as watch:
            for batch in watch:
                for event in batch.events:
                    record = PushRecord.of(event.kv) if event.kv.key == push else None
                    if record is not None:
                        return record.time
                if batch.revision >= newest or deadline.passed:
                    break
    except Compacted:
        entries = ref_log.read(replica.git_dir)
        later = [(entry.revision, entry.time) for entry in entries if entry.revision > revision and entry.time]
        return min(later, default=(0, ""))[1]
    except EtcdError:
        pass  # the refs were read, and that is what counts
    return ""
