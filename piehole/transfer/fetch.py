"""Bring missing objects from a peer: quarantine, checks, and only then into the store.

The consensus names the oids, so a peer cannot forge content: hashes (``index-pack``) and connectivity (``rev-list``)
prove that the history is the one that was pushed; ``small`` does both for small packs. What git's fsck would say is a
matter of admission, not of replication: an object that one site admitted and another refuses would wedge that other for
ever.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from piehole.errors import TransferError, TransferRejected
from piehole.fastpath.failpoints import Step, reached
from piehole.refs import is_oid
from piehole.transfer import connectivity
from piehole.transfer.dulwich_fetch import FetchRequest, NegotiationTrouble, PeerAccess, receive
from piehole.transfer.git_fetch import git_fetch
from piehole.transfer.index_pack import IndexPack, PackRefused
from piehole.transfer.keep_files import Hold
from piehole.transfer.process import call
from piehole.transfer.quarantine import Quarantine
from piehole.transfer.small_pack import SmallPackIntake
from piehole.transfer.urls import PeerUrl, parse_url
from piehole.transfer.watchdog import Limits, Watchdog

_HAVES: Final = 64
_DULWICH_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came. ``bytes``: of pack data; ``objects``: as the pack's header says, unknown when git fetched; ``parents``: of those
    commits that came whose parents are known without asking git.
    """

    bytes: int
    objects: int | None
    packs: tuple[Path, ...]
    seconds: float
    via: Literal["dulwich", "git"]
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def fetch(
    git_dir: Path,
    url: str,
    wants: Sequence[str],
    haves: Sequence[str],
    *,
    allowed: Collection[str],
    limits: Limits,
    object_format: str,
    hold: Hold,
    present: Collection[str] = (),
    shared: str | None = None,
    progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Fetched:
    """Bring the closure of all wants into ``git_dir``, or nothing. It stays while ``hold`` lasts: move the refs inside.

    :param haves: tips that local refs hold, the most likely common ones first; the first 64 that exist are offered.
        Without any, nothing that is here is relied upon: that fills an empty repository, and mends a damaged one
    :param allowed: the protocols that ``piehole.allowProtocol`` allows
    :param present: haves of which it is known that they exist
    :param shared: the value of core.sharedRepository, ``""`` where it is not set. Without it, git writes small packs, too
    :param progress: called with the bytes of pack data so far
    :param stop: set it to abort at once
    :raises UsageError: the URL is malformed or its protocol not allowed
    :raises TransferError: this peer could not give them; the text says "does not have OID" where it lacks one
    :raises TransferRejected: what it sent is corrupt, incomplete or larger than allowed
    :raises GitError: this disk could not take them
    :raises ValueError: a want or have is not an oid of ``object_format``
    """
    started = time.monotonic()
    peer = parse_url(url, allowed)
    for oid in (*wants, *haves):
        if not is_oid(oid, object_format):
            raise ValueError(f"{oid!r} is not a {object_format} oid")
    wanted = tuple(dict.fromkeys(wants))
    if not wanted:
        return Fetched(0, 0, (), 0.0, "dulwich")
    offered = list(dict.fromkeys(haves))[:_HAVES]
    here = {*present, *connectivity.existing(git_dir, set(offered).difference(present))}
    request = FetchRequest(wanted, tuple(have for have in offered if have in here))
    with (
        _about(peer),
        Watchdog(limits, stop) as watchdog,
        Quarantine(git_dir, borrowing=bool(request.haves)) as quarantine,
    ):
        transfer = _Transfer(quarantine, peer, request, limits, watchdog, object_format, shared, progress)
        reached(Step.QUARANTINED)
        came = transfer.receive()
        reached(Step.RECEIVED)
        received = quarantine.received() if came.objects != 0 else []
        transfer.check_connectivity(came)
        reached(Step.CONNECTED)
        watchdog.check()
        packs = quarantine.publish(received, hold)
    parents = came.small.parents() if came.small is not None else {}
    return Fetched(came.bytes, came.objects, packs, time.monotonic() - started, came.via, parents)


@dataclass(frozen=True, slots=True)
class _Came:
    """``closed``: git has seen in the pack every object that another one in it names; ``small``: what has taken it, where git has not."""

    bytes: int
    objects: int | None
    via: Literal["dulwich", "git"]
    closed: bool = False
    small: SmallPackIntake | None = None


@dataclass(frozen=True, slots=True)
class _Transfer:
    quarantine: Quarantine
    peer: PeerUrl
    request: FetchRequest
    limits: Limits
    watchdog: Watchdog
    object_format: str
    shared: str | None
    progress: Callable[[int], None] | None

    def receive(self) -> _Came:
        try:
            for attempt in Retrying(
                stop=stop_after_attempt(_DULWICH_ATTEMPTS),
                retry=retry_if_exception_type(NegotiationTrouble),
                reraise=True,
            ):
                with attempt:
                    return self._by_dulwich()
        except NegotiationTrouble:
            self.watchdog.check()
        return _Came(self._by_git(), None, "git")

    def check_connectivity(self, came: _Came) -> None:
        """See that the closure of the wants is here. Where a closed pack has what is wanted, it has the closure of it: nothing
        else is here.
        """

        def ask(arguments: Sequence[str], stdin: bytes) -> bool:
            env = self.quarantine.environment()
            memory = self.limits.max_memory
            return call(self.watchdog, self.quarantine.git_dir, arguments, stdin=stdin, env=env, memory=memory)[0] == 0

        self.watchdog.listen(False)
        wants, haves = self.request.wants, self.request.haves
        if came.small is not None and came.small.proves(wants, haves):
            return
        if came.closed and self._has(wants):
            return
        if not (connectivity.is_closed(ask, wants, haves) if haves else connectivity.is_self_contained(ask, wants)):
            self.quarantine.check()
            raise TransferRejected("sent an incomplete history: objects that the wanted ones need are missing")

    def _has(self, wants: Sequence[str]) -> bool:
        env = self.quarantine.environment()
        with tempfile.TemporaryFile() as listed:
            asked = "".join(f"{want}\n" for want in wants).encode()
            command = ["cat-file", "--batch-check=%(objectname)"]
            call(self.watchdog, self.quarantine.git_dir, command, stdin=asked, stdout=listed, env=env)
            listed.seek(0)
            return listed.read() == asked

    def _by_dulwich(self) -> _Came:
        if self.request.haves:
            return self._packed(closed=False)
        # Where the pack must be whole by itself, git can see to that while it takes it in: a walk through all of it afterwards
        # takes a quarter as long as the transfer.
        try:
            return self._packed(closed=True)
        except PackRefused:
            # It may name odd things that were admitted elsewhere long ago, at which only this look stumbles: walk, then.
            self.watchdog.check()
            return self._packed(closed=False)

    def _packed(self, *, closed: bool) -> _Came:
        self.watchdog.listen(True)
        self.quarantine.clear()
        small = None
        if self.request.haves and self.shared is not None:
            small = SmallPackIntake(self.quarantine, self.object_format, self.shared)
        with IndexPack(self.quarantine, self.watchdog, self.limits, self.progress, closed=closed, small=small) as pack:
            receive(
                PeerAccess(self.quarantine.git_dir, self.peer, self.limits, self.watchdog), self.request, pack.write
            )
            taken = pack.finish()
            return _Came(pack.bytes, pack.objects, "dulwich", closed, small if taken else None)

    def _by_git(self) -> int:
        self.quarantine.clear()
        return git_fetch(
            self.quarantine,
            self.peer,
            self.request.wants,
            limits=self.limits,
            watchdog=self.watchdog,
            object_format=self.object_format,
        )


@contextmanager
def _about(peer: PeerUrl) -> Iterator[None]:
    """Complete the sentences of the layers below, which say what the peer did."""
    try:
        yield
    except TransferRejected as error:
        raise TransferRejected(f"the peer {peer.display} {error}") from error
    except TransferError as error:
        raise TransferError(f"the fetch from {peer.display} failed: it {error}") from error
