"""One etcd cluster and prefix, which the repositories of this server share: a connection and an informer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from controller.cache import KeyChange
from controller.informer import Informer
from piehole.errors import EtcdError
from piehole.etcd.client import Etcd
from piehole.etcd.endpoint import Credentials
from piehole.etcd.leases import SharedLease
from piehole.etcd.model import Head, KeyValue
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.keys import DROP, FENCE, PUSH, Keyspace, name_below
from piehole.refs import decode, encode

_END: Final = 5.0  # seconds that the informer gets to end
# Seconds of silence after which etcd is asked before a push is let pass; `_NEAR` where it has answered within `_HIDDEN` before.
_NEAR: Final = 2.0
_FAR: Final = 6.0
_HIDDEN: Final = 0.01


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """Repositories with equal addresses share one connection and one informer."""

    etcd: tuple[str, ...]
    credentials: Credentials
    prefix: str

    @classmethod
    def of(cls, config: Config) -> EtcdAddress:
        return cls(config.etcd, config.credentials, config.prefix)


class EtcdView:
    """The connection, the informer of the ref prefix, and the number of times it has (re)connected.

    ``on_change(groups, fresh)`` and ``on_connect()`` are called from the informer's thread and must not block;
    ``on_crash(error)`` is, too, when an error has ended the informer.
    """

    def __init__(
        self,
        address: EtcdAddress,
        on_change: Callable[[set[str], bool], None],
        on_connect: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self.address = address
        self.keyspace = Keyspace(address.prefix)
        self.etcd = Etcd(address.etcd, address.credentials)
        self.lease = SharedLease(self.etcd)  # of what pushes leave in etcd for a while
        self._log = structlog.get_logger(etcd=",".join(address.etcd), prefix=address.prefix)
        self._on_connect = on_connect
        self._on_crash = on_crash
        self._connections = 0
        self._trouble = ""
        self._counted = threading.Lock()
        self._states: dict[tuple[str, bytes], tuple[tuple[int, int], GroupState]] = {}
        self.informer = Informer(
            self.etcd,
            self.keyspace.refs,
            bucket=self.keyspace.bucket,
            on_change=on_change,
            on_connect=self._connected,
            on_trouble=self._troubled,
        )

    @property
    def epoch(self) -> int:
        """Grows with each (re)connect: in each epoch it is checked again whether etcd was restored from a backup."""
        with self._counted:
            return self._connections

    def heard_since(self, read: float) -> bool:
        """Whether the watch is up, and a push need not ask etcd first, because it was asked at ``read`` (monotonic seconds) or told since.

        Where etcd is near, asking takes less time than git needs for its next steps. Where it is far, a message of the watch is enough:
        with deploy's settings one comes every five seconds.
        """
        status = self.informer.status()
        near = self.etcd.quickest < _HIDDEN
        heard = read if near else max(read, status.last_contact or 0.0)
        return status.connected and time.monotonic() - heard < (_NEAR if near else _FAR)

    def view(self, group: str, record: KeyValue | None = None, site: KeyValue | None = None) -> GroupState:
        """The group's keys as the informer has them now, with the group's and the site's record of the last site check.

        While nothing changes, the same state is returned: each ref of a large push asks for it. (Another listing may have changed it without
        another revision.)
        """
        epoch = self.epoch
        view = self.informer.cache.view(group)
        origin = (epoch, view.listing)
        place = (group, site.key if site else b"")
        known = self._states.get(place)
        if known is not None and known[0] == origin and known[1].revision == view.revision:
            state = known[1]
            if (state.group, state.site) == (record, site):
                return state
        entries = Named(view.entries, self.keyspace.group_refs(group))
        state = GroupState(view.revision, entries, record, site=site, from_view=True)
        self._states[place] = (origin, state)
        return state

    def changed(self, group: str, after: int) -> dict[str, KeyValue | None] | None:
        """The names that have changed after a revision, with what they held at it (None: nothing).

        None: the changes are not all remembered, or etcd was listed again.
        """
        found = self.changes(group, after)
        if found is None:
            return None
        changed: dict[str, KeyValue | None] = {}
        for name, change in found:
            if name not in (PUSH, FENCE):
                changed.setdefault(name, change.before)
        return changed

    def changes(self, group: str, after: int) -> list[tuple[str, KeyChange]] | None:
        """All changes of the group after a revision, each with the name of its key, the oldest first; None as for :meth:`changed`."""
        found = self.informer.cache.changes(group, after)
        start = self.keyspace.group_refs(group)
        named = ((name_below(start, change.key), change) for change in found or ())
        return None if found is None else [(name, change) for name, change in named if name is not None]

    def drops(self, group: str) -> Mapping[str, KeyValue]:
        """What is asked and answered about objects that are to be dropped, by name."""
        view = self.informer.cache.view(f"{group}/{DROP}")
        return Named(view.entries, self.keyspace.group_refs(group))

    def newest_push(self, group: str) -> KeyValue | None:
        """The record of the group's newest change, where that was a push."""
        push = self.informer.cache.get(group, self.keyspace.ref(group, PUSH))
        return push if push is not None and push.mod_revision == self.informer.cache.newest(group) else None

    def was_listed_since(self, moment: float) -> bool:
        """Whether etcd was listed since ``moment`` (monotonic seconds); where it was not, a listing is requested.

        After a restore from a backup etcd may overtake its old revision. The watch then goes on as if nothing had happened, although
        the listing before it is no longer true.
        """
        listed = self.informer.listed_at > moment
        if not listed:
            self.informer.relist()
        return listed

    @property
    def is_alive(self) -> bool:
        """Whether the thread of the watch runs; it does also while etcd is away."""
        return self.informer.is_alive

    def start(self) -> None:
        self.informer.start()

    def stop(self) -> None:
        """End the watch, and fail the requests under way."""
        self.informer.stop()
        self.etcd.close()

    def join(self) -> None:
        """Wait until nothing is called back any more; after :meth:`stop`."""
        try:
            self.informer.join(_END)
        except Exception as error:  # noqa: BLE001 -- on_crash has been called with it
            self._log.debug("informer.ended", error=repr(error))

    def _connected(self, head: Head) -> None:
        with self._counted:
            self._connections += 1
        self._trouble = ""
        self._log.info("etcd.connected", endpoint=head.endpoint, revision=head.revision)
        self._on_connect()

    def _troubled(self, error: BaseException) -> None:
        if not isinstance(error, EtcdError):
            self._on_crash(error)
            return
        # The informer retries for as long as etcd is away: the same error is logged once.
        text = str(error)
        (self._log.debug if text == self._trouble else self._log.warning)("etcd.trouble", error=text)
        self._trouble = text


class Named(Mapping[str, KeyValue]):
    """The keys of one group under their names without the group. Nothing is copied: a group may have 100,000 refs.

    :param start: what every key begins with
    """

    def __init__(self, entries: Mapping[bytes, KeyValue], start: bytes) -> None:
        self.entries = entries
        self.start = start

    def __getitem__(self, name: str) -> KeyValue:
        return self.entries[self.start + encode(name)]

    def __iter__(self) -> Iterator[str]:
        cut = len(self.start)
        return (decode(key[cut:]) for key in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def items(self) -> ItemsView[str, KeyValue]:
        return _Items(self)


class _Items(ItemsView[str, KeyValue]):
    def __init__(self, named: Named) -> None:
        super().__init__(named)
        self._named = named

    def __iter__(self) -> Iterator[tuple[str, KeyValue]]:
        cut = len(self._named.start)
        return ((decode(key[cut:]), kv) for key, kv in self._named.entries.items())
