"""Reads, transactions and history on a healthy etcd."""

from __future__ import annotations

import threading

import pytest

from piehole.deadline import Deadline
from piehole.errors import Compacted, EtcdRefused, EtcdUnreachable
from piehole.etcd import client as client_module
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Delete, KeyValue, Put, Range, prefix_end
from tests.conftest import OwnEtcd
from tests.etcd.conftest import Connect, keys
from tests.support.etcd import EtcdOptions, EtcdProcess

pytestmark = pytest.mark.etcd_versions


def soon() -> Deadline:
    return Deadline(10)


def put(client: Etcd, *pairs: tuple[bytes, bytes]) -> int:
    return client.txn([], [Put(key, value) for key, value in pairs], deadline=soon()).revision


def delete(client: Etcd, key: bytes) -> int:
    return client.txn([], [Delete(key)], deadline=soon()).revision


def test_a_read_tells_all_counters_and_any_bytes(client: Etcd, root: bytes) -> None:
    key, value = root + b"\x00\x7f\xff\xc3\xa9", bytes(range(256))
    first = put(client, (key, b""))
    assert client.range(key, deadline=soon()).kvs == [KeyValue(key, b"", first, first, 1)]
    second = put(client, (key, value))
    found = client.range(key, deadline=soon())
    assert found.kvs == [KeyValue(key, value, second, first, 2)]
    assert (found.count, found.more) == (1, False)
    assert found.revision >= second
    assert client.range(key, deadline=soon(), revision=first).kvs[0].value == b""


def test_limit_keys_only_and_min_mod_revision_are_passed_on(client: Etcd, root: bytes) -> None:
    put(client, *((root + b"%d" % n, b"v") for n in range(5)))
    later = put(client, (root + b"3", b"w"))
    some = client.range(root, prefix_end(root), deadline=soon(), limit=2, keys_only=True)
    assert (keys(some.kvs), some.kvs[0].value, some.more, some.count) == ([root + b"0", root + b"1"], b"", True, 5)
    newer = client.range(root, prefix_end(root), deadline=soon(), min_mod_revision=later)
    assert keys(newer.kvs) == [root + b"3"]


def test_a_listing_is_one_moment_though_it_is_read_in_pages(
    client: Etcd, root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 7)
    revision = put(client, *((root + b"%02d" % n, b"old") for n in range(30)))
    read = client.range

    def read_and_disturb(*args: object, **more: object) -> object:
        page = read(*args, **more)  # type: ignore[arg-type]
        put(client, (root + b"29", b"new"), (root + b"30", b"new"))
        return page

    monkeypatch.setattr(client, "range", read_and_disturb)
    listing = client.list_prefix(root, deadline=soon())
    assert listing.revision == revision
    assert [kv.value for kv in listing.kvs] == [b"old"] * 30


