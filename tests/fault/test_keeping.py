"""The checker on promises of copies and on reads: each rule sees what it is for, and sound histories have nothing against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fault.history.checker import check
from tests.fault.history.evidence import Ending, Evidence, Look, Loss, Read, Sending
from tests.fault.history.objects import Pool
from tests.fault.history.operations import ZERO, Change
from tests.fault.history.relay import Relays
from tests.fault.history.witness import Store, Witness
from tests.fault.test_checker import DEV, MAIN, PARENTS, A, B, C, D, Story
from tests.support import git

NEVER = float("inf")


def rules(story: Story, **more: object) -> set[str]:
    evidence = Evidence(story.operations, story.events, PARENTS, **more)  # type: ignore[arg-type]
    return {one.rule for one in check(evidence)}


def sent(number: int, oid: str, *sites: str) -> Sending:
    return Sending("1", f"op{number}", {oid: frozenset(sites)}, number + 0.2)


# ---- copies


def test_a_swap_that_was_sent_when_two_sites_had_its_commit_keeps_the_promise() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((MAIN, A, ZERO))
    assert rules(story, copies=2, sendings=[sent(1, A, "a", "b")]) == set()


@pytest.mark.parametrize("holders", [("a",), ()])
def test_a_swap_that_was_sent_too_early_is_seen_even_where_it_took_no_effect(holders: tuple[str, ...]) -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.told("refused", (MAIN, A, B))
    sendings = [sent(1, A, "a", "c"), sent(2, B, *holders)]
    assert rules(story, copies=2, sendings=sendings) == {"uncopied"}


def test_a_swap_that_nobody_saw_proves_nothing() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    assert rules(story, copies=2) == {"uncopied"}


def test_a_disk_that_was_lost_while_the_push_ran_is_one_that_the_promise_allows_for() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    sendings = [sent(1, A, "a")]
    for at, expected in ((1.1, set[str]()), (0.9, {"uncopied"}), (1.3, {"uncopied"})):
        assert rules(story, copies=2, sendings=sendings, losses=[Loss("b", at, NEVER)]) == expected


def test_an_acknowledged_commit_that_is_at_no_site_is_seen() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((MAIN, A, B))
    sendings = [sent(1, A, "a", "b"), sent(2, B, "a", "b")]
    losses = [Loss("a", 2.6, 3.0)]
    endings = [Ending(name, {MAIN: B}, frozenset({A, B})) for name in ("a", "b")]
    assert rules(story, copies=2, sendings=sendings, losses=losses, endings=endings) == set()
    endings = [Ending(name, {MAIN: B}, frozenset({A})) for name in ("a", "b")]
    assert rules(story, copies=2, sendings=sendings, losses=losses, endings=endings) == {"nowhere"}


def test_an_overwritten_commit_may_go_with_the_second_disk_and_not_with_the_first() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((MAIN, A, B))
    story.push((MAIN, B, D))  # by force
    sendings = [sent(1, A, "a", "b"), sent(2, B, "a", "b"), sent(3, D, "a", "b")]
    endings = [Ending(name, {MAIN: D}, frozenset({A, D})) for name in ("a", "b")]
    one, two = Loss("a", 3.6, 4.0), Loss("b", 5.0, 6.0)
    assert rules(story, copies=2, sendings=sendings, losses=[one], endings=endings) == {"nowhere"}
    assert rules(story, copies=2, sendings=sendings, losses=[one, two], endings=endings) == set()


def test_a_site_that_began_anew_owes_nothing_that_its_old_disk_had() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((DEV, ZERO, A))
    sendings = [sent(1, A, "a", "b"), sent(2, A, "a", "b")]
    losses = [Loss("a", 3.0, 4.0)]
    looks = [Look("a", {MAIN: A, DEV: A}, at=2.9), Look("a", {}, at=4.1)]
    assert rules(story, copies=2, sendings=sendings, losses=losses, looks=looks) == set()
    assert rules(story, copies=2, sendings=sendings, looks=looks) == {"vanished"}


# ---- reads


def read(began: float, *, ended: float = 0.0, site: str = "b", outcome: str = "fresh", **refs: str) -> Read:
    named = {{"main": MAIN, "dev": DEV}[name]: oid for name, oid in refs.items()}
    return Read(site, named, began, ended or began + 0.1, outcome)  # type: ignore[arg-type]


def test_a_read_shows_what_was_answered_before_it_or_something_newer() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))  # answered at 1.5
    story.push((MAIN, A, B))  # from 2 to 2.5
    story.push((MAIN, B, ZERO))
    fine = [read(1.2), read(1.3, main=A), read(2.1, main=A), read(2.2, main=B), read(3.1, main=B), read(3.6)]
    for one in fine:
        assert rules(story, reads=[one]) == set(), one
    for one in (read(1.6), read(2.6, main=A), read(3.6, main=B), read(3.6, main=C)):
        assert rules(story, reads=[one]) == {"stale"}, one


def test_a_read_that_was_warned_or_refused_owes_nothing() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    assert rules(story, reads=[read(2.0, outcome="warned"), read(2.0, outcome="refused")]) == set()


def test_what_one_reader_has_seen_the_next_one_sees_though_nobody_was_answered_yet() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((MAIN, A, B), outcome="unknown")
    first, second = read(2.1, main=B), read(2.3, main=A, site="c")
    assert rules(story, reads=[first]) == rules(story, reads=[second]) == set()
    assert rules(story, reads=[first, second]) == {"stale"}


@pytest.mark.parametrize("value", ["locked", None])
def test_a_key_that_an_administrator_locked_or_deleted_leaves_each_site_what_it_had(value: str | None) -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    story.push((MAIN, A, B))
    one = story.told("unknown", (MAIN, "", value or ""), by_hand=True)
    story.operations[-1] = replace(one, changes=(Change(MAIN, "", value),))
    story.by_hand(MAIN, value)
    for shown in (A, B):
        assert rules(story, reads=[read(5.0, main=shown)]) == set()
    assert rules(story, reads=[read(2.9, ended=2.95, main=A)]) == {"stale"}
    story.push((MAIN, B, C))
    assert rules(story, reads=[read(5.0, main=B)]) >= {"stale"}


def test_a_read_during_which_the_site_was_destroyed_is_none() -> None:
    story = Story()
    story.push((MAIN, ZERO, A))
    losses = [Loss("b", 3.0, 4.0)]
    assert rules(story, reads=[read(2.9, ended=4.5)], losses=losses) == set()
    assert rules(story, reads=[read(4.1)], losses=losses) == {"stale"}


# ---- the witness


def test_a_store_finds_objects_in_files_and_packs_and_not_in_quarantines(tmp_path: Path) -> None:
    pool = Pool(git.make_bare(tmp_path / "pool.git"))
    first = pool.commit("first")
    second = pool.commit("second", first)
    store = Store(pool.repository)
    assert pool.new_objects(second, {first})[0] == second
    assert len(pool.new_objects(second, {first})) == 3
    assert len(pool.new_objects(second, set())) == 6
    assert store.has(pool.new_objects(second, set()))
    assert not store.protects(second)
    git.git(pool.repository, "update-ref", f"refs/piehole/held/abc/{second}", second)
    assert store.protects(second)
    assert store.protects(first)
    git.git(pool.repository, "repack", "-adq")
    assert store.has(pool.new_objects(second, set()))
    for pack in (pool.repository / "objects" / "pack").glob("*.pack"):
        pack.unlink()
    assert not store.has([second])


def test_the_witness_takes_down_who_has_what_a_swap_brings_and_nothing_of_other_transactions(tmp_path: Path) -> None:
    pool = Pool(git.make_bare(tmp_path / "pool.git"))
    oid = pool.commit("first")
    there, empty = git.make_bare(tmp_path / "there.git"), git.make_bare(tmp_path / "empty.git")
    git.git(pool.repository, "push", "-q", str(there), f"{oid}:refs/heads/main")
    witness = Witness(pool, "/p", 2, lambda: {"a": pool.repository, "b": there, "c": empty})
    witness.look(git_swap("/p/ref/g/refs/heads/main", oid, site="a"))
    witness.look(git_swap("/p/ref/g/refs/heads/main", oid, site="c"))
    witness.look(git_swap("/p/progress/g/a", "{}", site=""))
    witness.look(b'{"compare": []}')
    assert [(one.pusher, one.holders) for one in witness.sendings] == [
        ("op1", {oid: frozenset("ab")}),
        ("op1", {oid: frozenset("b")}),
    ]


def git_swap(key: str, value: str, *, site: str) -> bytes:
    import base64
    import json

    def put(name: str, content: str) -> dict[str, dict[str, str]]:
        encoded = (base64.b64encode(text.encode()).decode() for text in (name, content))
        return {"request_put": dict(zip(("key", "value"), encoded, strict=True))}

    puts = [put(key, value)]
    if site:
        puts.append(put("/p/ref/g/@push", json.dumps({"id": "1", "pusher": "op1", "site": site})))
    return json.dumps({"compare": [], "success": puts}).encode()


def test_a_link_shows_each_transaction_before_etcd_has_any_of_it() -> None:
    import http.client
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    order: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            order.append(("server", body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    relays = Relays()
    try:
        link = relays.to(server.server_port)
        link.inspect = lambda body: order.append(("witness", body))
        for path, body in (("/v3/kv/txn", b"x" * 200_000), ("/v3/kv/range", b"y")):
            connection = http.client.HTTPConnection("127.0.0.1", link.port, timeout=10)
            connection.request("POST", path, body)
            assert connection.getresponse().status == 200
            connection.close()
    finally:
        relays.end()
        server.shutdown()
        server.server_close()
    assert [(who, len(body)) for who, body in order] == [("witness", 200_000), ("server", 200_000), ("server", 1)]
