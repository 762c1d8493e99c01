"""The registry of the repositories that this controller serves: what its folders hold, as it is configured now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from controller.etcd_view import EtcdAddress, EtcdView
from controller.folders import Folders
from controller.meters import Meters
from controller.served_repository import ServedRepository
from controller.work_queue import NextTurn, WorkQueue
from piehole.errors import PieholeError
from piehole.group import config
from piehole.group.config import Config, Overrides
from piehole.group.keys import COPIES, DROP
from piehole.replicate.peers import PeerHealth
from piehole.repository.controller_pointer import ControllerPointer, ServedElsewhere
from piehole.repository.repository import Repository
from piehole.transfer.watchdog import Limits

_SETTLE: Final = 0.5  # seconds, so that what was held for a burst of pushes goes at once
_COPIES: Final = f"/{COPIES}"  # the end of the name of a bucket with requests for copies
_DROPS: Final = f"/{DROP}"


class Registry:
    """Changed by one thread, in :meth:`scan`; read by any.

    :param pointer: to the hooks' socket
    :param queue: of the repositories to be reconciled
    :param copies_queue: of the requests for copies, and of the repositories that hold some
    :param on_crash: called with the error that has ended an informer
    :param ending: whether the controller is ending
    :param heard: called from the informers' threads with the buckets that have changed, before anything is queued
    """

    def __init__(
        self,
        folders: Folders,
        pointer: ControllerPointer,
        limits: Limits,
        overrides: Overrides,
        queue: WorkQueue,
        copies_queue: WorkQueue,
        on_crash: Callable[[BaseException], None],
        ending: Callable[[], bool],
        heard: Callable[[EtcdAddress, set[str]], None] | None = None,
        meters: Meters | None = None,
    ) -> None:
        self._folders = folders
        self._pointer = pointer
        self._limits = limits
        self._overrides = overrides
        self._queue = queue
        self._copies_queue = copies_queue
        self._on_crash = on_crash
        self._ending = ending
        self._heard = heard
        self._meters = meters
        self._health = PeerHealth(fetched=meters.fetched if meters is not None else None)
        self._served: dict[str, ServedRepository] = {}
        # The informers' threads read it: each value is replaced as a whole, never changed.
        self._by_group: dict[tuple[EtcdAddress, str], tuple[str, ...]] = {}
        self._views: dict[EtcdAddress, EtcdView] = {}
        self._complaints: dict[str, str] = {}
        self._elsewhere: set[str] = set()  # repositories that another controller serves
        self._log = structlog.get_logger()

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._served))

    def all_served(self) -> list[ServedRepository]:
        return list(self._served.values())

    def view_of(self, address: EtcdAddress, group: str) -> EtcdView | None:
        """The connection to this etcd, where a repository of the group is served."""
        return self._views.get(address) if (address, group) in self._by_group else None

    def all_views(self) -> list[EtcdView]:
        """Every etcd that served repositories use."""
        return list(self._views.values())

    def refusals(self) -> dict[str, str]:
        """Why repositories are not served, or not as they are configured now, by their paths."""
        return dict(self._complaints)

    def find(self, key: str) -> ServedRepository | None:
        return self._served.get(key)

    def forget(self) -> None:
        """Have the next scan read every configuration again."""
        self._folders.forget()

    def scan(self) -> None:
        """Serve new repositories, leave those that are gone, and replace those whose configuration has changed."""
        for key in list(self._elsewhere):
            self._look_elsewhere(Path(key))
        found = self._folders.scan()
        for key in [key for key in self._served if key not in found.present]:
            self._leave(key)
        for git_dir in found.changed:
            if self._ending():
                return
            try:
                self._take(git_dir)
            except (PieholeError, OSError) as error:
                self._complain(git_dir, error)
        for key in [key for key in self._complaints if key not in found.present]:
            del self._complaints[key]
        self._elsewhere &= found.present
        for key in self:
            try:
                self._look_after(key)
            except OSError as error:  # unreadable for the moment; the next scan looks again
                self._log.debug("repository.unreadable", repository=key, error=str(error))

    def _look_elsewhere(self, git_dir: Path) -> None:
        """Have this scan take a repository over whose other controller has ended."""
        try:
            self._pointer.check(git_dir)
        except ServedElsewhere:
            return
        self._elsewhere.discard(str(git_dir))
        self._folders.forget(git_dir)

    def _look_after(self, key: str) -> None:
        """See that the hooks of a served repository find this controller, and have the locks of dead pushes removed: a receive-pack that
        was killed before its swap causes no event, and its locks refuse every other push. Nor does a command that has found the
        repository corrupt.
        """
        served = self._served[key]
        if not self._pointer.is_set(served.config.git_dir):
            try:
                self._pointer.set(served.config.git_dir)
                self._log.warning("pointer.restored", repository=key)
                self._queue.add(key)  # the repository may be a new one
            except ServedElsewhere as error:
                self._leave(key)
                self._complain(served.config.git_dir, error)
                return
        if served.stale_locks.any_dead() or served.awaits_repair:
            self._queue.add(key)

    def stop(self) -> None:
        """End the informers: no further change comes."""
        for view in self._views.values():
            view.stop()

    def close(self) -> None:
        """Remove the pointers to the socket; after :meth:`stop`."""
        for view in self._views.values():
            view.join()
        for served in self._served.values():
            self._clear_pointer(served.config.git_dir)
        for key in self._elsewhere:
            self._forget_refusal(Path(key))

    def _take(self, git_dir: Path) -> None:
        key = str(git_dir)
        # First of all: nothing in another account's repository is trusted, not even the address of etcd.
        try:
            Repository(git_dir).check_owner()
        except PieholeError:
            if key in self._served:
                self._leave(key)
            raise
        fresh = config.load(git_dir, self._overrides)
        served = self._served.get(key)
        if served is None:
            self._pointer.check(git_dir)
        if served is None or served.config != fresh:
            if served is not None:
                self._leave(key)
            address = EtcdAddress.of(fresh)
            self._check_twin(fresh, address)
            view = self._views.get(address) or self._connect(address)
            served = ServedRepository(
                fresh,
                view,
                self._health,
                self._limits,
                lambda: self._queue.add(key, fresh=True),
                lambda: self._copies_queue.add(key, delay=_SETTLE),
            )
            self._served[key] = served
            place = (address, fresh.group)
            self._by_group[place] = (*self._by_group.get(place, ()), key)
            self._log.info("repository.served", repository=key, group=fresh.group, site=fresh.site)
        # Written last: a hook that asks there finds the repository served. Written each time: the repository may be a new one.
        try:
            self._pointer.set(git_dir)
        except ServedElsewhere:
            self._leave(key)
            raise
        self._complaints.pop(key, None)
        self._elsewhere.discard(key)
        self._queue.add(key)
        self._served[key].look_for_copies()
        self._copies_changed(key)

    def _check_twin(self, fresh: Config, address: EtcdAddress) -> None:
        for other in self._by_group.get((address, fresh.group), ()):
            if self._served[other].config.site == fresh.site:
                raise PieholeError(
                    f"it is the site {fresh.site!r} of the group {fresh.group!r}, and so is {other}: "
                    "give one of them another site name."
                )

    def _connect(self, address: EtcdAddress) -> EtcdView:
        view = EtcdView(
            address,
            on_change=lambda groups, fresh: self._changed(address, groups, fresh),
            on_connect=lambda: self._changed(address, None, False),
            on_crash=self._on_crash,
        )
        self._views[address] = view
        if self._meters is not None:
            view.etcd.measure(self._meters.requested)
        view.start()
        return view

    def _changed(self, address: EtcdAddress, groups: set[str] | None, fresh: bool) -> None:
        """Enqueue the repositories of these groups (None: of all). Called from an informer's thread.

        The cache's buckets of what sites ask each other have names that no group has.
        """
        if groups and self._heard is not None:
            self._heard(address, groups)
        for bucket in groups or ():
            if bucket.endswith(_COPIES):
                for key in self._by_group.get((address, bucket.removesuffix(_COPIES)), ()):
                    self._copies_changed(key)
        if groups is None:
            keys = [key for key, served in list(self._served.items()) if served.etcd_view.address == address]
        else:
            named = {bucket.removesuffix(_DROPS) for bucket in groups}  # each reconcile is followed by tidying
            keys = [key for group in named for key in self._by_group.get((address, group), ())]
        for key in keys:
            served = self._served.get(key)
            self._queue.add(key, fresh=fresh, delay=served.delay_of_change() if served is not None and fresh else 0.0)

    def copies_turn(self, key: str) -> Callable[[threading.Event], NextTurn] | None:
        """What a key of the queue of copies stands for: one request, or a repository that holds some."""
        repository, separator, push_id = key.partition("\0")
        served = self._served.get(repository)
        if served is None:
            return None
        return partial(served.hold_copy, push_id) if separator else served.settle_copies

    def _copies_changed(self, key: str) -> None:
        served = self._served.get(key)
        for push_id in served.copies_changed() if served is not None else ():
            self._copies_queue.add(f"{key}\0{push_id}", fresh=True)

    def _leave(self, key: str) -> None:
        served = self._served.pop(key)
        self._clear_pointer(served.config.git_dir)
        self._log.info("repository.left", repository=key)
        address = served.etcd_view.address
        place = (address, served.config.group)
        left = tuple(other for other in self._by_group[place] if other != key)
        if left:
            self._by_group[place] = left
        else:
            del self._by_group[place]
        if not any(other.etcd_view.address == address for other in self._served.values()):
            self._views.pop(address).stop()

    def _complain(self, git_dir: Path, error: Exception) -> None:
        """Log once, not at each scan, why a repository is not served (or not as it is configured now), and try again at the next scan."""
        key, why = str(git_dir), str(error)
        if isinstance(error, ServedElsewhere):
            self._elsewhere.add(key)
            self._note_refusal(git_dir)
        else:
            self._folders.forget(git_dir)
        if self._complaints.get(key) != why:
            self._complaints[key] = why
            self._log.error("repository.refused", repository=key, reason=why)

    def _clear_pointer(self, git_dir: Path) -> None:
        with suppress(OSError):  # hooks find nobody there
            self._pointer.clear(git_dir)

    def _note_refusal(self, git_dir: Path) -> None:
        with suppress(OSError):  # the log has it
            self._pointer.note_refusal(git_dir)

    def _forget_refusal(self, git_dir: Path) -> None:
        with suppress(OSError):  # it counts no more once this process has ended
            self._pointer.forget_refusal(git_dir)
