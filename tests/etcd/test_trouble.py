"""Endpoints that are dead, hang, lie, or have no quorum; and what is known of a transaction after that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from piehole.deadline import Deadline
from piehole.errors import EtcdFull, EtcdRefused, EtcdUnreachable, NoAccess, UsageError
from piehole.etcd.client import Credentials, Etcd
from piehole.etcd.model import Compare, Put, Range
from tests.conftest import OwnCluster, OwnEtcd
from tests.etcd.conftest import Connect
from tests.etcd.proxy import Proxy, babbler, hinting, proxy_to, stranger
from tests.support.etcd import EtcdProcess
from tests.support.ports import LOOPBACK, free_ports
from tests.support.wait import until


@pytest.fixture
def dead() -> str:
    """An endpoint where nobody listens."""
    return f"http://{LOOPBACK}:{free_ports(1)[0]}"


@contextmanager
def cut_once_requested(proxy: Proxy) -> Iterator[None]:
    """Cut the connection, from another thread, when the first request has come."""

    def cut() -> None:
        until(lambda: proxy.requested)
        proxy.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_at_least_one_endpoint_is_needed() -> None:
    with pytest.raises(UsageError, match=r"piehole\.etcd"):
        Etcd([])


def test_a_dead_endpoint_is_skipped_by_reads_and_transactions(
    connect: Connect, etcd: EtcdProcess, dead: str, root: bytes
) -> None:
    assert connect(dead, etcd.endpoint).txn([Compare(root)], [Put(root, b"1")], deadline=Deadline(5)).succeeded
    assert connect(dead, etcd.endpoint).range(root, deadline=Deadline(5)).kvs[0].value == b"1"


def test_a_hung_endpoint_is_skipped_within_the_deadline_and_then_avoided(
    connect: Connect, own_etcd: OwnEtcd, etcd: EtcdProcess, root: bytes
) -> None:
    hung = own_etcd()
    client = connect(hung.endpoint, etcd.endpoint)
    client.range(root, deadline=Deadline(5))  # so that the connection is warm
    hung.pause()
    client.range(root, deadline=Deadline(4))
    began = time.monotonic()
    client.range(root, deadline=Deadline(4))
    assert time.monotonic() - began < 1


def test_when_nobody_answers_the_error_names_each_endpoint_and_what_it_said(
    connect: Connect, own_etcd: OwnEtcd, dead: str
) -> None:
    hung = own_etcd()
    hung.pause()
    began = time.monotonic()
    with pytest.raises(EtcdUnreachable) as unreachable:
        connect(dead, hung.endpoint).range(b"k", deadline=Deadline(1))
    assert 1 <= time.monotonic() - began < 2
    assert f"{dead}: Connection refused" in str(unreachable.value)
    assert f"{hung.endpoint}: no answer within" in str(unreachable.value)
    assert not unreachable.value.maybe_sent


def test_a_read_waits_for_an_etcd_that_comes_back(connect: Connect, own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    client = connect(member.endpoint)
    client.txn([], [Put(b"k", b"1")], deadline=Deadline(5))
    member.kill()
    member.launch()
    assert client.range(b"k", deadline=Deadline(20)).kvs[0].value == b"1"


def test_a_deadline_that_has_passed_asks_nobody(connect: Connect, etcd: EtcdProcess, root: bytes) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        client = connect(proxy.endpoint)
        with pytest.raises(EtcdUnreachable) as unreachable:
            client.txn([], [Put(root, b"")], deadline=Deadline(0))
        assert not unreachable.value.maybe_sent
        assert proxy.connections == 0


def test_an_unsent_transaction_is_known_to_be_unsent(connect: Connect, dead: str) -> None:
    with pytest.raises(EtcdUnreachable) as unreachable:
        connect(dead).txn([], [Put(b"k", b"")], deadline=Deadline(0.3))
    assert not unreachable.value.maybe_sent


def test_a_sent_transaction_without_an_answer_is_unknown_and_never_sent_again(
    connect: Connect, etcd: EtcdProcess, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        client = connect(proxy.endpoint, etcd.endpoint)
        proxy.hold_answers()
        with pytest.raises(EtcdUnreachable) as unreachable:
            client.txn([], [Put(root, b"")], deadline=Deadline(1))
        assert unreachable.value.maybe_sent
        # etcd has it, once: the answer alone was lost.
        assert client.range(root, deadline=Deadline(5)).kvs[0].version == 1


def test_a_transaction_that_only_reads_is_repeated_like_a_read(
    connect: Connect, etcd: EtcdProcess, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        proxy.hold_answers()
        assert connect(proxy.endpoint, etcd.endpoint).txn([], [Range(root)], deadline=Deadline(10)).succeeded


def test_a_transaction_whose_connection_is_cut_is_unknown_whatever_failed_before(
    connect: Connect, etcd: EtcdProcess, dead: str, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        proxy.hold_answers()
        try:
            requests.post(dead, timeout=5)
        except requests.ConnectionError:
            # An error that is being handled is part of the context of all that follows.
            with pytest.raises(EtcdUnreachable) as unreachable, cut_once_requested(proxy):
                connect(proxy.endpoint).txn([], [Put(root, b"")], deadline=Deadline(5))
        assert unreachable.value.maybe_sent
        assert proxy.connections == 1


def test_a_connection_that_was_closed_while_it_was_idle_is_no_reason_not_to_know(
    connect: Connect, etcd: EtcdProcess, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        client = connect(proxy.endpoint)
        for number in (1, 2, 3):
            assert client.txn([], [Put(root, b"")], deadline=Deadline(5)).succeeded
            assert proxy.connections == number
            proxy.cut()
        assert client.range(root, deadline=Deadline(5)).kvs[0].version == 3


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    connect: Connect, etcd: EtcdProcess, root: bytes
) -> None:
    with proxy_to(etcd.endpoint) as proxy:
        client = connect(proxy.endpoint)
        proxy.hold_answers()
        with pytest.raises(EtcdUnreachable):
            client.range(root, deadline=Deadline(0.5))
        proxy.release_answers()
        assert client.txn([], [Put(root, b"")], deadline=Deadline(5)).succeeded


def test_an_answer_that_comes_after_a_hint_is_not_taken_for_the_next_ones(connect: Connect) -> None:
    with hinting(b'{"header": {"cluster_id": "1", "revision": "1"}, "count": "0"}') as endpoint:
        client = connect(endpoint)
        with pytest.raises(EtcdUnreachable):
            client.range(b"k", deadline=Deadline(0.5))


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b""])
def test_what_speaks_no_whole_http_leaves_a_transaction_unknown(
    connect: Connect, etcd: EtcdProcess, root: bytes, said: bytes
) -> None:
    with babbler(said) as endpoint:
        with pytest.raises(EtcdUnreachable, match=endpoint) as unreachable:
            connect(endpoint, etcd.endpoint).txn([], [Put(root, b"")], deadline=Deadline(2))
        assert unreachable.value.maybe_sent
        assert connect(endpoint, etcd.endpoint).range(root, deadline=Deadline(2)).kvs == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"code":13,"message":"internal"}'),
        (503, b'{"code":14,"message":"etcdserver: leader changed"}'),
        (504, b'{"code":4,"message":"context deadline exceeded"}'),
        (409, b'{"code":6,"message":"x"}'),
        (429, b'{"code":8,"message":"x"}'),
        (502, b"<html>Bad Gateway</html>"),
        (404, b"404 page not found"),
        (200, b"<html>hello</html>"),
        (200, b"[1, 2]"),
        (200, b'{"hello": "world"}'),
        (200, b'{"header": {"cluster_id": "x"}}'),
        (200, b'{"header": {"revision": "7"}}'),
    ],
)
def test_an_indefinite_or_senseless_answer_leaves_a_transaction_unknown_and_lets_reads_go_on(
    connect: Connect, etcd: EtcdProcess, root: bytes, status: int, body: bytes
) -> None:
    with stranger(status, body) as endpoint:
        with pytest.raises(EtcdUnreachable, match=endpoint) as unreachable:
            connect(endpoint, etcd.endpoint).txn([], [Put(root, b"")], deadline=Deadline(2))
        assert unreachable.value.maybe_sent
        assert connect(endpoint, etcd.endpoint).range(root, deadline=Deadline(2)).kvs == []


def test_a_redirect_is_not_followed(connect: Connect, etcd: EtcdProcess, root: bytes) -> None:
    to = f"{etcd.endpoint}/v3/kv/range"
    with stranger(307, b"", Location=to) as endpoint, pytest.raises(EtcdUnreachable):
        connect(endpoint).range(root, deadline=Deadline(0.2))


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (429, 8, "grpc: received message larger than max (2097153 vs. 2097152)"),
        (412, 9, "x"),
        (400, 3, "x"),
        (403, 7, "permission denied"),
    ],
)
def test_a_definite_no_is_a_refusal(connect: Connect, root: bytes, status: int, code: int, message: str) -> None:
    body = f'{{"code":{code},"message":"{message}"}}'.encode()
    with stranger(status, body) as endpoint, pytest.raises(EtcdRefused, match=f"{endpoint} refused"):
        connect(endpoint).txn([], [Put(root, b"")], deadline=Deadline(5))


def test_a_full_etcd_has_applied_a_transaction_or_not_and_is_not_asked_again(connect: Connect, root: bytes) -> None:
    body = b'{"code":8,"message":"etcdserver: mvcc: database space exceeded"}'
    with stranger(429, body) as endpoint, pytest.raises(EtcdFull, match="may be written all the same"):
        connect(endpoint).txn([], [Put(root, b"")], deadline=Deadline(5))


@pytest.mark.parametrize(
    ("code", "words"),
    [(8, "too many requests"), (14, "no leader"), (14, "not capable"), (9, "rpc not supported for learner")],
)
def test_a_transaction_turned_away_at_the_door_goes_to_the_next_endpoint(
    connect: Connect, etcd: EtcdProcess, root: bytes, code: int, words: str
) -> None:
    with stranger(429, f'{{"code":{code},"message":"etcdserver: {words}"}}'.encode()) as busy:
        assert connect(busy, etcd.endpoint).txn([], [Put(root, b"")], deadline=Deadline(5)).succeeded


def test_proxies_of_the_environment_are_ignored(
    connect: Connect, etcd: EtcdProcess, dead: str, root: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
    connect(etcd.endpoint).range(root, deadline=Deadline(5))


def test_an_unreadable_certificate_is_no_access(connect: Connect, tmp_path: Path) -> None:
    credentials = Credentials(ca=str(tmp_path / "ca.pem"))
    with pytest.raises(NoAccess, match=r"ca\.pem"):
        connect("https://127.0.0.1:1", credentials=credentials).range(b"k", deadline=Deadline(5))


def test_status_tells_the_health_of_each_endpoint(connect: Connect, etcd: EtcdProcess, dead: str, root: bytes) -> None:
    with stranger(200, b"{}") as odd:
        well, ill, strange = connect(etcd.endpoint, dead, odd).status(root, deadline=Deadline(5))
    raw = etcd.raw.status()
    assert (well.endpoint, well.version, well.error) == (etcd.endpoint, raw["version"], "")
    assert (str(well.cluster_id), str(well.member_id)) == (raw["header"]["cluster_id"], raw["header"]["member_id"])
    assert well.leader
    assert 0 < well.latency < 5
    assert ill.error == f"etcd at {dead}: Connection refused"
    assert "does not speak" in strange.error


@pytest.mark.slow
def test_a_cluster_answers_while_its_leader_is_killed_and_not_without_a_quorum(
    connect: Connect, own_cluster: OwnCluster
) -> None:
    cluster = own_cluster(3)
    client = connect(cluster.leader().endpoint, *(member.endpoint for member in cluster.followers()))
    client.txn([], [Put(b"k", b"1")], deadline=Deadline(5))
    cluster.leader().kill()
    assert client.range(b"k", deadline=Deadline(15)).kvs[0].value == b"1"
    leader = cluster.leader()
    assert client.txn([], [Put(b"k", b"2")], deadline=Deadline(15)).succeeded
    leader.pause()
    with pytest.raises(EtcdUnreachable):
        client.range(b"k", deadline=Deadline(3))
    statuses = client.status(b"k", deadline=Deadline(10))
    assert all(status.error for status in statuses)
    leader.resume()
    assert until(lambda: client.range(b"k", deadline=Deadline(15)).kvs)[0].value == b"2"
