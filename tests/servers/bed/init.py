"""Process 1 of a host: reaps, and runs systemd units as far as these hosts need them. Standard library only.

It takes orders on ``/run/init.sock``: one line, a JSON list of ``systemctl``'s words; the answer is one line, too. Of a unit it
honours how it is started, reloaded, stopped and started again, under which account and with which environment and
folders. The sandbox is not built: whether it is a good one is for ``systemd-analyze`` to say.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
_STARTING = 60.0  # seconds


class UnitError(Exception):
    """An order that cannot be followed; the text says why."""


def read_unit(name: str, kind: str = "service") -> dict[str, list[str]]:
    """The settings of a unit's own section; an empty value forgets the earlier ones, as systemd has it."""
    file = next((folder / f"{name}.{kind}" for folder in FOLDERS if (folder / f"{name}.{kind}").exists()), None)
    if file is None:
        raise UnitError(f"Unit {name}.{kind} could not be found.")
    found: defaultdict[str, list[str]] = defaultdict(list)
    section = ""
    for line in re.sub(r"\\\n\s*", " ", file.read_text()).splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == f"[{kind.capitalize()}]" and line and line[0] not in "#;":
            setting, _, value = line.partition("=")
            if value.strip():
                found[setting.strip()].append(value.strip())
            else:
                found[setting.strip()].clear()
    return found


def seconds(text: str) -> float:
    """A time span of systemd, as far as the units here write one."""
    match = re.fullmatch(r"([\d.]+)(ms|s|min)?", text)
    if match is None:
        return float("inf")
    return float(match[1]) * {"ms": 0.001, "min": 60.0}.get(match[2] or "s", 1.0)


@dataclass
class Unit:
    """One service, running or not."""

    name: str
    main: int = 0
    wanted: bool = False
    ready: bool = False
    starts: int = 0
    failed: str = ""
    notes: list[str] = field(default_factory=list)
    again_at: float = float("inf")
    socket: socket.socket | None = None

    def state(self) -> str:
        """What is-active says of a service that does not run."""
        return "" if self.ready else "activating" if self.main else "inactive"

    def setting(self, name: str, default: str = "") -> str:
        found = read_unit(self.name)[name]
        return found[-1] if found else default

    def environment(self) -> dict[str, str]:
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        found = read_unit(self.name)
        for line in found["Environment"]:
            for word in shlex.split(line):
                key, _, value = word.partition("=")
                env[key] = value.replace("%H", socket.gethostname())
        for path in found["EnvironmentFile"]:
            file = Path(path.removeprefix("-").replace("%p", self.name))
            if path.startswith("-") and not file.exists():
                continue
            for match in re.finditer(r"^\s*([A-Z_][A-Z0-9_]*)=(.*)$", file.read_text(), re.MULTILINE):
                env[match[1]] = match[2].strip().strip('"')
        return env

    def account(self) -> tuple[pwd.struct_passwd, int]:
        who = pwd.getpwnam(self.setting("User", "root"))
        group = self.setting("Group")
        return who, grp.getgrnam(group).gr_gid if group else who.pw_gid

    def folders(self) -> dict[str, str]:
        """Make RuntimeDirectory= and its like; the variables that tell of them."""
        who, gid = self.account()
        told = {}
        for kind, parent in (("Runtime", "/run"), ("State", "/var/lib"), ("Logs", "/var/log")):
            names = self.setting(f"{kind}Directory").split()
            for name in names:
                path = Path(parent, name)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(int(self.setting(f"{kind}DirectoryMode", "0755"), 8))
                os.chown(path, who.pw_uid, gid)
            if names:
                told[f"{kind.upper()}_DIRECTORY"] = ":".join(f"{parent}/{name}" for name in names)
        return told


