"""Hold what a push to another site brings, before the group takes it: the answer to a request for copies.

Orders that must hold:

* The objects are fetched into a quarantine, proven and synced; only then is the held ref made.
* The held ref and its folders are synced before this site says that it holds the objects.
* The ``.keep`` files of what came stay until the held ref is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from piehole import git
from piehole.deadline import Deadline
from piehole.errors import PieholeError, TransferError
from piehole.etcd.model import LARGEST_TXN, Compare, KeyValue, Put, Range
from piehole.fastpath import ref_files
from piehole.fastpath.failpoints import Step, reached
from piehole.group import keys
from piehole.group.promise import CopiesRequest, CopyRecord
from piehole.group.records import RecordError, now
from piehole.group.replica import Replica
from piehole.refs import encode, is_oid, is_zero
from piehole.replicate.fetch_objects import ObjectFetcher
from piehole.replicate.holdings import HeldTip, Holdings
from piehole.replicate.peers import Peer
from piehole.repository import git_settings, held_refs
from piehole.transfer.keep_files import Hold

_PATIENCE: Final = 5.0  # seconds for a request to etcd
_TELLINGS: Final = 2
_LARGEST: Final = 512 << 10  # bytes of a request: as many oids as one transaction has refs, and some bases
_HAVES: Final = 64
_REFS: Final = 16  # local refs that are looked up because a base is none of the newest tips


class Senseless(PieholeError):
    """This request is never answered, whatever happens."""


def read_request(replica: Replica, push_id: str, kv: KeyValue) -> CopiesRequest:
    """What another site asks for.

    :raises Senseless: it asks for nothing that this site could ever hold
    """
    config = replica.config
    if not held_refs.is_push_id(push_id):
        raise Senseless("the id in its key is not one of a push")
    if len(kv.value) > _LARGEST:
        raise Senseless(f"it has {len(kv.value)} bytes, and at most {_LARGEST} are read")
    try:
        request = CopiesRequest.parse(kv.value)
    except (PieholeError, RecursionError) as error:
        raise Senseless(str(error)) from error
    if not keys.is_site(request.site):
        raise Senseless("it names no site that asks")
    if len(request.oids) > LARGEST_TXN:
        raise Senseless(f"it asks for {len(request.oids)} objects, and no push has more than {LARGEST_TXN}")
    for oid in request.oids:
        if not is_oid(oid, config.object_format) or is_zero(oid):
            raise Senseless(f"{oid} is no oid of the format {config.object_format}")
    if not 0 < request.lease < 1 << 63:
        raise Senseless("it is bound to no lease, so nothing would end it")
    return request


class CopyHolder:
    """Holds copies in one repository, for several pushes at once.

    :param newest: the group's refs in the cached view, by their names
    """

    def __init__(
        self,
        replica: Replica,
        fetcher: ObjectFetcher,
        holdings: Holdings,
        newest: Callable[[], Mapping[str, KeyValue]],
    ) -> None:
        self._replica = replica
        self._fetcher = fetcher
        self._holdings = holdings
        self._newest = newest
        self._tips: Sequence[str] | None = None
        self._hidden = False
        self._preparing = threading.Lock()

    def use_tips(self, tips: Sequence[str]) -> None:
        """These commits are held by local refs, the newest first."""
        self._tips = tips

    def holds(self, push_id: str, request: CopiesRequest) -> bool:
        """Whether held refs are there for all that is asked for."""
        return all(held_refs.is_held(self._replica.repository, push_id, oid) for oid in request.oids)

    def hold(
        self,
        push_id: str,
        asked: KeyValue,
        request: CopiesRequest,
        holders: Callable[[], Iterable[str]],
        may_act: Callable[[], None],
        stop: threading.Event,
        *,
        held: Callable[[], None],
        again: bool = False,
    ) -> bool:
        """Hold what is asked for, and tell the group; returns whether the request was still there to be answered.

        :param holders: the other sites that say they hold it
        :param may_act: raises what keeps this site from answering
        :param held: called when the held refs are there, before the group is told
        :param again: an attempt has failed, so nothing is relied upon that was not looked up anew
        :raises PieholeError: it is not held, or not known to the group; try again while the request is there
        :raises OSError: as above
        """
        repository = self._replica.repository
        oids = list(dict.fromkeys(request.oids))
        self._hide()
        reached(Step.COPYING)
        with (
            held_refs.begin(repository, len(oids)) as begun,
            Hold() as hold,
            self._holdings.fetching(oids, stop) as (coming, missing),
        ):
            tips = self._holdings.lend([oid for oid in oids if oid not in missing], hold, stop)
            if missing:

                def received(count: int) -> None:
                    coming.received = max(coming.received, count)

                tips |= self._fetch(request, sorted(missing), holders, hold, stop, received, again)
            lacking = [oid for oid in oids if oid not in tips]
            if lacking:
                raise TransferError(f"{lacking[0]} was held for another push, and no longer is")
            reached(Step.COPIED)
            held_refs.hold(repository, begun, push_id, oids)
            reached(Step.HELD)
            for oid in oids:
                self._holdings.add(push_id, oid, tips[oid])
            held()
            may_act()
            return self.tell(push_id, asked, request.lease)

    def tell(self, push_id: str, asked: KeyValue, lease: int) -> bool:
        """Tell the group that this site holds what a push brings; returns whether the request was still there.

        An answer that is there already stays as it is: the push's swap compares its mod_revision.
        """
        config = self._replica.config
        key = self._replica.keyspace.copy(config.group, push_id, config.site)
        put = Put(key, CopyRecord(config.site_id, now()).dump(), lease)
        reached(Step.COPY_TELLING)
        before = 0
        for _ in range(_TELLINGS):
            compares = [Compare(asked.key, mod_revision=asked.mod_revision), Compare(key, mod_revision=before)]
            told = self._replica.etcd.txn(compares, [put], [Range(key)], deadline=Deadline(_PATIENCE))
            if told.succeeded or self._is_answer(told.ranges[0].kvs, asked):
                reached(Step.COPY_TOLD)
                return True
            # Somebody else has written it, or it is older than the request.
            before = next((kv.mod_revision for kv in told.ranges[0].kvs), 0)
        return False

    def _is_answer(self, found: Sequence[KeyValue], asked: KeyValue) -> bool:
        try:
            return any(
                kv.mod_revision > asked.mod_revision and CopyRecord.parse(kv.value).id == self._replica.config.site_id
                for kv in found
            )
        except RecordError:
            return False

    def _fetch(
        self,
        request: CopiesRequest,
        oids: Sequence[str],
        holders: Callable[[], Iterable[str]],
        hold: Hold,
        stop: threading.Event,
        received: Callable[[int], None],
        again: bool,
    ) -> dict[str, HeldTip]:
        """Fetch these from the site that asks, or from one that holds them. A pack with all that the haves lack comes, whatever is here."""

        def peers(*, anew: bool = False) -> list[Peer]:
            return self._fetcher.directory.named([request.site, *holders()], first=request.site, anew=anew)

        candidates = peers(anew=again)
        asker = next((peer for peer in candidates if peer.site == request.site), None)
        if asker is None or asker.left:
            raise Senseless(f"{request.site} is no site of the group" if asker is None else f"{request.site} has left")
        haves = self._haves(request, hold, stop)
        found = self._fetcher.from_any(
            candidates, oids, haves, hold, stop, known=not again, more=peers, received=received
        )
        if found.fetched is None:
            raise TransferError(found.why)
        return {oid: HeldTip(found.site, found.fetched.parents.get(oid)) for oid in oids}

    def _haves(self, request: CopiesRequest, hold: Hold, stop: threading.Event) -> list[str]:
        """Commits whose closure is here and stays here: bases that refs or other pushes hold, then the newest tips."""
        tips = self._known_tips()
        here = set(tips)
        bases = [base for base in request.bases[:_HAVES] if is_oid(base, self._replica.config.object_format)]
        lent = self._holdings.lend([base for base in bases if base not in here], hold, stop)
        found = [base for base in bases if base in here or base in lent]
        if bases and not found:
            found = self._pointed_at(bases)
        return list(dict.fromkeys([*found, *tips]))[:_HAVES]

    def _pointed_at(self, bases: Collection[str]) -> list[str]:
        """Those of these that refs have here, found through the group's refs: of them only few are read here."""
        wanted = {encode(base) for base in bases}
        names = (name for name, kv in self._newest().items() if kv.value[:64].rstrip(b"\n") in wanted)
        repository = self._replica.repository
        found = []
        for name in islice((name for name in names if name.startswith("refs/")), _REFS):
            with suppress(OSError):
                here = (
                    repository.read_ref(name)
                    if repository.has_reftable
                    else ref_files.value(str(repository.git_dir), name)
                )
                found += [here] if here in bases else []
        return list(dict.fromkeys(found))

    def _known_tips(self) -> Sequence[str]:
        if self._tips is None:  # no reconcile has ended yet: it may be the first one, which takes long
            listed = self._replica.repository.git("for-each-ref", f"--count={_HAVES}", "--format=%(objectname)")
            self._tips = git.lines(listed)
        return self._tips

    def _hide(self) -> None:
        with self._preparing:
            if not self._hidden:
                git_settings.hide_held_refs(self._replica.git_dir)
                self._hidden = True
