"""Whom to ask for objects, and that nobody is waited for while another has them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piehole.errors import TransferError
from piehole.replicate.peers import FetchAttempt, HedgedFetch, Peer, PeerHealth, divided, order
from piehole.transfer.fetch import Fetched
from piehole.transfer.keep_files import Hold

GOOD = Fetched(1, 1, (), 0.0, "dulwich")
PEERS = [Peer("a", "/a", 5), Peer("b", "/b", 9), Peer("c", "/c", 1), Peer("d", "/d", 9, left=True)]


def names(revision: int = 7, origin: str = "", suspects: str = "") -> str:
    return "".join(peer.site for peer in order(PEERS, revision, origin, lambda site: site in suspects))


def test_first_the_origin_then_those_that_passed_it_then_anyone() -> None:
    assert names(origin="c") == "cbad"
    assert names() == "bacd"
    assert names(origin="c", suspects="cb") == "adcb"


def test_a_corrupt_site_is_asked_last_of_all_even_for_what_was_pushed_there() -> None:
    peers = [Peer("a", "/a", 5), Peer("b", "/b", 9, corrupt=True), Peer("c", "/c", 1, left=True)]
    assert "".join(peer.site for peer in order(peers, 7, "b", lambda site: site == "a")) == "cab"


@given(st.permutations(PEERS))
def test_the_order_does_not_depend_on_how_they_were_listed(peers: list[Peer]) -> None:
    assert order(peers, 7, "c", lambda _: False) == order(PEERS, 7, "c", lambda _: False)


def test_a_peer_that_fails_is_put_back_for_a_while() -> None:
    now = [100.0]
    health = PeerHealth(lambda: now[0])
    health.failed("a")
    assert health.suspect("a")
    assert not health.suspect("b")
    now[0] += 3
    assert not health.suspect("a")
    health.failed("a")
    now[0] += 3
    assert health.suspect("a"), "longer with each failure in a row"
    health.succeeded("a")
    assert not health.suspect("a")


def race(fetch: dict[str, object], stop: threading.Event | None = None) -> tuple[str, dict[str, str], float]:
    def attempt(one: FetchAttempt) -> Fetched:
        what = fetch[one.peer.site]
        if isinstance(what, Exception):
            raise what
        if what == "hang":
            one.stop.wait(60)
            raise TransferError("was stopped")
        if what == "deaf":  # as in a connect() that nothing ends
            time.sleep(5)
        if what == "trickle":
            while not one.stop.wait(0.05):
                one.received += 1
            raise TransferError("was stopped")
        return GOOD

    peers = [Peer(site, f"/{site}") for site in fetch]
    began = time.monotonic()
    with Hold() as hold:
        outcome = HedgedFetch(peers, attempt, hold).run(stop)
    return outcome.site, dict(outcome.failures), time.monotonic() - began


def test_the_next_peer_is_asked_when_one_fails() -> None:
    site, failures, _ = race({"a": TransferError("no"), "b": ValueError("odd"), "c": "good"})
    assert site == "c"
    assert failures == {"a": "no", "b": "ValueError: odd"}


@pytest.mark.slow
def test_a_peer_that_hangs_trickles_or_is_deaf_is_not_waited_for() -> None:
    for bad in ("hang", "trickle", "deaf"):
        site, _, took = race({"a": bad, "b": "good"})
        assert site == "b"
        assert took < 4.5, bad


def test_a_stop_ends_everything() -> None:
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    site, failures, took = race({"a": "hang", "b": "hang"}, stop)
    timer.join()
    assert site == ""
    assert failures == {"a": "stopped"}
    assert took < 2


def test_nothing_is_published_after_the_race(tmp_path: Path) -> None:
    kept: list[str] = []

    def attempt(one: FetchAttempt) -> Fetched:
        if one.peer.site == "b":
            return GOOD
        one.stop.wait(30)
        try:
            one.hold.keep(tmp_path / "late.keep")
        except TransferError:
            kept.append("refused")
            raise
        return GOOD

    with Hold() as hold:
        outcome = HedgedFetch([Peer("a", "/a"), Peer("b", "/b")], attempt, hold).run(None)
        assert outcome.site == "b"
        assert kept == ["refused"]
        assert not (tmp_path / "late.keep").exists()


def test_an_oid_that_all_peers_lack_is_set_apart_at_once() -> None:
    lacked = "b" * 40
    why = {"a": f"the fetch failed: it does not have {lacked}", "b": f"it does not have {lacked}"}
    batch = ["a" * 40, lacked, "c" * 40]
    assert divided(batch, why) == [["a" * 40, "c" * 40], [lacked]]
    assert divided(batch, {**why, "c": "cannot be reached"}) == [[lacked, "c" * 40], ["a" * 40]]
