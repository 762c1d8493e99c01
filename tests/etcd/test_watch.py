"""One watch: what it delivers, how it ends."""

from __future__ import annotations

import threading
import time

import pytest

from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdUnreachable
from piehole.etcd import json_gateway
from piehole.etcd.client import Etcd
from piehole.etcd.model import Delete, Head, Put
from tests.conftest import OwnCluster, OwnEtcd
from tests.etcd.conftest import Connect
from tests.etcd.proxy import proxy_to
from tests.support.etcd import EtcdOptions, EtcdProcess

QUIET = EtcdOptions(progress_interval="10m")


def put(client: Etcd, *keys: bytes) -> int:
    return client.txn([], [Put(key, b"") for key in keys], deadline=Deadline(5)).revision


@pytest.mark.etcd_versions
def test_every_change_is_told_once_in_order_and_no_revision_is_split(client: Etcd, root: bytes) -> None:
    start = client.head(root, deadline=Deadline(5)).revision
    wrote = [put(client, *(root + b"%d" % n for n in range(20))) for _ in range(100)]
    seen: list[int] = []
    with client.watch(root, start, idle=5) as watch:
        for batch in watch:
            revisions = [event.kv.mod_revision for event in batch.events]
            assert all(revisions.count(revision) == 20 for revision in set(revisions))
            seen += dict.fromkeys(revisions)
            if len(seen) == 50:
                wrote += [put(client, *(root + b"%d" % n for n in range(20)))]
            if seen and seen[-1] == wrote[-1]:
                break
    assert seen == wrote


@pytest.mark.etcd_versions
def test_a_sign_of_life_has_no_events_and_may_be_trusted(client: Etcd, root: bytes) -> None:
    last = put(client, root)
    put(client, b"/elsewhere" + root)
    with client.watch(root, last, idle=5) as watch:
        batch = next(iter(watch))
    assert batch.events == ()
    assert batch.revision > last


@pytest.mark.etcd_versions
def test_a_watch_of_an_idle_etcd_gets_signs_of_life_and_no_repeats(connect: Connect, own_etcd: OwnEtcd) -> None:
    """Since 3.5.22 there are none before the revision at which a watch begins, so it begins at one that etcd has (replayed: its request)."""
    client = connect(own_etcd(options=EtcdOptions(progress_interval="200ms")).endpoint)
    revision = client.txn([], [Put(b"p/a", b"1")], deadline=Deadline(5)).revision
    with client.watch(b"p/", revision, idle=5) as watch:
        batches = iter(watch)
        for _ in range(2):
            batch = next(batches)
            assert (batch.revision, batch.events) == (revision, ())
        assert watch.starts_at == revision


def test_one_key_can_be_watched_alone(client: Etcd, root: bytes) -> None:
    start = put(client, root + b"k0")
    mine = put(client, root + b"k", root + b"k1")
    with client.watch(root + b"k", start, idle=5, range_end=b"") as watch:
        events = next(iter(watch)).events
    assert [(event.kv.key, event.kv.mod_revision) for event in events] == [(root + b"k", mine)]


@pytest.mark.etcd_versions
def test_compacted_history_is_told_with_the_revision_that_is_left(client: Etcd, etcd: EtcdProcess, root: bytes) -> None:
    first = put(client, root)
    last = put(client, root)
    etcd.raw.compact(last)
    with client.watch(root, first - 1, idle=5) as watch, pytest.raises(json_gateway.CompactedAt) as compacted:
        next(iter(watch))
    assert compacted.value.revision == last


def test_the_last_event_counts_not_the_header_which_may_be_ahead_and_repeats_are_dropped() -> None:
    header = {"cluster_id": "1", "revision": "9"}
    events = [{"kv": {"key": "aw==", "mod_revision": str(revision), "version": "1"}} for revision in (3, 4, 5)]
    told = json_gateway.batch({"header": header, "events": events}, 3)
    assert told is not None
    assert (told.revision, [event.kv.mod_revision for event in told.events]) == (5, [4, 5])
    assert json_gateway.batch({"header": header, "events": events}, 5) is None
    assert json_gateway.batch({"header": header, "created": True}, 3) is None
    progress = json_gateway.batch({"header": header}, 3)
    assert progress is not None
    assert progress.revision == 9


def test_silence_ends_the_iteration(connect: Connect, own_etcd: OwnEtcd) -> None:
    client = connect(own_etcd(options=QUIET).endpoint)
    began = time.monotonic()
    with client.watch(b"k", 0, idle=0.5) as watch:
        assert list(watch) == []
    assert 0.5 <= time.monotonic() - began < 3


def test_stop_ends_the_iteration_at_once_from_another_thread(connect: Connect, own_etcd: OwnEtcd) -> None:
    client = connect(own_etcd(options=QUIET).endpoint)
    put(client, b"k")
    with client.watch(b"k", 0, idle=60) as watch:
        batches = iter(watch)
        next(batches)
        timer = threading.Timer(0.2, watch.stop)
        timer.start()
        began = time.monotonic()
        assert list(batches) == []
        assert time.monotonic() - began < 2
        timer.join()
        watch.stop()  # once more does no harm


def test_a_watch_that_was_stopped_before_it_began_delivers_nothing(client: Etcd, root: bytes) -> None:
    last = put(client, root)
    watch = client.watch(root, last - 1, idle=5)
    watch.stop()
    with watch:
        assert list(watch) == []


def test_a_cut_stream_is_trouble_and_the_next_call_goes_elsewhere(
    connect: Connect, etcd: EtcdProcess, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        client = connect(proxy.endpoint, etcd.endpoint)
        last = put(client, root)
        with client.watch(root, last - 1, idle=10) as watch:
            batches = iter(watch)
            next(batches)
            proxy.cut()
            with pytest.raises(EtcdUnreachable, match=f"watch at {proxy.endpoint} was lost"):
                next(batches)
        assert client.head(root, deadline=Deadline(5)).endpoint == etcd.endpoint


def test_an_etcd_that_went_back_is_noticed_before_anything_is_told(client: Etcd, root: bytes) -> None:
    ahead = client.head(root, deadline=Deadline(5)).revision + 1000
    with pytest.raises(Compacted, match="it went back"):
        client.watch(root, ahead, idle=5)


def test_another_cluster_behind_the_same_endpoint_is_noticed(client: Etcd, etcd: EtcdProcess, root: bytes) -> None:
    last = put(client, root)
    stale = Head(etcd.endpoint, 1, last)
    with pytest.raises(Compacted, match="another"), client.watch(root, last - 1, idle=5, head=stale) as watch:
        next(iter(watch))


def test_a_member_that_loses_its_leader_ends_the_watch(connect: Connect, own_cluster: OwnCluster) -> None:
    cluster = own_cluster(3)
    survivor, other = cluster.followers()
    client = connect(survivor.endpoint)
    put(client, b"k")
    with client.watch(b"k", 0, idle=60) as watch:
        batches = iter(watch)
        next(batches)
        cluster.leader().kill()
        other.kill()
        began = time.monotonic()
        with pytest.raises(EtcdUnreachable, match="no leader"):
            for _ in batches:
                pass
        assert time.monotonic() - began < 15


def test_deletions_are_told_without_a_value(client: Etcd, root: bytes) -> None:
    last = put(client, root)
    gone = client.txn([], [Delete(root)], deadline=Deadline(5)).revision
    with client.watch(root, last, idle=5) as watch:
        (event,) = next(iter(watch)).events
    assert (event.kind, event.kv.key, event.kv.value, event.kv.mod_revision) == ("delete", root, b"", gone)
