"""What the repositories of one server see of etcd, from the informer's cache; no etcd here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.etcd_view import EtcdAddress, EtcdView
from piehole.etcd.endpoint import Credentials
from piehole.etcd.model import KeyValue, Snapshot


@pytest.fixture
def view() -> Iterator[EtcdView]:
    address = EtcdAddress(("http://127.0.0.1:1",), Credentials(), "/piehole")
    made = EtcdView(address, lambda *_: None, lambda: None, lambda _: None)
    yield made
    made.etcd.close()


def listed(view: EtcdView, revision: int, value: bytes) -> None:
    """Have the cache be what a listing says: a group with one ref."""
    key = view.keyspace.ref("g", "refs/heads/main")
    view.informer.cache.replace(Snapshot(revision, [KeyValue(key, value, 5, 5, 1)], False, 1))


def test_a_listing_is_seen_also_where_it_has_the_revision_of_what_was_seen_before(view: EtcdView) -> None:
    """Etcd was put back and has overtaken its old revision. Between connecting and listing somebody looked.

    Seen: a site whose administrator had accepted etcd as it is held what it had before, and said that it had everything.
    """
    listed(view, 68, b"newest")
    assert view.view("g").entries["refs/heads/main"].value == b"newest"
    listed(view, 68, b"first")
    assert view.view("g").entries["refs/heads/main"].value == b"first"


def test_while_nothing_changes_the_same_state_is_seen(view: EtcdView) -> None:
    listed(view, 68, b"first")
    assert view.view("g") is view.view("g")
