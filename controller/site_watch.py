"""What etcd holds of the sites of all groups below one prefix, kept up to date by watches: records of groups and sites, and progress.

Only a controller that shows them (``--http``) has such watches: its own work needs none of it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from controller.etcd_view import EtcdView
from controller.informer import Informer
from piehole.deadline import Deadline
from piehole.errors import EtcdError
from piehole.etcd.model import Head
from piehole.group import alive
from piehole.group.keys import is_site
from piehole.group.records import AliveRecord, GroupRecord, RecordError
from piehole.group.sites import GroupSite, parse_site
from piehole.refs import decode, encode

_ETCD_TIMEOUT: Final = 5.0  # seconds
_END: Final = 5.0
_SITE, _PROGRESS, _GROUP = "site", "progress", "group"


class SiteWatch:
    """
    :param on_change: called from the watches' threads with the groups whose records have changed; must not block
    :param on_crash: called with the error that has ended a watch
    """

    def __init__(
        self, view: EtcdView, on_change: Callable[[set[str]], None], on_crash: Callable[[BaseException], None]
    ) -> None:
        self._view = view
        self._on_crash = on_crash
        self._log = structlog.get_logger(etcd=",".join(view.address.etcd), prefix=view.address.prefix)
        self._trouble = ""
        self._signs: Mapping[str, list[tuple[AliveRecord, float]]] | None = None
        self.listened_at = 0.0  # when etcd was last asked for signs of life, seconds since the epoch
        self._prefixes = {kind: encode(f"{view.keyspace.prefix}/{kind}/") for kind in (_SITE, _PROGRESS, _GROUP)}
        self._informers = {
            kind: Informer(
                view.etcd,
                prefix,
                bucket=partial(_group_of, kind, prefix),
                on_change=lambda groups, _fresh: on_change(groups),
                on_connect=_connected,
                on_trouble=self._troubled,
                name=f"{kind}s' watch",
            )
            for kind, prefix in self._prefixes.items()
        }

    @property
    def synced(self) -> bool:
        """Whether all of it has been listed."""
        return all(informer.synced.is_set() for informer in self._informers.values())

    def start(self) -> None:
        for informer in self._informers.values():
            informer.start()

    def stop(self) -> None:
        for informer in self._informers.values():
            informer.stop()

    def join(self) -> None:
        """Wait for the end; after :meth:`stop`, and after the view's connection was closed."""
        for informer in self._informers.values():
            try:
                informer.join(_END)
            except Exception as error:  # noqa: BLE001 -- on_crash has been called with it
                self._log.debug("informer.ended", error=repr(error))

    def sites(self, group: str) -> list[GroupSite]:
        """All sites of the group, those that left included, in order of their names."""
        records = self._informers[_SITE].cache.view(group).entries
        progress = self._informers[_PROGRESS].cache.view(group).entries
        below = self._prefixes[_PROGRESS] + encode(f"{group}/")
        found = []
        for key in sorted(records):
            name = decode(key).rpartition("/")[2]
            said = progress.get(below + encode(name))
            found.append(parse_site(name, records[key].value, said.value if said else None))
        return found

    def group(self, group: str) -> GroupRecord | None:
        """The group's record; None where there is none, or it cannot be read."""
        record = self._informers[_GROUP].cache.get(group, self._view.keyspace.group(group))
        try:
            return GroupRecord.parse(record.value) if record is not None else None
        except RecordError:
            return None

    # ---- signs of life

    def listen(self) -> None:
        """Ask etcd for the signs of life of all controllers: one request, and one for each controller."""
        try:
            heard = alive.listen(self._view.etcd, self._view.keyspace, Deadline(_ETCD_TIMEOUT))
        except EtcdError as error:
            self._troubled(error)
            return
        now = self.listened_at = time.time()
        self._signs = {
            site: [(record, now - silence) for record, silence in several] for site, several in heard.items()
        }

    def heard_at(self, site: GroupSite) -> float | None:
        """When this site's controller last gave a sign of life (seconds since the epoch); None where it never did, or that is not known."""
        known = (self._signs or {}).get(site.site, ())
        return max((at for record, at in known if record.includes(site.id)), default=None) if site.id else None

    @property
    def silences(self) -> dict[str, float]:
        """How long the controllers of each site's name had been silent when etcd was last asked, the most silent one counts: in seconds."""
        return {site: self.listened_at - min(at for _, at in several) for site, several in (self._signs or {}).items()}

    @property
    def knows_signs(self) -> bool:
        return self._signs is not None

    def _troubled(self, error: BaseException) -> None:
        if not isinstance(error, EtcdError):
            self._on_crash(error)
            return
        text = str(error)
        (self._log.debug if text == self._trouble else self._log.warning)("sites.trouble", error=text)
        self._trouble = text


def _connected(_head: Head) -> None:
    """Nothing is to be done: what is shown needs no check for a rollback."""


def _group_of(kind: str, prefix: bytes, key: bytes) -> str | None:
    """The group that a key belongs to; None for a key of something else."""
    name = decode(key[len(prefix) :])
    if kind == _GROUP:
        return name
    group, _, site = name.rpartition("/")
    return group if group and is_site(site) else None
