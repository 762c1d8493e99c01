"""An empty Debian: a file tree with nothing but what apt needs, made through this machine's own apt, and shells inside.

It has processes and mounts of its own. It shares this machine's network, through which its apt and pip get what they install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.guide.runner import Place
from tests.servers.bed.hosts import CHECKOUT, is_gone
from tests.support.process import ManagedProcess
from tests.support.servers import NOT_POSSIBLE, Unavailable
from tests.support.wait import until

USER = "you"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SETTINGS = re.compile(r"(?:PIP_\w+|\w+_proxy|no_proxy|SSL_CERT_FILE)", re.IGNORECASE)
# Arguments: the tree, and the folders of this machine that are seen there, too.
_ENTER = """
root=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom tty; do : >"$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" && mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" && ln -s pts/ptmx "$root/dev/ptmx"
mkdir -m 1777 "$root/dev/shm"
mount -t proc proc "$root/proc"
for seen; do mkdir -p "$root$seen"; mount --bind -o ro "$seen" "$root$seen"; done
exec chroot "$root" sh -c ': >/ready; exec sleep infinity'
"""


def what_is_missing() -> str:
    """Why there can be no empty Debian here, in one sentence; ``""`` where there can."""
    if os.geteuid() != 0:
        return f"{NOT_POSSIBLE}only root can make an empty Debian"
    lacking = [name for name in ("mmdebstrap", "unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if lacking:
        return f"this machine lacks {', '.join(lacking)}"
    return "" if _sources() else f"{NOT_POSSIBLE}apt here knows no Debian"


def _sources() -> list[str]:
    """This machine's own Debian, as lines of sources.list."""
    told = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    name = told.get("VERSION_CODENAME", "").strip('"')
    if told.get("ID") != "debian" or not name:
        return []
    listed = _said("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    return sorted({f"deb {line}" for line in listed if re.search(rf" {name}(-updates|-security)? main$", line)})


def _said(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def build_wheel(folder: Path) -> Path:
    """piehole's wheel, built from this checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


class EmptyDebian:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self.pid = 0
        self._variables = {name: value for name, value in os.environ.items() if _SETTINGS.fullmatch(name)}
        self._variables |= _settings_of_pip()

    @property
    def home(self) -> Path:
        return self.root / "home" / USER

    def make(self) -> None:
        """Nothing but what is essential and apt; then an account.

        :raises Unavailable: there is no network
        """
        apt = [line for line in _said("apt-config", "dump") if re.match(r"Acquire::(?:https?::|Check-)", line)]
        options = [f"--aptopt={line.rstrip(';')}" for line in apt]
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", *options, "--include=passwd", "", str(self.root), *_sources()],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if re.search(r"Could not resolve|Temporary failure|Could not connect|Network is unreachable", made.stderr):
            raise Unavailable(f"{NOT_POSSIBLE}apt reaches no packages")
        assert made.returncode == 0, made.stderr[-4000:]
        subprocess.run(["useradd", "--root", str(self.root), "--create-home", "--shell", "/bin/bash", USER], check=True)
        # The second place of the certificates is for the package that makes the first one anew.
        authorities = "etc/ssl/certs/ca-certificates.crt"
        for source, target in (
            ("etc/resolv.conf", "etc/resolv.conf"),
            ("etc/hosts", "etc/hosts"),
            (authorities, authorities),
            (authorities, "usr/local/share/ca-certificates/machine.crt"),
        ):
            if Path("/", source).exists():
                (self.root / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path("/", source), self.root / target)

    def write(self, name: str, content: bytes) -> None:
        """A file in the home of the account."""
        (self.home / name).write_bytes(content)
        shutil.chown(self.home / name, *(os.stat(self.home).st_uid,) * 2)

    @contextmanager
    def running(self) -> Iterator[EmptyDebian]:
        """Enter it, until the block ends and everything inside is killed."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", _ENTER, "enter", str(self.root)]
        process = ManagedProcess([*enter, *_folders_in(self._variables.values())], self._folder / "enter.log")
        try:
            until(lambda: (self.root / "ready").exists() or not process.alive, 20, "the empty Debian is entered")
            assert process.alive, process.tail()
            self.pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            yield self
        finally:
            process.end()
            until(lambda: is_gone(self.pid), what="everything in the empty Debian is gone")

    def places(self, replaced: Mapping[str, str]) -> dict[str, Place]:
        """``root# `` and ``$ ``, the account."""
        return {"root#": self._place("root", "/root", replaced), "$": self._place(USER, f"/home/{USER}", replaced)}

    def _place(self, user: str, home: str, replaced: Mapping[str, str]) -> Place:
        into = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root", "--wd"]
        account = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env"]
        own = {"HOME": home, "PATH": _PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        variables = self._variables | own
        told = [f"{name}={value}" for name, value in variables.items()]
        return Place([*into, *account, "env", "-i", f"--chdir={home}", *told], replaced=replaced)


def _settings_of_pip() -> dict[str, str]:
    """This machine's settings of pip, as variables: where its packages come from."""
    listed = _said(sys.executable, "-m", "pip", "config", "list")
    pairs = [re.fullmatch(r"(?:global|install|:env:)\.([\w-]+)='?(.*?)'?", line) for line in listed]
    found = {pair[1]: pair[2].replace("\\n", " ") for pair in pairs if pair and pair[1] != "constraint"}
    return {f"PIP_{name.strip('.').upper().replace('-', '_')}": value for name, value in found.items()}


def _folders_in(values: Iterable[str]) -> list[str]:
    """The folders of this machine that are named there, such as a local index of packages with the files beside it."""
    paths = [Path(path) for value in values for path in re.findall(r"(?:file://|^| )(/[^\s']+)", value)]
    return sorted({str(path.parent if path.name == "simple" else path) for path in paths if path.is_dir()})
