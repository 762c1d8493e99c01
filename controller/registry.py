"""The registry of the repositories that this controller serves: what its folders hold, as it is configured now."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from controller.etcd_view import EtcdAddress, EtcdView
from controller.folders import Folders
from controller.served_repository import ServedRepository
from controller.work_queue import WorkQueue
from piehole import files
from piehole.errors import PieholeError
from piehole.fastpath import controller_socket
from piehole.group import config
from piehole.group.config import Config, Overrides
from piehole.replicate.peers import PeerHealth
from piehole.repository.repository import Repository
from piehole.transfer.watchdog import Limits


class Registry:
    """Changed by one thread, in :meth:`scan`; read by any.

    :param socket: the hooks' socket
    :param queue: of the repositories to be reconciled
    :param on_crash: called with the error that has ended an informer
    :param ending: whether the controller is ending
    """

    def __init__(
        self,
        folders: Folders,
        socket: Path,
        limits: Limits,
        overrides: Overrides,
        queue: WorkQueue,
        on_crash: Callable[[BaseException], None],
        ending: Callable[[], bool],
    ) -> None:
        self._folders = folders
        self._socket = socket
        self._limits = limits
        self._overrides = overrides
        self._queue = queue
        self._on_crash = on_crash
        self._ending = ending
        self._health = PeerHealth()
        self._served: dict[str, ServedRepository] = {}
        # The informers' threads read it: each value is replaced as a whole, never changed.
        self._by_group: dict[tuple[EtcdAddress, str], tuple[str, ...]] = {}
        self._views: dict[EtcdAddress, EtcdView] = {}
        self._complaints: dict[str, str] = {}
        self._log = structlog.get_logger()

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._served))

    def find(self, key: str) -> ServedRepository | None:
        return self._served.get(key)

    def forget(self) -> None:
        """Have the next scan read every configuration again."""
        self._folders.forget()

    def scan(self) -> None:
        """Serve new repositories, leave those that are gone, and replace those whose configuration has changed."""
        found = self._folders.scan()
        for key in [key for key in self._served if key not in found.present]:
            self._leave(key)
        for git_dir in found.changed:
            if self._ending():
                return
            try:
                self._take(git_dir)
            except (PieholeError, OSError) as error:
                self._complain(git_dir, str(error))
        for key in [key for key in self._complaints if key not in found.present]:
            del self._complaints[key]
        self._find_stale_locks()

    def _find_stale_locks(self) -> None:
        """Have the locks of dead pushes removed: a receive-pack that was killed before its swap causes no event, and its locks refuse
        every other push.
        """
        for key, served in self._served.items():
            if served.stale_locks.any_dead():
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
            self._unpoint(served.config.git_dir)

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
        if served is None or served.config != fresh:
            if served is not None:
                self._leave(key)
            address = EtcdAddress.of(fresh)
            self._check_twin(fresh, address)
            view = self._views.get(address) or self._connect(address)
            served = ServedRepository(fresh, view, self._health, self._limits, lambda: self._queue.add(key, fresh=True))
            self._served[key] = served
            place = (address, fresh.group)
            self._by_group[place] = (*self._by_group.get(place, ()), key)
            self._log.info("repository.served", repository=key, group=fresh.group, site=fresh.site)
        self._complaints.pop(key, None)
        # Written last: a hook that asks there finds the repository served. Written each time: the repository may be a new one.
        self._point(git_dir)
        self._queue.add(key)

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
        view.start()
        return view

    def _changed(self, address: EtcdAddress, groups: set[str] | None, fresh: bool) -> None:
        """Enqueue the repositories of these groups (None: of all). Called from an informer's thread."""
        if groups is None:
            keys = [key for key, served in list(self._served.items()) if served.etcd_view.address == address]
        else:
            keys = [key for group in groups for key in self._by_group.get((address, group), ())]
        for key in keys:
            served = self._served.get(key)
            self._queue.add(key, fresh=fresh, delay=served.delay_of_change() if served is not None and fresh else 0.0)

    def _leave(self, key: str) -> None:
        served = self._served.pop(key)
        self._unpoint(served.config.git_dir)
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

    def _complain(self, git_dir: Path, why: str) -> None:
        """Log once, not at each scan, why a repository is not served (or not as it is configured now), and try again at the next scan."""
        key = str(git_dir)
        self._folders.forget(git_dir)
        if self._complaints.get(key) != why:
            self._complaints[key] = why
            self._log.error("repository.refused", repository=key, reason=why)

    def _point(self, git_dir: Path) -> None:
        """Write the path of the socket where the repository's hooks look for it."""
        pointer = git_dir / controller_socket.POINTER
        if _read(pointer) == str(self._socket):
            return
        files.replace_file(pointer, f"{self._socket}\n", 0o644, suffix=f".{os.getpid()}.tmp")

    def _unpoint(self, git_dir: Path) -> None:
        pointer = git_dir / controller_socket.POINTER
        # Another controller may have taken the repository over meanwhile.
        if _read(pointer) == str(self._socket):
            pointer.unlink(missing_ok=True)


def _read(pointer: Path) -> str:
    try:
        return pointer.read_text(errors="replace").strip()
    except OSError:  # there is none, or the repository itself is gone
        return ""
