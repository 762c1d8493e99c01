"""What one transfer may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one fetch from one peer, over all of its attempts.

    ``max_bytes``: bytes of pack data. ``max_memory``: bytes that each git process may allocate which reads what a peer
    has sent; a few bytes of a pack can inflate to anything. ``connect``: seconds until the peer accepts the connection. ``stall``: seconds
    in which no byte arrived. ``total``: seconds from the first step to the last.
    """

    max_bytes: int = 16 << 30
    max_memory: int = 4 << 30
    connect: float = 10.0
    stall: float = 60.0
    total: float = 3600.0
