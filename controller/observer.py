"""Keeps the overview (:mod:`controller.overview`) up to date: from watches, and from what the turns of work have found.

While nobody looks at it, only what has changed is noted. It is made when it is asked for, from the cached views, without a request to
etcd: signs of life and what lies on this disk are looked at by a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from controller.disk_facts import DiskFacts
from controller.etcd_view import EtcdAddress, EtcdView
from controller.group_news import GroupNews
from controller.overview import EtcdConnection, Overview, RepositoryView
from controller.registry import Registry
from controller.repository_view import describe, refused
from controller.served_repository import ServedRepository
from controller.site_watch import SiteWatch
from piehole.group import alive

_log = structlog.get_logger()
_TICK: Final = 1.0  # seconds
_LISTEN_EVERY: Final = 10.0
_AT_ONCE: Final = 50  # repositories whose files are looked at in one tick
_SOME: Final = 10  # of the others
_LOGS_AT_ONCE: Final = 5
_MANY: Final = 50
_AFTER_A_BUG: Final = 30.0  # seconds

Place = tuple[EtcdAddress, str]


class Observer:
    """
    :param registry: of the repositories that are served
    :param on_crash: called with an error that has ended a thread
    :param arrived: called with the seconds from the watch's message to the moved ref
    """

    def __init__(
        self,
        registry: Registry,
        on_crash: Callable[[BaseException], None],
        arrived: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._registry = registry
        self._on_crash = on_crash
        self._arrived = arrived
        self._building = threading.Lock()
        self._news: dict[Place, GroupNews] = {}
        self._watches: dict[EtcdAddress, tuple[EtcdView, SiteWatch]] = {}
        self._contacts: dict[EtcdAddress, float] = {}
        self._changed = threading.Condition()
        self._dirty: set[Place] = set()
        self._stale: set[str] = set()  # repositories whose files are to be looked at
        self._disk: dict[str, DiskFacts] = {}
        # The view of each repository, and of what: the served one, and why it (or its configuration now) is refused.
        self._made: dict[str, tuple[tuple[ServedRepository | None, str], RepositoryView]] = {}
        self._seen: dict[str, object] = {}  # what the last turn of a repository has found
        self._silent: dict[EtcdAddress, frozenset[str]] = {}
        self._overview = Overview()
        self._cursor = 0
        self._listen_at = 0.0  # monotonic seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="overview")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for _, watch in list(self._watches.values()):
            watch.stop()

    def join(self) -> None:
        """Wait for the threads; after :meth:`stop`."""
        if self._thread.ident is not None:
            self._thread.join()
        for _, watch in list(self._watches.values()):
            watch.stop()
            watch.join()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    # ---- told from other threads: quick, and never waiting

    def refs_changed(self, address: EtcdAddress, buckets: set[str]) -> None:
        """The cache of this etcd has changed. Called from the informer's thread, before the repositories are queued."""
        with self._harmless():
            self._note_changes(address, buckets)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """A bug in what is shown must not keep a change from being replicated; it is logged in full."""
        try:
            yield
        except Exception:  # noqa: BLE001
            _log.exception("overview.crashed")

    def _note_changes(self, address: EtcdAddress, buckets: set[str]) -> None:
        for group in buckets:
            news = self._news.get((address, group))
            view = self._registry.view_of(address, group) if news is None else None
            if view is not None:
                news = self._news.setdefault((address, group), GroupNews(view, group))
            if news is not None:
                news.note(self._contacts.get(address, 0.0))
        self._mark(address, buckets)

    def turned(self, served: ServedRepository) -> None:
        """A turn of work on this repository has ended."""
        with self._harmless():
            self._note_turn(served)

    def _note_turn(self, served: ServedRepository) -> None:
        place = (served.etcd_view.address, served.config.group)
        report, key = served.report, str(served.config.git_dir)
        if report is not None and report.moved:
            self._note_arrivals(served, place)
        state: object = (served.halted, served.trouble)
        if report is not None:
            shown = (report.newest, report.converged, report.stuck, report.locked, report.unadopted, report.corrupt)
            state = (served.halted, served.trouble, shown)
        if state != self._seen.get(key):  # else it was one of the turns that every repository has now and then
            self._seen[key] = state
            self._stale.add(key)
            self._mark(place[0], {place[1]})

    def _note_arrivals(self, served: ServedRepository, place: Place) -> None:
        news, report = self._news.get(place), served.report
        if news is None or report is None or not report.moved:
            return
        entries = served.etcd_view.view(place[1]).entries
        revisions = {kv.mod_revision for ref in list(report.moved)[:200] if (kv := entries.get(ref)) is not None}
        now = time.time()
        for revision in revisions:
            at = news.heard_at(revision)
            if at is not None and revision <= report.revision:
                self._arrived(max(0.0, now - at))

    def _mark(self, address: EtcdAddress, groups: set[str]) -> None:
        with self._changed:
            self._dirty |= {(address, group) for group in groups}
            self._changed.notify_all()

    # ---- asked from any thread

    def wait(self, version: int, timeout: float) -> bool:
        """Wait until something may have changed since this version of the overview; false if nothing has in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._dirty) or self._overview.version > version or self._stop.is_set(), timeout
            )

    def overview(self) -> Overview:
        """What is known now; the same object while nothing changes."""
        with self._building:
            with self._changed:
                dirty, self._dirty = self._dirty, set()
            try:
                return self._renewed(dirty)
            except BaseException:
                with self._changed:
                    self._dirty |= dirty
                raise

    def _renewed(self, dirty: set[Place]) -> Overview:
        served = {str(one.config.git_dir): one for one in self._registry.all_served()}
        complaints = self._registry.refusals()
        version = self._overview.version + 1
        before = self._overview.repositories
        views: dict[str, RepositoryView] = {}
        for key in served.keys() | complaints.keys():
            one, why, known = served.get(key), complaints.get(key, ""), self._made.get(key)
            place = None if one is None else (one.etcd_view.address, one.config.group)
            if known is None or known[0] != (one, why) or place in dirty:
                made = refused(key, why, version) if one is None else self._describe(one, why, version)
                if known is not None and replace(known[1], version=version) == made:
                    made = known[1]
                self._made[key] = (one, why), made
            views[key] = self._made[key][1]
        for key in self._made.keys() - views.keys():
            del self._made[key]
            self._seen.pop(key, None)
        changed = before.keys() != views.keys() or any(one.version == version for one in views.values())
        if changed:
            views = dict(sorted(views.items()))
        etcds, silences = self._etcds(), self._silences()
        self._overview = Overview(version if changed else version - 1, views if changed else before, etcds, silences)
        return self._overview

    def _describe(self, served: ServedRepository, complaint: str, version: int) -> RepositoryView:
        place = (served.etcd_view.address, served.config.group)
        news, watch = self._news.get(place), self._watches.get(place[0])
        disk = self._disk.get(str(served.config.git_dir))
        return describe(served, complaint, news, watch[1] if watch else None, disk, version)

    def _etcds(self) -> tuple[EtcdConnection, ...]:
        shift = time.time() - time.monotonic()
        found = []
        for view in sorted(self._registry.all_views(), key=lambda one: (one.address.etcd, one.address.prefix)):
            address, status = view.address, view.informer.status()
            contact = None if status.last_contact is None else status.last_contact + shift
            found.append(
                EtcdConnection(",".join(address.etcd), address.prefix, status.connected, contact, status.error)
            )
        return tuple(found)

    def _silences(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for _, watch in list(self._watches.values()):
            for site, silence in watch.silences.items():
                found[site] = max(silence, found.get(site, 0.0))
        return found

    # ---- its own thread

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                well = False
                with self._harmless():
                    self._look()
                    well = True
                self._stop.wait(_TICK if well else _AFTER_A_BUG)
        except BaseException as error:  # noqa: BLE001 -- not swallowed: the owner ends the controller with it
            self._on_crash(error)

    def _look(self) -> None:
        self._keep_watches()
        if time.monotonic() >= self._listen_at:
            self._listen_at = time.monotonic() + _LISTEN_EVERY
            self._listen()
        self._look_at_files()
        self._look_up()
        if len(self._dirty) > _MANY:  # else whoever looks next would wait for all of it
            self.overview()

    def _keep_watches(self) -> None:
        """Watch the sites of each etcd that served repositories use, and remember when it last told something."""
        served = self._registry.all_served()
        views = {view.address: view for view in self._registry.all_views()}
        for address, (view, watch) in list(self._watches.items()):
            if views.get(address) is not view:
                del self._watches[address]
                watch.stop()
                watch.join()
                for place in [place for place in list(self._news) if place[0] == address]:
                    del self._news[place]
        for address, view in views.items():
            if address not in self._watches:
                mark = partial(self._mark, address)
                watch = SiteWatch(view, mark, self._on_crash)
                self._watches[address] = view, watch
                watch.start()
            contact = view.informer.status().last_contact
            if contact is not None:
                self._contacts[address] = contact + time.time() - time.monotonic()
        places = {(one.etcd_view.address, one.config.group): one for one in served}
        for place, one in places.items():
            if place not in self._news and one.etcd_view.informer.synced.is_set():
                self._news.setdefault(place, GroupNews(one.etcd_view, place[1], one.etcd_view.informer.cache.revision))
                self._mark(place[0], {place[1]})
        for place in [place for place in list(self._news) if place not in places]:
            del self._news[place]

    def _listen(self) -> None:
        for address, (_, watch) in list(self._watches.items()):
            watch.listen()
            silent = frozenset(site for site, silence in watch.silences.items() if silence > alive.SILENT_AFTER)
            if silent != self._silent.get(address):
                self._silent[address] = silent
                self._mark(address, {group for where, group in list(self._news) if where == address})

    def _look_at_files(self) -> None:
        """Look at the files of the repositories whose turns have ended, and of some others: all are looked at now and then."""
        served = {str(one.config.git_dir): one for one in self._registry.all_served()}
        turned = [key for key in list(self._stale)[:_AT_ONCE] if key in served]
        self._stale -= set(turned) | (self._stale - served.keys())
        order = sorted(served)
        others = [order[(self._cursor + n) % len(order)] for n in range(min(len(order), _SOME))] if order else []
        self._cursor += _SOME
        self._disk = {key: facts for key, facts in self._disk.items() if key in served}
        for key in {*turned, *others}:
            one = served[key]
            facts = DiskFacts.read(one.config, self._disk.get(key))
            if facts != self._disk.get(key):
                self._disk[key] = facts
                self._mark(one.etcd_view.address, {one.config.group})

    def _look_up(self) -> None:
        """Find in the local log since when sites are behind that were so before this controller was started."""
        now = time.monotonic()
        unsure = [place for place, news in list(self._news.items()) if news.unsure and news.look_at <= now]
        unsure = unsure[:_LOGS_AT_ONCE]
        for one in self._registry.all_served() if unsure else ():
            place = (one.etcd_view.address, one.config.group)
            made = self._made.get(str(one.config.git_dir))
            if place not in unsure or made is None:
                continue
            with suppress(OSError):  # the log is unreadable for now: the newest push says since when at least
                late = [site.revision for site in made[1].late if site.revision > 0]
                if self._news[place].look_up(one.config.git_dir, late):
                    self._mark(place[0], {place[1]})