def spawn(unit: Unit, command: str, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start one command line of a unit, as its account."""
    who, gid = unit.account()
    env = unit.environment() | unit.folders() | extra
    if who.pw_uid:
        env |= {"HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name, "SHELL": who.pw_shell}
    words: list[str] = []
    for word in shlex.split(command.lstrip("-@:+!")):
        alone = re.fullmatch(r"\$(\w+)", word)
        if alone:
            words += env.get(alone[1], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda match: env.get(match[1], ""), word))
    if unit.socket is not None:
        # sd_listen_fds(3): the descriptor 3, and the number of the very process that shall take it.
        words = ["sh", "-c", 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *words]
    with Path("/var/log", f"{unit.name}.log").open("ab") as log:
        return subprocess.Popen(
            words,
            stdin=unit.socket.fileno() if unit.socket is not None else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd="/",
            user=who.pw_uid,
            group=gid,
            extra_groups=os.getgrouplist(who.pw_name, gid),
            umask=int(unit.setting("UMask", "0022"), 8),
            start_new_session=True,
        )


def listen(name: str) -> socket.socket:
    """The socket that a socket unit describes."""
    settings = read_unit(name, "socket")
    path = Path(settings["ListenStream"][-1])
    path.unlink(missing_ok=True)
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    path.chmod(int((settings["SocketMode"] or ["0666"])[-1], 8))
    os.chown(path, pwd.getpwnam((settings["SocketUser"] or ["root"])[-1]).pw_uid, 0)
    one.listen(128)
    return one


def pid_in(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


class Init:
    """The loop. It waits for one order's outcome while it serves all others."""

    def __init__(self) -> None:
        self._units: dict[str, Unit] = {}
        self._ended: dict[int, int] = {}
        self._owned: dict[int, subprocess.Popen[bytes]] = {}
        self._enabled: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._pending: list[tuple[Callable[[], str | None], socket.socket, float]] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.bind("/run/notify.sock")
        Path("/run/notify.sock").chmod(0o666)
        Path("/run/systemd/system").mkdir(parents=True)  # sd_booted(3)
        self._orders = socket.socket(socket.AF_UNIX)
        self._orders.bind("/run/init.sock")
        Path("/run/init.sock").chmod(0o666)
        self._orders.listen(16)
        self._selector.register(self._notify, selectors.EVENT_READ, self._on_note)
        self._selector.register(self._orders, selectors.EVENT_READ, self._on_order)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select(0.02 if self._pending or self._restarting() else 0.2):
                key.data()
            self._reap()
            self._restart()
            self._answer()

    def _restarting(self) -> bool:
        return any(unit.again_at < float("inf") for unit in self._units.values())

    # ---- what ends, and begins again

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            process = self._owned.pop(pid, None)
            if process is not None:
                process.returncode = code  # it was not Popen that waited
                self._ended[pid] = code
            for unit in self._units.values():
                if unit.main == pid:
                    unit.main, unit.ready = 0, False
                    self._main_ended(unit, code)

    def _main_ended(self, unit: Unit, code: int) -> None:
        unit.failed = f"{unit.name} ended with status {code}"
        policy = unit.setting("Restart", "no")
        prevented = str(code) in unit.setting("RestartPreventExitStatus").split()
        again = policy == "always" or (policy in ("on-failure", "on-abnormal") and code != 0)
        if unit.wanted and again and not prevented:
            unit.again_at = time.monotonic() + seconds(unit.setting("RestartSec", "100ms"))

    def _restart(self) -> None:
        for unit in self._units.values():
            if time.monotonic() >= unit.again_at:
                self._launch(unit)

    # ---- orders

    def _on_order(self) -> None:
        connection, _ = self._orders.accept()
        words = json.loads(connection.makefile().readline())
        who = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        try:
            self._admit(who, words)
            outcome = self._follow(words)
        except (UnitError, OSError, KeyError) as error:
            self._reply(connection, 5, str(error))
            return
        if "--no-block" in words:
            self._reply(connection, 0, "")
        self._pending.append((outcome, connection, time.monotonic() + _STARTING))

    @staticmethod
    def _admit(who: int, words: list[str]) -> None:
        if who and not {"is-active", "is-enabled"} & set(words):
            raise UnitError("Interactive authentication required.")

    def _answer(self) -> None:
        """An outcome gives None as long as it is open, "" for success, else what failed."""
        waiting, self._pending = self._pending, []
        for outcome, connection, until in waiting:
            said = outcome()
            if said is None and time.monotonic() < until:
                self._pending.append((outcome, connection, until))
            else:
                self._reply(connection, 1 if said != "" else 0, said if said is not None else "it took too long")

    @staticmethod
    def _reply(connection: socket.socket, status: int, said: str) -> None:
        with connection:  # for --no-block it was closed long ago
            try:
                connection.sendall(json.dumps({"status": status, "said": said}).encode() + b"\n")
            except OSError:
                pass  # whoever gave the order is gone

    def _follow(self, words: list[str]) -> Callable[[], str | None]:
        flags = [word for word in words if word.startswith("-")]
        verb, *names = [word for word in words if not word.startswith("-")]
        units = [self._unit(name, listens=verb in ("start", "restart", "enable")) for name in names]
        if verb == "daemon-reload":
            return lambda: ""
        if verb in ("enable", "is-enabled"):
            self._enabled |= {unit.name for unit in units} if verb == "enable" else set()
            lacking = [unit.name for unit in units if unit.name not in self._enabled]
            if "--now" not in flags:
                return lambda: "disabled" if lacking else ""
        actions: dict[str, Callable[[Unit], Callable[[], str | None]]] = {
            "start": self._start,
            "enable": self._start,
            "stop": self._stop,
            "restart": self._restarted,
            "reload": self._reload,
            "reload-or-restart": lambda unit: self._reload(unit) if unit.main else self._restarted(unit),
            "is-active": lambda unit: lambda: unit.state(),
            "kill": lambda unit: self._kill(unit, flags),
            "show": self._show,
        }
        if verb not in actions:
            raise UnitError(f"these hosts know no `systemctl {verb}`")
        outcomes = [actions[verb](unit) for unit in units]

        def all_of_them() -> str | None:
            said = [outcome() for outcome in outcomes]
            return next((one for one in said if one), None if None in said else "")

        return all_of_them

    @staticmethod
    def _show(unit: Unit) -> Callable[[], str | None]:
        Path(f"/run/{unit.name}.show").write_text(json.dumps([unit.main, unit.starts, unit.notes]))
        return lambda: ""

    def _unit(self, full_name: str, *, listens: bool) -> Unit:
        """The service; with the name of a socket unit, once that listens. (It is not started lazily.)"""
        name = full_name.removesuffix(".service").removesuffix(".socket")
        if name not in self._units:
            read_unit(name)
            self._units[name] = Unit(name)
        unit = self._units[name]
        if full_name.endswith(".socket") and unit.socket is None and listens:
            unit.socket = listen(name)
        return unit

    def _start(self, unit: Unit) -> Callable[[], str | None]:
        if not unit.main:
            self._launch(unit)
        return lambda: self._started(unit)

    def _started(self, unit: Unit) -> str | None:
        if unit.ready:
            return ""
        return unit.failed if not unit.main and unit.again_at == float("inf") else None

    def _launch(self, unit: Unit) -> None:
        unit.wanted, unit.ready, unit.failed, unit.again_at = True, False, "", float("inf")
        unit.starts += 1
        for name in unit.setting("RuntimeDirectory").split():
            shutil.rmtree(Path("/run", name), ignore_errors=True)  # it ended with the service
        unit.notes.clear()
        kind = unit.setting("Type", "simple")
        for command in read_unit(unit.name)["ExecStartPre"]:
            self._finish(spawn(unit, command, {}))
        extra = {"NOTIFY_SOCKET": "/run/notify.sock"} if kind == "notify" else {}
        watchdog = unit.setting("WatchdogSec")
        if watchdog:
            extra["WATCHDOG_USEC"] = str(int(seconds(watchdog) * 1e6))
        process = spawn(unit, unit.setting("ExecStart"), extra)
        if kind == "forking":
            self._finish(process)
            unit.main = self._forked(Path(unit.setting("PIDFile")))
        else:
            self._owned[process.pid] = process
            unit.main = process.pid
        unit.ready = kind != "notify" and bool(unit.main)

    @staticmethod
    def _forked(file: Path) -> int:
        """What a daemon that went into the background calls itself; it says so a moment after its parent has ended."""
        until = time.monotonic() + _STARTING
        while time.monotonic() < until:
            pid = pid_in(file)
            if pid and Path(f"/proc/{pid}").exists():
                return pid
            time.sleep(0.01)
        raise UnitError(f"nothing wrote {file}")

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait(_STARTING):
            raise UnitError(f"`{shlex.join(map(str, process.args))}` ended with status {process.returncode}")  # type: ignore[arg-type]

    def _stop(self, unit: Unit) -> Callable[[], str | None]:
        unit.wanted, unit.again_at = False, float("inf")
        main, until = unit.main, time.monotonic() + seconds(unit.setting("TimeoutStopSec", "20s"))
        self._signal(main, signal.SIGTERM)

        def stopped() -> str | None:
            if not unit.main:
                return ""
            if time.monotonic() >= until:
                self._signal(main, signal.SIGKILL)
            return None

        return stopped

    def _restarted(self, unit: Unit) -> Callable[[], str | None]:
        stopped = self._stop(unit) if unit.main else lambda: ""
        launched = False

        def outcome() -> str | None:
            nonlocal launched
            if not launched:
                if stopped() is None:
                    return None
                launched = True
                try:
                    self._launch(unit)
                except (UnitError, OSError) as error:
                    return str(error)
            return self._started(unit)

        return outcome

    def _reload(self, unit: Unit) -> Callable[[], str | None]:
        for command in read_unit(unit.name)["ExecReload"]:
            self._finish(spawn(unit, command, {"MAINPID": str(unit.main)}))
        return lambda: ""

    def _kill(self, unit: Unit, flags: list[str]) -> Callable[[], str | None]:
        names = [flag.partition("=")[2] for flag in flags if flag.startswith("--signal=")]
        self._signal(unit.main, getattr(signal, (names or ["SIGTERM"])[0]))
        return lambda: ""

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # its end is about to be reaped

    def _on_note(self) -> None:
        data, ancillary, _, _ = self._notify.recvmsg(65536, 256)
        sender = next((int.from_bytes(part[2][:4], sys.byteorder) for part in ancillary), 0)
        for unit in self._units.values():
            if sender and unit.main == sender:
                unit.notes += data.decode(errors="replace").split("\n")
                unit.ready = unit.ready or "READY=1" in unit.notes


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Init().run()
