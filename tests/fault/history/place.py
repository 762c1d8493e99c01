"""One site as the bed holds it: its gate for pushes, the door for its peers, its disk, its view of etcd, and its clock."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.fault.history.clock import Clock
from tests.fault.history.relay import Link, Relays
from tests.support.gitdaemon import GitDaemon
from tests.support.pushes import deciding
from tests.support.sites import Site

_DISK: Final = "size=300m,mode=755"
# What a push to this site goes through, and what its peers' fetches do. A file that exists is a switch that is on.
_GATE: Final = """\
#!/bin/sh
if [ -e {down} ]; then echo 'the site is down' >&2; exit 1; fi
if [ -e {full} ]; then trap '' XFSZ; ulimit -f 0; fi
{clock}exec git receive-pack "$@"
"""
# What a fetch of a user goes through: piehole's own command, or the one that starts sooner.
_READING_GATE: Final = """\
#!/bin/sh
if [ -e {down} ]; then echo 'the site is down' >&2; exit 1; fi
export PYTHONPATH={source} PYTHONSAFEPATH=1 PATH={bin}:$PATH
exec {command} "$@"
"""
_PERL: Final = shutil.which("perl")
_QUICK_GATE: Final = Path(__file__).resolve().parents[3] / "deploy" / "read-gate.pl"
_PACKER: Final = """\
#!/bin/sh
if [ -e {liar} ]; then exec "$@" --filter=blob:none; fi
exec "$@"
"""
# What a controller imports before anything else. It sees no other process while the switch is on, as with hidepid.
_HIDES: Final = """\
import builtins, os

def hiding(real):
    def opened(path, *arguments, **named):
        if isinstance(path, str) and path.startswith("/proc/"):
            pid = path.split("/")[2]
            if pid.isdigit() and int(pid) != os.getpid() and os.path.exists({hidden!r}):
                raise FileNotFoundError(2, "hidden", path)
        return real(path, *arguments, **named)
    return opened

os.open, builtins.open = hiding(os.open), hiding(builtins.open)
"""


def mount_disk(folder: Path) -> bool:
    """Give the folder a small disk of its own; false where this account may not."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", _DISK, "chaos", str(folder)], capture_output=True, timeout=20, check=False
    )
    return done.returncode == 0


def unmount_disk(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, timeout=20, check=True)


