"""Fetch missing objects from a peer into a quarantine, check them there, and only then publish them.

The consensus names the oids, so a peer cannot forge content: hashes (``index-pack``) and connectivity (``rev-list``) prove that
the history is the one that was pushed; ``small_pack`` does both for small packs. fsck belongs to admission, not to replication: a
site that refused an object which another site admitted would never catch up.
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
from piehole.long_work import doing
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
    """What a fetch received. ``bytes``: of pack data; ``objects``: as the pack's header says, unknown when git fetched;
    ``parents``: of those received commits whose parents are known without asking git.
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
    """Bring the closure of all wants into ``git_dir``, or nothing. ``hold`` keeps it from being pruned: move the refs inside it.

    :param haves: tips that local refs hold, the most likely common ones first; the first 64 that exist are offered.
        Without any, no object of this repository is relied upon, which fills an empty repository and repairs a damaged one
    :param allowed: the protocols that ``piehole.allowProtocol`` allows
    :param present: haves that are known to exist
    :param shared: the value of core.sharedRepository, ``""`` where it is not set. None: git stores small packs, too
    :param progress: called with the bytes of pack data so far
    :param stop: set it to abort at once
    :raises UsageError: the URL is malformed or its protocol not allowed
    :raises TransferError: this peer could not send them; the text says "does not have OID" where it lacks one
    :raises TransferRejected: the peer sent something corrupt, incomplete or larger than allowed
    :raises GitError: they could not be written here
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
        _naming(peer),
        Watchdog(limits, stop) as watchdog,
        Quarantine(git_dir, borrowing=bool(request.haves)) as quarantine,
    ):
        transfer = _Transfer(quarantine, peer, request, limits, watchdog, object_format, shared, progress)
        reached(Step.QUARANTINED)
        receipt = transfer.receive()
        reached(Step.RECEIVED)
        received = quarantine.received() if receipt.objects != 0 else []
        doing(f"checking what came from {peer.display}")
        transfer.check_connectivity(receipt)
        reached(Step.CONNECTED)
        watchdog.check()
        packs = quarantine.publish(received, hold)
    parents = receipt.small.parents() if receipt.small is not None else {}
    return Fetched(receipt.bytes, receipt.objects, packs, time.monotonic() - started, receipt.via, parents)


@dataclass(frozen=True, slots=True)
class _Receipt:
    """``closed``: git has checked that the pack holds every object that one of its objects names; ``small``: what stored it instead of git."""

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

    def receive(self) -> _Receipt:
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
        return _Receipt(self._by_git(), None, "git")

    def check_connectivity(self, receipt: _Receipt) -> None:
        """Check that the closure of the wants is here. A closed pack that holds a want holds its closure, too."""

        def ask(arguments: Sequence[str], stdin: bytes) -> bool:
            env = self.quarantine.environment()
            memory = self.limits.max_memory
            return call(self.watchdog, self.quarantine.git_dir, arguments, stdin=stdin, env=env, memory=memory)[0] == 0

        self.watchdog.listen(False)
        wants, haves = self.request.wants, self.request.haves
        if receipt.small is not None and receipt.small.proves(wants, haves):
            return
        if receipt.closed and self._has(wants):
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

    def _by_dulwich(self) -> _Receipt:
        if self.request.haves:
            return self._packed(closed=False)
        # A pack that must be self-contained is checked by git while it indexes it. A walk through all of it afterwards would
        # take a quarter as long as the transfer.
        try:
            return self._packed(closed=True)
        except PackRefused:
            # This check also refuses malformed objects, which may have been admitted elsewhere long ago. The walk does not.
            self.watchdog.check()
            return self._packed(closed=False)

    def _packed(self, *, closed: bool) -> _Receipt:
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
            return _Receipt(pack.bytes, pack.objects, "dulwich", closed, small if taken else None)

    def _by_git(self) -> int:
        self.quarantine.clear()
        return git_fetch(
            self.quarantine,
            self.peer,
            self.request.wants,
            limits=self.limits,
            watchdog=self.watchdog,
            object_format=self.object_format,
            progress=self.progress,
        )


@contextmanager
def _naming(peer: PeerUrl) -> Iterator[None]:
    """Add the peer to the messages of the modules below, which say only what it did."""
    try:
        yield
    except TransferRejected as error:
        raise TransferRejected(f"the peer {peer.display} {error}") from error
    except TransferError as error:
        raise TransferError(f"the fetch from {peer.display} failed: it {error}") from error
