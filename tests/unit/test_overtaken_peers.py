"""A peer that hangs costs one fetch its time, and not each one after it."""

from __future__ import annotations

from piehole.errors import TransferError
from piehole.replicate.peers import Attempt, Peer, Race
from piehole.transfer.fetch import Fetched
from piehole.transfer.keep_files import Hold


def test_one_that_hangs_and_is_overtaken_counts_as_failed() -> None:
    def fetch(attempt: Attempt) -> Fetched:
        if attempt.peer.site == "hangs":
            attempt.cancel.wait(30)
            raise TransferError("was stopped")
        return Fetched(1, 1, (), 0.0, "dulwich")

    raced = Race([Peer("hangs", ""), Peer("gives", ""), Peer("idle", "")], fetch, Hold()).run(None)
    assert raced.site == "gives"
    assert set(raced.failures) == {"hangs"}