def test_a_listing_that_a_compaction_overtakes_is_read_anew(
    client: Etcd, etcd: EtcdProcess, root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    put(client, *((root + b"%d" % n, b"old") for n in range(5)))
    read, overtaken = client.range, False

    def read_and_compact(*args: object, **more: object) -> object:
        nonlocal overtaken
        page = read(*args, **more)  # type: ignore[arg-type]
        if not overtaken:
            overtaken = True
            put(client, (root + b"0", b"new"))
            etcd.raw.compact(put(client, (root + b"4", b"new")))
        return page

    monkeypatch.setattr(client, "range", read_and_compact)
    listing = client.list_prefix(root, deadline=soon())
    assert [kv.value for kv in listing.kvs] == [b"new", b"old", b"old", b"old", b"new"]


def test_a_revision_that_is_gone_or_yet_to_come_is_compacted(client: Etcd, etcd: EtcdProcess, root: bytes) -> None:
    first = put(client, (root, b"1"))
    etcd.raw.compact(put(client, (root, b"2")))
    for revision in (first, first + 1_000_000):
        with pytest.raises(Compacted):
            client.range(root, deadline=soon(), revision=revision)
        with pytest.raises(Compacted):
            client.list_prefix(root, deadline=soon(), revision=revision)


def test_the_empty_prefix_is_everything(client: Etcd, root: bytes) -> None:
    put(client, (root + b"x", b""))
    assert root + b"x" in keys(client.list_prefix(b"", deadline=soon()).kvs)


def test_a_transaction_is_all_or_nothing_and_reads_in_the_branch_that_ran(client: Etcd, root: bytes) -> None:
    a, b = root + b"a", root + b"b"
    done = client.txn([Compare(a), Compare(b)], [Put(a, b"1"), Range(a), Put(b, b"2")], deadline=soon())
    assert done.succeeded
    assert done.ranges[0].kvs == [KeyValue(a, b"1", done.revision, done.revision, 1)]
    refused = client.txn(
        [Compare(a, mod_revision=done.revision), Compare(b)],
        [Put(a, b"no"), Delete(b)],
        [Range(b), Range(root, prefix_end(root), limit=1, keys_only=True), Range(root + b"zz")],
        deadline=soon(),
    )
    assert not refused.succeeded
    assert [keys(snapshot.kvs) for snapshot in refused.ranges] == [[b], [a], []]
    assert refused.ranges[1].more
    assert refused.ranges[1].kvs[0].value == b""
    assert client.range(a, deadline=soon()).kvs[0].value == b"1"


def test_a_range_compare_holds_when_no_key_of_the_range_changed_since(client: Etcd, root: bytes) -> None:
    inside = Compare(root, prefix_end(root), "<", 1)
    assert client.txn([inside], [], deadline=soon()).succeeded, "an empty range"
    revision = put(client, (root + b"a", b""))
    put(client, (root + b"b", b""))
    assert not client.txn([inside], [], deadline=soon()).succeeded
    until_b = Compare(root, root + b"b", "<", revision + 1)
    assert client.txn([until_b], [], deadline=soon()).succeeded, "the end is not in the range"
    assert not client.txn([Compare(root, prefix_end(root), "<", revision + 1)], [], deadline=soon()).succeeded


def test_delete_takes_one_key_or_a_range(client: Etcd, root: bytes) -> None:
    put(client, *((root + name, b"") for name in (b"a", b"ab", b"b", b"c")))
    delete(client, root + b"a")
    assert keys(client.list_prefix(root, deadline=soon()).kvs) == [root + b"ab", root + b"b", root + b"c"]
    client.txn([], [Delete(root + b"ab", root + b"c")], deadline=soon())
    assert keys(client.list_prefix(root, deadline=soon()).kvs) == [root + b"c"]


def test_what_etcd_refuses_is_told_with_its_mend_and_changes_nothing(own_etcd: OwnEtcd, connect: Connect) -> None:
    client = connect(own_etcd(options=EtcdOptions(max_txn_ops=16)).endpoint)
    with pytest.raises(EtcdRefused, match="--max-txn-ops") as refused:
        client.txn([], [Put(b"%d" % n, b"") for n in range(17)], deadline=soon())
    assert refused.value.too_many
    with pytest.raises(EtcdRefused, match="duplicate key") as refused:
        client.txn([], [Put(b"a", b""), Put(b"a", b"")], deadline=soon())
    assert not refused.value.too_many
    with pytest.raises(EtcdRefused, match="--max-request-bytes"):
        client.txn([], [Put(b"a", b"x" * 1_600_000)], deadline=soon())
    assert client.list_prefix(b"", deadline=soon()).kvs == []


def test_many_threads_may_share_one_connection_object(client: Etcd, root: bytes) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                key = root + b"%d" % number
                put(client, (key, b"%d" % turn))
                assert client.range(key, deadline=soon()).kvs[0].value == b"%d" % turn
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


class TestFirstChange:
    @pytest.fixture
    def quiet(self, own_etcd: OwnEtcd, connect: Connect) -> Etcd:
        """An etcd that sends no progress messages."""
        return connect(own_etcd(options=EtcdOptions(progress_interval="10m")).endpoint)

    def test_is_the_first_of_several_and_none_when_nothing_changed(self, client: Etcd, root: bytes) -> None:
        key = root + b"k"
        base = put(client, (key, b"0"))
        assert client.first_change(key, base, deadline=soon()) is None
        first = put(client, (key, b"1"))
        put(client, (key, b"2"))
        assert client.first_change(key, base, deadline=soon()) == KeyValue(key, b"1", first, base, 2)

    def test_may_be_a_deletion(self, client: Etcd, root: bytes) -> None:
        key = root + b"k"
        base = put(client, (key, b"0"))
        gone = delete(client, key)
        change = client.first_change(key, base, deadline=soon())
        assert change == KeyValue(key, b"", gone, 0, 0)

    def test_may_be_of_a_life_that_began_and_ended_in_between(self, client: Etcd, root: bytes) -> None:
        key, companion = root + b"k", root + b"@w"
        base = client.range(key, deadline=soon()).revision
        born = put(client, (key, b"1"), (companion, b""))
        delete(client, key)
        change = client.first_change(key, base, deadline=soon(), companion=companion)
        assert change == KeyValue(key, b"1", born, born, 1)
        assert client.first_change(key, base, deadline=soon()) == change

    @pytest.mark.parametrize("name", [b"@w", b"z"], ids=["before", "after"])
    def test_is_none_by_a_companion_that_lies_on_either_side(self, quiet: Etcd, root: bytes, name: bytes) -> None:
        client = quiet
        base = put(client, (root + name, b""))
        assert client.first_change(root + b"k", base, deadline=soon(), companion=root + name) is None
        put(client, (root + b"kk", b""), (root + name, b"2"))
        put(client, (root + b"later", b""))
        assert client.first_change(root + b"k", base, deadline=soon(), companion=root + name) is None

    def test_is_none_after_a_progress_message_where_nothing_else_proves_it(self, client: Etcd, root: bytes) -> None:
        base = put(client, (root + b"other", b""))
        put(client, (root + b"other", b"2"))
        assert client.first_change(root + b"k", base, deadline=soon()) is None

    def test_is_never_guessed(self, quiet: Etcd) -> None:
        base = put(quiet, (b"other", b""))
        put(quiet, (b"other", b"2"))
        with pytest.raises(EtcdUnreachable, match="did not send its history"):
            quiet.first_change(b"k", base, deadline=Deadline(1))

    def test_is_compacted_where_history_is_missing(self, client: Etcd, etcd: EtcdProcess, root: bytes) -> None:
        key = root + b"k"
        base = put(client, (key, b"0"))
        put(client, (key, b"1"))
        etcd.raw.compact(put(client, (key, b"2")))
        with pytest.raises(Compacted):
            client.first_change(key, base, deadline=soon())


def test_history_reaches_from_the_last_compaction_to_now(own_etcd: OwnEtcd, connect: Connect) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    assert list(client.history(b"p/", deadline=soon())) == []
    for n in range(5):
        put(client, (b"p/a", b"%d" % n), (b"q", b""))
    delete(client, b"p/a")
    put(client, (b"p/b", b""))
    told = [(event.kind, event.kv.value) for event in client.history(b"p/", deadline=soon())]
    assert told == [*(("put", b"%d" % n) for n in range(5)), ("delete", b""), ("put", b"")]
    member.raw.compact(4)
    revisions = [event.kv.mod_revision for event in client.history(b"p/", deadline=soon())]
    assert revisions == [5, 6, 7, 8]
    member.raw.compact(8)
    assert list(client.history(b"p/", deadline=soon())) == []
