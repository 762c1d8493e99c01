"""A peer that hangs costs one fetch its time, and not each one after it."""

from __future__ import annotations

from piehole.errors import TransferError
from piehole.replicate.peers import FetchAttempt, HedgedFetch, Peer
from piehole.transfer.fetch import Fetched
from piehole.transfer.keep_files import Hold


def test_one_that_hangs_and_is_overtaken_counts_as_failed() -> None:
    def fetch(attempt: FetchAttempt) -> Fetched:
        if attempt.peer.site == "hangs":
            attempt.stop.wait(30)
            raise TransferError("was stopped")
        return Fetched(1, 1, (), 0.0, "dulwich")

    outcome = HedgedFetch([Peer("hangs", ""), Peer("gives", ""), Peer("idle", "")], fetch, Hold()).run(None)
    assert outcome.site == "gives"
    assert set(outcome.failures) == {"hangs"}
