"""The informer's cache: pure bookkeeping, so no etcd here."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cache import REMEMBERED, Cache, Gap
from piehole.deadline import Deadline
from piehole.etcd.model import Batch, Event, KeyValue, Snapshot
from tests.support.wait import until


def bucket(key: bytes) -> str | None:
    """``g/k`` is in bucket ``g``; a key without a slash is of no interest."""
    group, slash, _ = key.partition(b"/")
    return group.decode() if slash else None


class History:
    """What etcd would do: keys with their counters, and the events that tell of it."""

    def __init__(self) -> None:
        self.revision = 1
        self.kvs: dict[bytes, KeyValue] = {}

    def put(self, key: bytes, value: bytes = b"") -> Event:
        self.revision += 1
        old = self.kvs.get(key)
        created, version = (old.create_revision, old.version + 1) if old else (self.revision, 1)
        self.kvs[key] = KeyValue(key, value, self.revision, created, version)
        return Event("put", self.kvs[key])

    def delete(self, key: bytes) -> Event:
        self.revision += 1
        del self.kvs[key]
        return Event("delete", KeyValue(key, b"", self.revision, 0, 0))

    def snapshot(self) -> Snapshot:
        return Snapshot(self.revision, [self.kvs[key] for key in sorted(self.kvs)], False, len(self.kvs))

    def batch(self, *events: Event) -> Batch:
        return Batch(self.revision, events)

    def bucket(self, name: str) -> dict[bytes, KeyValue]:
        return {key: kv for key, kv in self.kvs.items() if bucket(key) == name}


steps = st.lists(st.tuples(st.sampled_from([b"a/x", b"a/y", b"b/x", b"lone"]), st.booleans(), st.booleans()))


@given(steps)
def test_the_cache_is_at_each_revision_what_etcd_is_and_no_view_ever_changes(
    steps: list[tuple[bytes, bool, bool]],
) -> None:
    etcd, cache = History(), Cache(bucket)
    cache.replace(etcd.snapshot())
    lent = []
    for key, delete, look in steps:
        event = etcd.delete(key) if delete and key in etcd.kvs else etcd.put(key)
        changed = cache.apply(etcd.batch(event))
        assert changed == ({bucket(key)} - {None})
        if look:
            lent.append((cache.view("a"), etcd.revision, etcd.bucket("a")))
    assert cache.view("b").entries == etcd.bucket("b")
    cache.replace(etcd.snapshot())  # an emptied bucket stays until then
    assert set(cache._buckets) == {name for name in ("a", "b") if etcd.bucket(name)}
    for view, revision, entries in lent:
        assert (view.revision, view.entries) == (revision, entries)


@given(steps, st.integers(0, 40))
def test_what_has_changed_after_a_revision_is_what_differs(steps: list[tuple[bytes, bool, bool]], after: int) -> None:
    etcd, cache = History(), Cache(bucket)
    etcd.put(b"a/x")
    cache.replace(etcd.snapshot())
    past = {etcd.revision: (dict(etcd.kvs), cache.newest("a"))}
    for key, delete, _ in steps:
        cache.apply(etcd.batch(etcd.delete(key) if delete and key in etcd.kvs else etcd.put(key)))
        past[etcd.revision] = (dict(etcd.kvs), cache.newest("a"))
    changes = cache.changes("a", after)
    if changes is None:  # nothing is known of the time before the listing, and of a bucket that was empty
        assert after not in past or any(not any(b"a/" in key for key in kvs) for kvs, _ in past.values())
        return
    changed: dict[bytes, KeyValue | None] = {}
    for change in changes:
        changed.setdefault(change.key, change.before)
    assert [change.revision for change in changes] == sorted(change.revision for change in changes)
    assert {change.key: change.after for change in changes} == {key: etcd.kvs.get(key) for key in changed}
    then = past.get(after, past[etcd.revision])[0]
    assert {key for key in changed if key in etcd.kvs or key in then} == {
        key for key in etcd.kvs.keys() | then.keys() if bucket(key) == "a" and etcd.kvs.get(key) != then.get(key)
    }
    assert all(then.get(key) == before for key, before in changed.items())


def test_a_bucket_remembers_so_many_changes_and_says_where_it_does_not() -> None:
    etcd, cache = History(), Cache(bucket)
    cache.replace(etcd.snapshot())
    cache.apply(etcd.batch(etcd.put(b"a/x")))
    began = etcd.revision
    for _ in range(REMEMBERED):
        cache.apply(etcd.batch(etcd.put(b"a/y")))
    assert [change.after for change in cache.changes("a", began) or []][-1] == etcd.kvs[b"a/y"]
    cache.apply(etcd.batch(etcd.put(b"a/y")))
    assert cache.changes("a", began) is None
    assert cache.changes("a", began + 1) is not None


def test_a_listing_of_an_etcd_that_was_put_back_answers_for_nothing_of_before() -> None:
    etcd, cache = History(), Cache(bucket)
    cache.apply(etcd.batch(etcd.put(b"a/x")))
    backup, revision = dict(etcd.kvs), etcd.revision
    for _ in range(3):
        cache.apply(etcd.batch(etcd.put(b"a/y")))
    seen = etcd.revision
    etcd.kvs, etcd.revision = backup, revision
    cache.replace(etcd.snapshot())
    for _ in range(5):
        cache.apply(etcd.batch(etcd.put(b"a/x")))
    assert etcd.revision > seen
    assert cache.changes("a", seen) is None


@pytest.mark.parametrize("listed", [{}, {b"a/x": b"2"}], ids=["vanished", "changed"])
def test_a_listing_that_differs_at_the_same_revision_answers_for_nothing_of_before(listed: dict[bytes, bytes]) -> None:
    """Etcd was put back and has overtaken its old revision since; or the watch had lost an event."""
    etcd, cache = History(), Cache(bucket)
    cache.apply(etcd.batch(etcd.put(b"a/x", b"1"), etcd.put(b"b/x")))
    seen = etcd.revision
    before = cache.view("a")
    del etcd.kvs[b"a/x"]
    etcd.kvs |= {key: KeyValue(key, value, seen, 2, 1) for key, value in listed.items()}
    assert cache.replace(etcd.snapshot()) == {"a"}
    now = cache.view("a")
    assert now.revision == before.revision
    assert now.listing != before.listing
    assert {key: kv.value for key, kv in now.entries.items()} == listed
    assert cache.changes("a", seen) is None
    cache.apply(etcd.batch(etcd.put(b"a/y")))
    assert cache.changes("a", seen) is None
    assert cache.changes("b", seen) == []


@given(steps, steps)
def test_a_listing_names_exactly_the_buckets_that_differ(
    before: list[tuple[bytes, bool, bool]], meanwhile: list[tuple[bytes, bool, bool]]
) -> None:
    etcd, cache = History(), Cache(bucket)
    for key, *_ in before:
        etcd.put(key)
    cache.replace(etcd.snapshot())
    old = {name: etcd.bucket(name) for name in ("a", "b")}
    for key, delete, _ in meanwhile:
        if delete and key in etcd.kvs:
            etcd.delete(key)
        else:
            etcd.put(key)
    assert cache.replace(etcd.snapshot()) == {name for name in old if old[name] != etcd.bucket(name)}
    assert cache.view("a").entries == etcd.bucket("a")


def test_a_view_cannot_be_written() -> None:
    etcd, cache = History(), Cache(bucket)
    cache.apply(etcd.batch(etcd.put(b"a/x")))
    with pytest.raises(TypeError):
        cache.view("a").entries[b"a/y"] = KeyValue(b"", b"", 0, 0, 0)  # type: ignore[index]


def test_nothing_is_copied_while_nobody_looks() -> None:
    etcd, cache = History(), Cache(bucket)
    cache.apply(etcd.batch(etcd.put(b"a/x")))
    cache.view("a")
    cache.apply(etcd.batch(etcd.put(b"a/x")))
    unlent = cache._buckets["a"].entries
    for _ in range(5):
        cache.apply(etcd.batch(etcd.put(b"a/x")))
    assert cache._buckets["a"].entries is unlent


def test_what_a_listing_already_holds_is_skipped() -> None:
    etcd, cache = History(), Cache(bucket)
    events = [etcd.put(b"a/x"), etcd.put(b"a/x"), etcd.delete(b"a/x"), etcd.put(b"a/x", b"new")]
    cache.replace(etcd.snapshot())
    assert cache.apply(etcd.batch(*events)) == set()
    assert cache.view("a").entries[b"a/x"].value == b"new"


@pytest.mark.parametrize("lost", ["put", "creation", "deletion", "recreation"])
def test_a_lost_event_is_noticed_and_nothing_of_its_batch_is_taken(lost: str) -> None:
    etcd, cache = History(), Cache(bucket)
    cache.apply(etcd.batch(etcd.put(b"a/x"), etcd.put(b"a/y")))
    before = cache.view("a")
    innocent = etcd.put(b"a/y", b"2")
    if lost == "put":
        etcd.put(b"a/x")
        telling = etcd.put(b"a/x")
    elif lost == "creation":
        etcd.put(b"a/z")
        telling = etcd.delete(b"a/z")
    elif lost == "deletion":
        etcd.delete(b"a/x")
        telling = etcd.put(b"a/x")
    else:
        etcd.put(b"a/z")
        telling = etcd.put(b"a/z")
    with pytest.raises(Gap):
        cache.apply(etcd.batch(innocent, telling))
    assert cache.view("a") == before
    assert cache.replace(etcd.snapshot()) == {"a"}


def test_waiting_ends_when_the_revision_has_come_the_time_is_over_or_the_cache_is_closed() -> None:
    etcd, cache = History(), Cache(bucket)
    assert not cache.wait_for(5, Deadline(0.01))
    came: list[bool] = []
    waiting = [threading.Thread(target=lambda: came.append(cache.wait_for(4, Deadline(30)))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    cache.apply(Batch(3, ()))
    assert came == []
    cache.apply(Batch(4, ()))
    until(lambda: came == [True] * 3)
    closing = threading.Thread(target=lambda: came.append(cache.wait_for(99, Deadline(30))))
    closing.start()
    cache.close()
    closing.join(5)
    assert came[3:] == [False]
    for thread in waiting:
        thread.join()
    assert etcd.revision == 1


def test_a_large_value_is_not_remembered() -> None:
    etcd, cache = History(), Cache(bucket)
    cache.replace(etcd.snapshot())
    cache.apply(etcd.batch(etcd.put(b"a/x"), etcd.put(b"a/x", b"x" * 100_000)))
    assert cache.changes("a", etcd.revision - 1) is None
    assert cache.changes("a", etcd.revision) == []
