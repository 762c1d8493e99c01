"""Hosts and the wire between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.etcd import find_etcdctl, find_etcds
from tests.support.process import ManagedProcess
from tests.support.wait import until

CHECKOUT = Path(__file__).parents[3]
_HERE = Path(__file__).parent
Done = subprocess.CompletedProcess[str]
NETWORK = "10.77.0"  # used in these namespaces only; no route leads into them or out
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What programs below /usr expect to find in /etc. Links lead into /usr, the rest is copied.
_ETC = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "login.defs", "mime.types", "nginx"),
    *("pam.conf", "pam.d", "protocols", "security", "services", "shells", "ssl"),
)
_SYSTEM_ACCOUNTS = ("root", "daemon", "bin", "sys", "mail", "nobody", "www-data", "sshd")
_SYSTEM_GROUPS = (*_SYSTEM_ACCOUNTS, "tty", "shadow", "nogroup")


class CommandFailed(AssertionError):
    """A command on a host ended with a status that nobody expected."""


def _inner(outer: int) -> int:
    """The process that an unshare has forked: process 1 of its namespaces, 0 where there is none yet."""
    try:
        words = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    except OSError:
        return 0
    return int(words[0]) if words else 0


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


class Wire:
    """A bridge in a namespace of its own, to which hosts are plugged."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._process = ManagedProcess(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sleep", "infinity"], folder / "wire.log"
        )
        self._pid = until(lambda: _inner(self._process.pid), what="the wire's namespace is there")
        until(lambda: self._name() == "sleep", what="the wire's process runs")
        self.ip("link", "add", "wire", "type", "bridge")
        self.ip("link", "set", "wire", "up")

    def _name(self) -> str:
        try:
            return Path(f"/proc/{self._pid}/comm").read_text().strip()
        except OSError:
            return ""

    def ip(self, *arguments: str) -> None:
        subprocess.run(
            ["nsenter", "--target", str(self._pid), "--net", "ip", *arguments],
            check=True,
            timeout=30,
            capture_output=True,
        )

    def plug(self, host: Host) -> None:
        port = f"p{host.number}"
        # The other end goes to the namespace of that process, as it is numbered here.
        self.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self.ip("link", "set", port, "master", "wire", "up")

    def end(self) -> None:
        self._process.end()