class Place:
    """Everything about one site that can go wrong, apart from its controller, which is the site's own business.

    :param folder: of the bed; switches, scripts and logs go here
    :param links: to the members of etcd, in their order
    :param source: the tree that is run
    """

    def __init__(
        self,
        folder: Path,
        site: Site,
        relays: Relays,
        links: Sequence[Link],
        *,
        source: Path,
        mounted: bool,
        clock: Clock | None,
    ) -> None:
        self.site = site
        self.links = list(links)
        self.mounted = mounted
        self.clock = clock
        self._folder = folder
        self._relays = relays
        self._down = folder / f"{site.name}.down"
        self._full = folder / f"{site.name}.full"
        self._liar = folder / f"{site.name}.liar"
        self._hidden = folder / f"{site.name}.hidden"
        self._first = folder / f"{site.name}-first"
        self._first.mkdir(exist_ok=True)
        (self._first / "sitecustomize.py").write_text(_HIDES.format(hidden=str(self._hidden)))
        clocked = f"export LD_PRELOAD={clock.library}\n" if clock else ""
        self.gate = self._script("gate", _GATE.format(down=self._down, full=self._full, clock=clocked))
        quick = _PERL and ord(site.name) % 2 == 0
        command = f"{_PERL} {_QUICK_GATE}" if quick else "piehole upload-pack"
        binaries = Path(sys.executable).parent
        self.reading_gate = self._script(
            "reading-gate", _READING_GATE.format(down=self._down, source=source, bin=binaries, command=command)
        )
        self._packer = self._script("packer", _PACKER.format(liar=self._liar))
        self.disk = threading.Lock()  # held while the disk is looked at, or lost
        self.read_gate = "off"
        self.is_lost = False
        self.lost_at = 0.0
        self.lost_at_revision = 0
        self._openings = 0
        daemon = self._start_daemon()
        self._daemon: GitDaemon | None = daemon
        self.door: Link = relays.to(daemon.port)
        site.url = f"git://127.0.0.1:{self.door.port}/{site.repository.name}"

    def _script(self, name: str, text: str) -> Path:
        path = self._folder / f"{self.site.name}-{name}"
        path.write_text(text)
        path.chmod(0o755)
        return path

    # ---- the site as a whole

    def open(self) -> None:
        """Serve peers, and let pushes in."""
        if self._daemon is None:
            self._daemon = self._start_daemon()
            self.door.target = self._daemon.port
        self._down.unlink(missing_ok=True)

    def _start_daemon(self) -> GitDaemon:
        self._openings += 1
        home = self._folder / f"{self.site.name}-daemon{self._openings}"
        daemon = GitDaemon(home, self.site.root)
        with (home / "home" / ".gitconfig").open("a") as config:
            config.write(f"[uploadpack]\n\tpackObjectsHook = {self._packer}\n")
        return daemon

    def close(self) -> None:
        """As if the machine had lost its power: pushes that are under way, the controller and the daemon are gone."""
        self._down.touch()
        self.site.kill()
        for pid in self.receivers():
            for one in (pid, *deciding(self.site.repository, pid)):
                send(one, signal.SIGKILL)
        if self._daemon is not None:
            self._daemon.end()
            self._daemon = None

    @property
    def is_down(self) -> bool:
        return self._down.exists()

    def lose_disk(self, aside: Path) -> None:
        """The machine is destroyed with its disk. What it had is set aside, for people to look at."""
        self.close()
        with self.disk:
            self.lost_at = time.monotonic()
            self.is_lost = True
            aside.parent.mkdir(exist_ok=True)
            shutil.move(self.site.repository, aside)
        self.close()  # what had just begun

    def replaced(self) -> None:
        """Another machine has taken over the site's name, with an empty disk."""
        self.is_lost = False
        self.open()
        self.launch()

    def launch(self) -> None:
        """Start the controller where none runs. On the main thread only: it ends with the thread that started it."""
        if self.site.running or self.is_down or self.is_lost:
            return
        group = self.site.group
        before = group.environment
        group.environment = {**before, "PYTHONPATH": f"{self._first}:{before['PYTHONPATH']}"}
        if self.clock is not None:
            group.environment["LD_PRELOAD"] = str(self.clock.library)
        try:
            self.site.launch()
        finally:
            group.environment = before

    def receivers(self) -> list[int]:
        """The receive-packs that run here now."""
        found = []
        wanted = str(self.site.repository).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended while we looked
            if b"receive-pack" in words[:2] and wanted in words:
                found.append(int(entry.name))
        return found

    # ---- its disk, and what it tells its peers

    def fill(self) -> None:
        if not self.mounted:
            self._full.touch()
            return
        with (self.site.root / "filler").open("wb") as file:
            chunk = 1 << 26
            end = 0
            while chunk >= 1 << 12:
                try:
                    os.posix_fallocate(file.fileno(), end, chunk)
                except OSError:  # as much as this is not left
                    chunk //= 4
                else:
                    end += chunk

    def drain(self) -> None:
        self._full.unlink(missing_ok=True)
        (self.site.root / "filler").unlink(missing_ok=True)

    def lie(self, lies: bool) -> None:
        """Serve packs without their blobs."""
        if lies:
            self._liar.touch()
        else:
            self._liar.unlink(missing_ok=True)

    def hide_processes(self) -> Callable[[], None]:
        """Have /proc show no other process to the controller; returns what ends that."""
        self._hidden.touch()
        return self._show_processes

    def _show_processes(self) -> None:
        self._hidden.unlink(missing_ok=True)

    def set_clock(self, seconds: int) -> None:
        if self.clock is not None:
            self.clock.set(seconds)

    # ---- after all

    def heal(self) -> None:
        """All as it was, the controller running. What was stopped goes on. A lost disk stays lost."""
        if not self.is_lost:
            self.open()
        self.drain()
        self.lie(False)
        self._show_processes()
        self.set_clock(0)
        for link in (*self.links, self.door):
            self._relays.set(link, "open")
            link.error = None
        if self.site.controller is not None:
            self.site.controller.resume()
        self.launch()

    def end(self) -> None:
        self.site.end()
        if self._daemon is not None:
            self._daemon.end()
            self._daemon = None


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself
