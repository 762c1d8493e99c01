"""The requests for copies of one group as the cached view has them, and what became of those that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from controller.cache import KeyChange
from controller.etcd_view import EtcdView
from piehole.etcd.model import KeyValue
from piehole.group.keys import COPIES, PUSH
from piehole.group.records import PushRecord
from piehole.group.replica import Replica
from piehole.refs import decode
from piehole.replicate.release_copies import PushEnd

_LISTED: Final = 20_000  # keys that are looked through at once; there are more only where somebody wrote them by hand


class CopyRequests:
    """:meth:`news` is for one thread at a time, the rest for any."""

    def __init__(self, replica: Replica, etcd_view: EtcdView) -> None:
        self._config = replica.config
        self._keyspace = replica.keyspace
        self._etcd_view = etcd_view
        self._cache = etcd_view.informer.cache
        self._bucket = f"{replica.config.group}/{COPIES}"
        self._start = replica.keyspace.ref(replica.config.group, f"{COPIES}/")
        self._seen = -1  # the newest change that was told

    @property
    def revision(self) -> int:
        return self._cache.revision

    def get(self, push_id: str) -> KeyValue | None:
        return self._cache.get(self._bucket, self._keyspace.copies(self._config.group, push_id))

    def all(self) -> list[str]:
        """The pushes for which there are requests."""
        found = (self._split(key) for key in islice(self._cache.view(self._bucket).entries, _LISTED))
        return [push_id for push_id, site in found if not site]

    def holders(self, push_id: str) -> Iterator[str]:
        """The other sites that say they hold what this push brings."""
        for key in islice(self._cache.view(self._bucket).entries, _LISTED):
            found, site = self._split(key)
            if found == push_id and site not in ("", self._config.site):
                yield site

    def news(self) -> list[tuple[str, str, KeyChange]] | None:
        """The changes since the last call, each with the push and the site that answers (``""``: the request itself); None: they are not
        all known.
        """
        changes = self._cache.changes(self._bucket, self._seen) if self._seen >= 0 else None
        if changes is None:
            self._seen = self._cache.revision
            return None
        self._seen = max([self._seen, *(change.revision for change in changes)])
        return [(*self._split(change.key), change) for change in changes]

    def end_of(self, name: str, gone: KeyChange) -> PushEnd:
        """What became of a push whose request is gone.

        Its last swap deletes the request. But a push of several refs may have several swaps, and one that was refused in between deletes
        the request without a swap.
        """
        since = gone.before.create_revision if gone.before is not None else gone.revision
        changes = self._etcd_view.changes(self._config.group, since)
        if changes is None:
            return PushEnd(gone.revision, None)
        changes = [(key, change) for key, change in changes if change.revision <= gone.revision]
        records = {change.revision: PushRecord.of(change.after) for key, change in changes if key == PUSH}
        # (A push that asks several times has its id and more in the names of its requests.)
        names = (name, name.partition("-")[0])
        ours = {revision for revision, record in records.items() if record is not None and record.id in names}
        moved = {
            key: decode(change.after.value).strip()
            for key, change in changes
            if change.revision in ours and change.after is not None and key != PUSH
        }
        return PushEnd(gone.revision, bool(ours), moved)

    def _split(self, key: bytes) -> tuple[str, str]:
        push_id, separator, site = decode(key[len(self._start) :]).partition("/")
        return push_id, site or (separator and "/")
