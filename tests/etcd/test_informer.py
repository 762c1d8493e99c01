"""The informer against real etcds that are killed, stopped, compacted, cut off and put back in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from controller.informer import Informer
from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdUnreachable
from piehole.etcd.client import Etcd
from piehole.etcd.model import Delete, Head, Put
from tests.conftest import OwnCluster, OwnEtcd
from tests.etcd.conftest import Connect
from tests.etcd.proxy import proxy_to
from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.wait import until

QUIET = EtcdOptions(progress_interval="10m")


class Watched:
    """An informer below ``root`` and all that it has told. Buckets are the first component after the root."""

    def __init__(self, etcd: Etcd, root: bytes, *, idle: float = 10.0, relist_every: float = 600.0) -> None:
        self.root = root
        self.told: list[tuple[str, object]] = []  # connect, listed or live, with what it is about
        self.troubles: list[BaseException] = []
        self.values: list[bytes] = []  # of the key a/log, at each change that was told
        self.told_until = 0
        self.on_connect: Callable[[Head], None] = lambda _: None
        self.informer = Informer(
            etcd,
            root,
            self._bucket,
            on_change=self._changed,
            on_connect=self._connected,
            on_trouble=self.troubles.append,
            idle=idle,
            relist_every=relist_every,
        )

    def start(self) -> Watched:
        self.informer.start()
        assert self.informer.synced.wait(20)
        return self

    def value(self, name: bytes) -> bytes | None:
        kv = self.informer.cache.view("a").entries.get(self.root + b"a/" + name)
        return kv.value if kv else None

    def count(self, word: str) -> int:
        return sum(1 for kind, _ in self.told if kind == word)

    def _bucket(self, key: bytes) -> str | None:
        name, slash, _ = key.removeprefix(self.root).partition(b"/")
        return name.decode() if slash else None

    def _connected(self, head: Head) -> None:
        self.told.append(("connect", head))
        self.on_connect(head)

    def _changed(self, buckets: set[str], fresh: bool) -> None:
        self.told.append(("live" if fresh else "listed", buckets))
        value = self.value(b"log")
        if value is not None:
            self.values.append(value)
        self.told_until = self.informer.status().revision


Watch = Callable[..., Watched]


@pytest.fixture
def watching() -> Iterator[Watch]:
    """``watching(etcd, root)``: an informer that has listed, and that ends in order when the test does."""
    with ExitStack() as ends:

        def make(etcd: Etcd, root: bytes, *, start: bool = True, **more: float) -> Watched:
            watched = Watched(etcd, root, **more)

            def end() -> None:
                watched.informer.stop()
                assert watched.informer.join(10)

            if start:
                watched.start()
                ends.callback(end)
            return watched

        yield make


def put(client: Etcd, *pairs: tuple[bytes, bytes]) -> int:
    return client.txn([], [Put(*pair) for pair in pairs], deadline=Deadline(20)).revision


def caught_up(watched: Watched, revision: int) -> None:
    """The cache has it, and the callback, which comes after that, has returned."""
    assert watched.informer.cache.wait_for(revision, Deadline(20)), watched.informer.status()
    until(lambda: watched.told_until >= revision)


@pytest.mark.etcd_versions
def _filled(watched: Watched) -> set[str]:
    """The buckets that have keys. (One that a listing has emptied stays until the next: its readers must not go on from before.)"""
    return {name for name, bucket in watched.informer.cache._buckets.items() if bucket.entries}


def test_it_lists_then_follows_and_says_which_buckets_changed(client: Etcd, root: bytes, watching: Watch) -> None:
    put(client, (root + b"a/x", b"1"), (root + b"b/x", b"1"), (root + b"ignored", b""))
    watched = watching(client, root)
    until(lambda: len(watched.told) == 2)
    assert watched.told[0][0] == "connect"
    assert watched.told[1] == ("listed", {"a", "b"})
    revision = put(client, (root + b"a/x", b"2"), (root + b"ignored", b"2"))
    caught_up(watched, revision)
    assert watched.value(b"x") == b"2"
    gone = client.txn([], [Delete(root + b"b/x")], deadline=Deadline(5)).revision
    caught_up(watched, gone)
    assert watched.informer.cache.view("b").entries == {}
    assert watched.told[2:] == [("live", {"a"}), ("live", {"b"})]
    status = watched.informer.status()
    assert (status.connected, status.error) == (True, "")
    assert status.revision >= gone
    assert status.last_contact is not None
    watched.informer.relist()
    until(lambda: set(watched.informer.cache._buckets) == {"a"}, what="a listing forgets the emptied bucket")


@pytest.mark.etcd_versions
def test_a_burst_is_told_completely_in_order_and_once(client: Etcd, root: bytes, watching: Watch) -> None:
    watched = watching(client, root)
    for n in range(200):
        last = put(client, (root + b"a/log", b"%d" % n))
    caught_up(watched, last)
    numbers = [int(value) for value in watched.values]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 199
    assert watched.informer.cache.view("a").entries[root + b"a/log"].version == 200


@pytest.mark.etcd_versions
def test_a_killed_etcd_that_comes_back_loses_doubles_and_reorders_nothing(
    connect: Connect, own_etcd: OwnEtcd, watching: Watch
) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    watched = watching(connect(member.endpoint), b"p/")
    written = 0
    for _ in range(3):
        for _ in range(20):
            last = put(client, (b"p/a/log", b"%d" % written))
            written += 1
        member.kill()
        member.launch()
    caught_up(watched, last)
    numbers = [int(value) for value in watched.values]
    assert numbers == sorted(set(numbers)), "doubled, or out of order"
    assert numbers[-1] == written - 1
    assert watched.count("listed") == 0, "the first listing was empty, and history was there for the rest"
    assert watched.count("connect") >= 2
    assert all(isinstance(trouble, EtcdError) for trouble in watched.troubles)


@pytest.mark.etcd_versions
def test_after_a_compaction_it_lists_again_and_names_what_changed_and_what_vanished(
    connect: Connect, own_etcd: OwnEtcd, watching: Watch
) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    put(client, (b"p/a/x", b"1"), (b"p/vanishing/x", b"1"), (b"p/same/x", b"1"))
    with proxy_to(member.endpoint) as proxy:
        watched = watching(connect(proxy.endpoint), b"p/", idle=1.0)
        proxy.hold_answers()
        client.txn([], [Delete(b"p/vanishing/x"), Put(b"p/a/x", b"2")], deadline=Deadline(5))
        last = put(client, (b"p/a/x", b"3"), (b"p/new/x", b"1"))
        member.raw.compact(last)
        proxy.cut()
        proxy.release_answers()
        until(lambda: watched.count("listed") == 2)
    listed = [buckets for kind, buckets in watched.told if kind == "listed"]
    assert listed[1] == {"a", "vanishing", "new"}
    assert watched.value(b"x") == b"3"
    assert _filled(watched) == {"a", "new", "same"}


@pytest.mark.etcd_versions
def test_an_etcd_that_went_back_is_told_before_anything_else_and_listed_again(
    connect: Connect, own_etcd: OwnEtcd, watching: Watch
) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    put(client, (b"p/a/x", b"old"))
    member.terminate()
    member.copy_data(member.folder / "backup")
    member.start()
    watched = watching(connect(member.endpoint), b"p/")
    ahead = put(client, (b"p/a/x", b"new"), (b"p/b/x", b"new"))
    caught_up(watched, ahead)
    member.kill()
    member.restore_data(member.folder / "backup")
    before = len(watched.told)
    member.start()
    until(lambda: watched.count("listed") == 2)
    assert watched.value(b"x") == b"old"
    (first, head), (second, buckets), *_ = watched.told[before:]
    assert (first, second, buckets) == ("connect", "listed", {"a", "b"})
    assert isinstance(head, Head)
    assert head.revision < ahead


def test_another_cluster_at_the_same_endpoint_is_listed_again_though_its_revision_is_higher(
    connect: Connect, own_etcd: OwnEtcd, watching: Watch
) -> None:
    one, other = own_etcd(), own_etcd()
    put(connect(one.endpoint), (b"p/a/x", b"1"))
    for n in range(5):
        put(connect(other.endpoint), (b"p/b/%d" % n, b"2"))
    with proxy_to(one.endpoint) as proxy:
        watched = watching(connect(proxy.endpoint), b"p/")
        caught_up(watched, put(connect(one.endpoint), (b"p/a/x", b"2")))
        proxy.lead_to(other.endpoint)
        proxy.cut()
        until(lambda: watched.told[-1] == ("listed", {"a", "b"}))
        assert _filled(watched) == {"b"}
        watched.informer.stop()
        watched.informer.join(10)


@pytest.mark.slow
@pytest.mark.etcd_versions
def test_a_cluster_whose_leader_is_killed_and_one_whose_member_hangs_lose_nothing(
    connect: Connect, own_cluster: OwnCluster, watching: Watch
) -> None:
    cluster = own_cluster(3)
    leader, (first, second) = cluster.leader(), cluster.followers()
    order = (leader.endpoint, first.endpoint, second.endpoint)
    client = connect(*order[1:])
    watched = watching(connect(*order), b"p/", idle=2.0)
    caught_up(watched, put(client, (b"p/a/log", b"1")))
    leader.kill()
    cluster.leader()
    caught_up(watched, put(client, (b"p/a/log", b"2")))
    leader.start()
    now = next(m for m in cluster.members if m.endpoint == watched.informer.status().endpoint)
    now.pause()
    others = connect(*(m.endpoint for m in cluster.members if m is not now))
    cluster.leader()
    caught_up(watched, put(others, (b"p/a/log", b"3")))
    assert watched.informer.status().endpoint != now.endpoint
    now.resume()
    assert watched.values == [b"1", b"2", b"3"]
    assert watched.count("listed") == 0


def test_a_cut_stream_is_resumed_and_a_silent_one_is_left(
    etcd: EtcdProcess, connect: Connect, root: bytes, watching: Watch
) -> None:
    client = connect(etcd.endpoint)
    with proxy_to(etcd.endpoint) as proxy:
        watched = watching(connect(proxy.endpoint, etcd.endpoint), root, idle=3.0)
        caught_up(watched, put(client, (root + b"a/log", b"1")))
        proxy.cut()
        caught_up(watched, put(client, (root + b"a/log", b"2")))
    with proxy_to(etcd.endpoint) as proxy:
        watched = watching(connect(proxy.endpoint, etcd.endpoint), root, idle=1.5)
        caught_up(watched, put(client, (root + b"a/log", b"3")))
        proxy.hold_answers()
        caught_up(watched, put(client, (root + b"a/log", b"4")))
        assert watched.informer.status().endpoint == etcd.endpoint


def test_a_lost_event_is_mended_by_a_listing(client: Etcd, root: bytes, watching: Watch) -> None:
    put(client, (root + b"a/x", b"1"))
    watched = watching(client, root)
    caught_up(watched, put(client, (root + b"a/x", b"2")))
    # As an etcd with one of its known bugs would have it: an event is missing from what was told.
    cache = watched.informer.cache
    kv = cache._buckets["a"].entries.pop(root + b"a/x")
    assert kv.version == 2
    put(client, (root + b"a/x", b"3"))
    until(lambda: watched.value(b"x") == b"3")
    assert watched.count("listed") == 2
    assert any("was lost" in str(trouble) for trouble in watched.troubles)


def test_it_lists_again_now_and_then_and_when_it_is_told_to(client: Etcd, root: bytes, watching: Watch) -> None:
    watched = watching(client, root, relist_every=0.3)
    until(lambda: watched.count("connect") >= 3)  # a progress message comes each second
    patient = watching(client, root)
    patient.informer.relist()
    until(lambda: patient.count("connect") == 2)
    caught_up(patient, put(client, (root + b"a/x", b"1")))


def test_it_starts_without_etcd_and_goes_on_when_there_is_one(
    connect: Connect, own_etcd: OwnEtcd, watching: Watch
) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    put(client, (b"p/a/x", b"1"))
    member.kill()
    watched = Watched(client, b"p/")
    watched.informer.start()
    try:
        member.launch()
        assert watched.informer.synced.wait(20)
        assert watched.value(b"x") == b"1"
    finally:
        watched.informer.stop()
        assert watched.informer.join(10)


@pytest.mark.slow
def test_trouble_is_told_and_shown_until_it_is_over(connect: Connect, own_etcd: OwnEtcd, watching: Watch) -> None:
    member = own_etcd()
    watched = watching(connect(member.endpoint), b"p/")
    member.kill()
    until(lambda: "Connection refused" in watched.informer.status().error, 20)
    assert not watched.informer.status().connected
    assert any(isinstance(trouble, EtcdUnreachable) for trouble in watched.troubles)
    member.launch()
    until(lambda: watched.informer.status().error == "", 20)


def test_stop_interrupts_a_stream_a_backoff_and_a_waiter(connect: Connect, own_etcd: OwnEtcd) -> None:
    member = own_etcd(options=QUIET)
    client = connect(member.endpoint)
    streaming = Watched(client, b"p/", idle=600).start()
    until(lambda: streaming.informer.status().connected)
    waited: list[bool] = []
    waiter = threading.Thread(target=lambda: waited.append(streaming.informer.cache.wait_for(10**9, Deadline(60))))
    waiter.start()
    dead = Watched(connect("127.0.0.1:1"), b"p/")
    dead.informer.start()
    until(lambda: dead.troubles, 20)
    began = time.monotonic()
    for watched in (streaming, dead):
        watched.informer.stop()
        assert watched.informer.join(5)
    waiter.join(5)
    assert waited == [False]
    assert time.monotonic() - began < 2


def test_an_error_of_a_callback_ends_it_is_told_and_raised_by_join(client: Etcd, root: bytes, watching: Watch) -> None:
    watched = watching(client, root, start=False)

    def fail(head: Head) -> None:
        raise LookupError("a slip")

    watched.on_connect = fail
    watched.informer.start()
    with pytest.raises(LookupError, match="a slip"):
        watched.informer.join(10)
    assert [str(trouble) for trouble in watched.troubles] == ["a slip"]
    assert not watched.informer.cache.wait_for(1, Deadline(10)), "nobody waits for a dead informer"


def test_a_callback_that_could_not_ask_etcd_is_called_again(client: Etcd, root: bytes, watching: Watch) -> None:
    watched = watching(client, root, start=False)

    def fail_once(head: Head) -> None:
        if watched.count("connect") == 1:
            raise EtcdUnreachable("not now")

    watched.on_connect = fail_once
    watched.start()
    assert watched.count("connect") == 2
    watched.informer.stop()
    assert watched.informer.join(10)