class Host:
    """One machine: up after ``boot``, gone after ``halt``; ``burn`` takes its disk along."""

    def __init__(self, wire: Wire, folder: Path, name: str, number: int, names: Mapping[str, str]) -> None:
        """
        :param number: the last part of its address
        :param names: the addresses of all hosts, by name
        """
        self.name = name
        self.number = number
        self.address = f"{NETWORK}.{number}"
        self._wire = wire
        self._folder = folder / name
        self._names = dict(names)
        self._process: ManagedProcess | None = None
        self.pid = 0

    @property
    def console(self) -> Path:
        """What process 1 says, in a file of this machine."""
        return self._folder / "console.log"

    # ---- on and off

    def boot(self) -> Host:
        """Begin; a host that has no disk yet gets a fresh one."""
        tree = self._folder / "tree"
        if not tree.exists():
            self._furnish(tree)
        unshare = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        seen = [str(path) for path in _seen()]
        entered = ["sh", str(_HERE / "enter.sh"), self.name, str(tree), python(), str(_HERE / "init.py"), *seen]
        self._process = ManagedProcess([*unshare, *entered], self.console)
        process = self._process

        def up() -> bool:
            assert process.alive, f"{self.name} did not come up:\n{process.tail()}"
            self.pid = _inner(process.pid)
            return self.pid > 0 and Path(f"/proc/{self.pid}/root/run/init.sock").exists()

        until(up, 20, f"{self.name} is up")
        self._wire.plug(self)
        self.sh(f"ip link set lo up; ip address add {self.address}/24 dev eth0; ip link set eth0 up")
        return self

    def halt(self) -> None:
        """The plug is pulled: everything that runs here is gone at once."""
        if self._process is not None:
            self._process.end()
            # Process 1 ends last. Whoever shall reap it may have other work.
            until(lambda: is_gone(self.pid), what=f"{self.name} is gone")
        self._process, self.pid = None, 0

    def burn(self) -> None:
        self.halt()
        shutil.rmtree(self._folder)

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.alive

    # ---- working on it

    def run(
        self,
        *argv: str,
        user: str = "root",
        check: bool = True,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> Done:
        """Run a command as an account of this host.

        :raises CommandFailed: it failed, and ``check`` says that it must not
        """
        done = subprocess.run(
            self.command(*argv, user=user, env=env),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={"PATH": _PATH},
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
            raise CommandFailed(f"{user}@{self.name}: {' '.join(argv)[:400]} gave {done.returncode}:\n{said}")
        return done

    def command(self, *argv: str, user: str = "root", env: Mapping[str, str] | None = None) -> list[str]:
        """The command line, on this machine, that runs ``argv`` there."""
        assert self.pid, f"{self.name} is down"
        into = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--uts", "--ipc", "--root", "--wd"]
        variables = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})}
        told = [f"{name}={value}" for name, value in variables.items()]
        # --reset-env gives the account's own HOME, and nothing of ours.
        account = ["setpriv", "--reuid", user, "--regid", self.group_of(user), "--init-groups", "--reset-env"]
        return [*into, *account, "--", "env", *told, *argv]

    def sh(self, script: str, *, user: str = "root", check: bool = True, timeout: float = 120.0) -> Done:
        return self.run("sh", "-euc", script, user=user, check=check, timeout=timeout)

    def group_of(self, user: str) -> str:
        for line in (self._folder / "tree" / "etc" / "passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == user:
                return fields[3]
        raise AssertionError(f"{self.name} has no account {user}")

    def path(self, inside: str) -> Path:
        """A file of the host, as this machine sees it while the host is up."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def write(self, inside: str, text: str, *, mode: int = 0o644) -> None:
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def systemctl(self, *words: str, check: bool = True) -> Done:
        return self.run("systemctl", *words, check=check)

    def log_of(self, service: str) -> str:
        file = self.path(f"/var/log/{service}.log")
        return file.read_text(errors="replace") if file.exists() else ""

    # ---- its disk

    def _furnish(self, tree: Path) -> None:
        for name in ("dev", "etc", "home", "lib/systemd/system", "opt", "proc", "root", "run", "srv", "tmp", "usr"):
            (tree / name).mkdir(parents=True)
        shutil.rmtree(tree / "lib")
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            machine = Path("/", name)
            if machine.is_symlink():
                (tree / name).symlink_to(os.readlink(machine))
        for name in ("var/backups", "var/lib", "var/log/nginx", "var/lib/nginx", "var/tmp", "var/cache", "var/mail"):
            (tree / name).mkdir(parents=True)
        (tree / "root").chmod(0o711)  # Python may lie below it on this machine, and every account must reach that
        (tree / "var" / "run").symlink_to("/run")
        self._furnish_etc(tree / "etc")
        self._furnish_local(tree / "local-bin")

    def _furnish_etc(self, etc: Path) -> None:
        for name in _ETC:
            source = Path("/etc", name)
            if source.is_dir():
                shutil.copytree(source, etc / name, symlinks=True, ignore=shutil.ignore_patterns("private"))
            elif source.exists():
                shutil.copy(source, etc / name)
        for site in (etc / "nginx" / "sites-enabled").glob("*"):
            site.unlink()
        (etc / "systemd" / "system").mkdir(parents=True)
        (etc / "default").mkdir()
        (etc / "ssh" / "sshd_config.d").mkdir(parents=True)
        (etc / "ssh" / "sshd_config").write_text(
            "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
            "Subsystem sftp internal-sftp\n"
        )
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        hosts = [f"{address} {name} {name.partition('.')[0]}" for name, address in self._names.items()]
        (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        # Accounts that are made here get other numbers on each host, as on servers with a past.
        with (etc / "login.defs").open("a") as file:
            for kind in ("UID", "GID"):
                file.write(f"SYS_{kind}_MIN {300 + 20 * self.number}\nSYS_{kind}_MAX {319 + 20 * self.number}\n")
        (etc / "passwd").write_text(_lines("/etc/passwd", _SYSTEM_ACCOUNTS))
        (etc / "group").write_text(_lines("/etc/group", _SYSTEM_GROUPS))
        (etc / "shadow").write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in _SYSTEM_ACCOUNTS))
        (etc / "gshadow").write_text("")
        for name in ("shadow", "gshadow"):
            (etc / name).chmod(0o600)

    def _furnish_local(self, folder: Path) -> None:
        """/usr/local/bin: piehole, etcd and systemctl, where an administrator would have put the first two."""
        folder.mkdir()
        etcd = newest_etcd()
        etcdctl = find_etcdctl(etcd)
        assert etcdctl is not None
        for name, target in (("etcd", etcd), ("etcdctl", etcdctl), ("systemctl", _HERE / "systemctl")):
            (folder / name).write_text(f'#!/bin/sh\nexec {"sh " if name == "systemctl" else ""}"{target}" "$@"\n')
        (folder / "piehole").write_text(f'#!/bin/sh\nexec "{python()}" -I -m piehole.cli "$@"\n')
        for file in folder.iterdir():
            file.chmod(0o755)


def newest_etcd() -> Path:
    found = find_etcds()
    return found[max(found, key=lambda version: tuple(map(int, version.split("."))))]


def python() -> str:
    """The interpreter that finds piehole and its packages, on every host."""
    own = CHECKOUT / ".venv" / "bin" / "python"
    return str(own if own.exists() else sys.executable)


def _seen() -> Sequence[Path]:
    """What the hosts see of this machine beyond /usr: the checkout, Python, and the packages that are in use."""
    wanted = [CHECKOUT, Path(sys.base_prefix), Path(sys.prefix), *(path.parent for path in [newest_etcd().resolve()])]
    wanted += [Path(os.path.realpath(sys.executable)).parents[1]]
    outside = [path for path in wanted if not path.is_relative_to("/usr")]
    return [
        path
        for number, path in enumerate(outside)
        if not any(path.is_relative_to(other) for other in outside[:number])
        and not any(path != other and path.is_relative_to(other) for other in outside)
    ]


def _lines(file: str, names: Sequence[str]) -> str:
    kept = [line for line in Path(file).read_text().splitlines() if line.partition(":")[0] in names]
    return "".join(f"{line}\n" for line in kept)
