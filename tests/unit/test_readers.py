"""What counts as reached, and what a reader is told, without etcd and git."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.cache import KeyChange
from controller.readers import Readers
from piehole.errors import EtcdUnreachable, Halted
from piehole.etcd.model import KeyValue, Snapshot
from piehole.fastpath.read_messages import FRESH, REFUSE
from piehole.group.config import Config
from piehole.group.keys import Keyspace
from piehole.replicate.reconcile import Report


class _Cache:
    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    @property
    def revision(self) -> int:
        return self._bed.watched

    def newest(self, _: str) -> int:
        return self._bed.newest

    def wait_for(self, revision: int, _: object) -> bool:
        return self._bed.watched >= revision


class Bed:
    """A repository's readers, whose watch and etcd say what the test has them say."""

    def __init__(self, *, wait: float = 0.0) -> None:
        self.changes: list[tuple[str, KeyChange]] | None = []
        self.watched = self.now = 10  # the revisions of the watch and of etcd
        self.pushed = 10
        self.newest = 0
        self.halted: Halted | None = None
        self.may_act = True
        self.enqueued = self.doubted = 0
        self.unreachable = False
        config = Config(Path("/r.git"), "g", "", "a", "", "", ("h:1",), read_gate="strict", read_wait=wait)
        replica = SimpleNamespace(config=config, keyspace=Keyspace(), etcd=SimpleNamespace(range=self._range))
        view = SimpleNamespace(changes=self._changes, informer=SimpleNamespace(cache=_Cache(self)))
        self.readers = Readers(
            cast(Any, replica),
            cast(Any, view),
            may_act=lambda: self.may_act,
            halted=lambda: self.halted,
            enqueue=self._enqueue,
            doubt=self._doubt,
        )

    def _range(self, *_: object, **__: object) -> Snapshot:
        if self.unreachable:
            raise EtcdUnreachable("No etcd endpoint answered")
        return Snapshot(self.now, [KeyValue(b"k", b"", self.pushed, 1, 1)], False, 1)

    def _changes(self, _: str, after: int) -> list[tuple[str, KeyChange]] | None:
        known = self.changes
        return None if known is None else [one for one in known if one[1].revision > after]

    def _enqueue(self) -> None:
        self.enqueued += 1

    def _doubt(self) -> None:
        self.doubted += 1

    def changed(self, name: str, revision: int) -> None:
        assert self.changes is not None
        self.changes.append((name, KeyChange(revision, b"", None, None)))

    def is_fresh(self, pushed: int) -> bool:
        """Whether a reader who asks now, the newest push being this one, is served as fresh."""
        self.pushed = self.now = self.watched = max(pushed, self.watched)
        self.pushed = pushed
        return self.readers.gate(lambda: True).state == FRESH


def test_a_reconcile_that_leaves_nothing_to_do_has_reached_what_it_claims() -> None:
    bed = Bed()
    bed.readers.reconciled(Report(7))
    assert bed.is_fresh(7)
    assert not bed.is_fresh(8)
    bed.readers.reconciled(Report(6))
    assert bed.is_fresh(7), "what was reached stays reached"


def test_before_the_first_reconcile_nothing_is_reached_whatever_is_the_newest() -> None:
    bed = Bed()
    assert not bed.is_fresh(0), "refs that were put by hand, and no push: the repository may be empty"
    bed.readers.reconciled(Report(3))
    assert bed.is_fresh(0)
    bed.readers.forget()
    assert not bed.is_fresh(0)


@pytest.mark.parametrize("how", ["stuck", "deferred"])
def test_what_is_left_holds_back_what_came_with_it_and_nothing_before(how: str) -> None:
    bed = Bed()
    bed.readers.reconciled(Report(5))
    bed.changed("refs/heads/x", 6)
    bed.changed("refs/heads/held", 8)
    bed.changed("refs/heads/held", 9)
    left = Report(9, stuck={"refs/heads/held": "why"}) if how == "stuck" else Report(9, deferred=("refs/heads/held",))
    bed.readers.reconciled(left)
    assert bed.is_fresh(7)
    assert not bed.is_fresh(8)


def test_a_ref_that_is_held_back_without_a_change_keeps_everything_back() -> None:
    bed = Bed()
    bed.readers.reconciled(Report(5))
    bed.changed("refs/heads/x", 6)
    bed.readers.reconciled(Report(9, stuck={"refs/heads/moved-by-hand": "why"}))
    assert bed.is_fresh(5)
    assert not bed.is_fresh(6)


def test_what_is_not_remembered_or_corrupt_reaches_nothing_new() -> None:
    for report, remembered in (
        (Report(9, deferred=("refs/heads/x",)), None),
        (Report(9, corrupt="a pack"), []),
    ):
        bed = Bed()
        bed.readers.reconciled(Report(5))
        bed.changes = cast(Any, remembered)
        bed.readers.reconciled(report)
        assert bed.is_fresh(5)
        assert not bed.is_fresh(6)


def test_another_connection_to_etcd_starts_from_nothing() -> None:
    bed = Bed()
    bed.readers.reconciled(Report(9))
    bed.may_act = False
    assert not bed.is_fresh(9)
    bed.may_act = True
    bed.readers.forget()
    assert not bed.is_fresh(1)


def test_an_etcd_that_went_back_is_not_believed() -> None:
    bed = Bed()
    bed.readers.reconciled(Report(10))
    bed.now, bed.pushed = 9, 3
    answer = bed.readers.gate(lambda: True)
    assert (answer.state, bed.doubted) == (REFUSE, 1)
    assert "etcd is at revision 9, and was at 10 before" in answer.sentence


def test_a_change_by_hand_counts_as_soon_as_the_watch_has_brought_it() -> None:
    bed = Bed()
    bed.readers.reconciled(Report(8))
    assert bed.is_fresh(8)
    bed.newest = 9
    assert not bed.is_fresh(8)


def test_a_reader_is_woken_by_what_it_waits_for() -> None:
    bed = Bed(wait=20)
    bed.readers.reconciled(Report(5))
    states: list[str] = []
    reader = threading.Thread(target=lambda: states.append(bed.readers.gate(lambda: True).state))
    reader.start()
    bed.readers.reconciled(Report(9))
    reader.join(0.05)
    assert not states
    bed.readers.reconciled(Report(10))
    reader.join(10)
    assert states == [FRESH]
    assert bed.enqueued == 1


def test_a_reader_of_a_halted_site_or_without_etcd_is_told_why_and_one_that_has_gone_is_not_waited_for() -> None:
    bed = Bed(wait=60)
    bed.halted = Halted("went-back", "this disk went back.")
    assert "this disk went back. Try again" in bed.readers.gate(lambda: True).sentence
    bed.halted = None
    bed.unreachable = True
    assert "No etcd endpoint answered" in bed.readers.gate(lambda: True).sentence
    bed.unreachable = False
    assert bed.readers.gate(lambda: False).state == REFUSE
