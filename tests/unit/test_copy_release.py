"""When held copies may go."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from controller.copy_release import CopyRelease, HeldPush, lingering
from piehole.replicate.holdings import HeldTip, Holdings
from piehole.replicate.release_copies import PushEnd
from piehole.transfer.keep_files import Hold

OID = frozenset({"a" * 40})
REFUSED = PushEnd(1, False)


def release(holdings: Holdings, asked: list[str] | None = None) -> CopyRelease:
    replica: Any = SimpleNamespace(repository=None)
    return CopyRelease(replica, holdings, lambda: (asked or []).append("reconcile"))


def test_what_was_long_to_fetch_stays_for_a_while_after_a_refusal() -> None:
    assert [lingering(seconds) for seconds in (0.1, 2.9, 6.0, 3600.0)] == [0.0, 0.0, 60.0, 600.0]
    now = time.monotonic()
    gone = {
        "long": HeldPush(OID, complete=True, until=now + 60, end=REFUSED),
        "quick": HeldPush(OID, complete=True, until=now, end=REFUSED),
    }
    waits, free = release(Holdings()).sort_out(gone, 1)
    assert list(free) == ["quick"]
    assert len(waits) == 1
    assert 50 < waits[0] <= 60


def test_what_a_reconcile_uses_stays_until_its_refs_have_moved() -> None:
    holdings = Holdings()
    (oid,) = OID
    holdings.add("x", oid, HeldTip())
    gone = {"x": HeldPush(OID, complete=True, end=REFUSED)}
    with Hold() as hold:
        assert list(holdings.lend([oid, "b" * 40], hold)) == [oid]
        waits, free = release(holdings).sort_out(gone, 1)
        assert (len(waits), free) == (1, {})
    assert release(holdings).sort_out(gone, 1) == ([], {"x": OID})
    with Hold() as hold:
        assert holdings.lend([oid], hold) == {}


def test_a_push_of_which_nobody_knows_what_became_waits_for_a_reconcile() -> None:
    asked: list[str] = ["begun"]
    gone = {"x": HeldPush(OID, complete=True)}
    assert release(Holdings(), asked).sort_out(gone, 7) == ([], {})
    assert asked == ["begun", "reconcile"]
    assert gone["x"].end == PushEnd(7, None)
