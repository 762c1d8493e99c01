"""The Debian package on a Debian: this machine's own files, with all that is written going elsewhere (overlayfs)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from piehole.cli.parser import COMMANDS
from tests.packaging.built import Built
from tests.support.etcd import EtcdProcess
from tests.support.servers import NOT_POSSIBLE

_NEEDED = ("chroot", "dpkg", "man", "systemd-analyze", "systemd-sysusers", "unshare")
_LACKS = [one for one in _NEEDED if shutil.which(one) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason=f"{NOT_POSSIBLE}only root installs Debian packages"),
    pytest.mark.skipif(bool(_LACKS), reason=f"no {', '.join(_LACKS)} on this machine"),
]

CONTROLLER = "piehole-controller.service"
# It answers as systemd would of a unit that is enabled by a link and runs while a file is there, and writes down what it was asked.
_SYSTEMCTL = f"""#!/bin/sh
echo "$*" >>/systemctl.log
case "$*" in
*is-enabled*) [ -e /etc/systemd/system/multi-user.target.wants/{CONTROLLER} ] && echo enabled || echo disabled ;;
*is-active*) [ -e /is-active ] ;;
esac
"""


class Debian:
    """A system to install packages on."""

    def __init__(self, folder: Path) -> None:
        self.written, self._work, self._root = (folder / name for name in ("written", "work", "root"))
        for one in (self.written, self._work, self._root):
            one.mkdir(parents=True)

    def run(self, script: str, *arguments: str, check: bool = True) -> str:
        mounts = f"""
            mount -t overlay overlay -o lowerdir=/,upperdir={self.written},workdir={self._work} {self._root} || exit 99
            mount --rbind /proc {self._root}/proc && mount --rbind /dev {self._root}/dev
            exec chroot {self._root} /bin/sh -ec "$@"
        """
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounts, "sh", script, "sh", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
                "MANPAGER": "cat",
            },
        )
        if done.returncode == 99:
            pytest.skip(f"{NOT_POSSIBLE}this machine mounts no overlay: {done.stdout}")
        assert (done.returncode == 0) is check, done.stdout
        return done.stdout

    def dpkg(self, *words: str) -> set[str]:
        """Run dpkg; what systemd was told meanwhile."""
        log = self.written / "systemctl.log"
        log.unlink(missing_ok=True)
        self.run('dpkg --force-unsafe-io --no-triggers "$@"', *words)
        asked = log.read_text().splitlines() if log.exists() else []
        return {
            word for line in asked for word in line.split() if word in ("start", "restart", "stop", "enable", "preset")
        }

    def push(self, *, check: bool = True) -> str:
        """As the account git, push a commit to the site."""
        return self.run(
            """
            cd /home/git; [ -e work ] || runuser -u git -- git clone -q /srv/git/tools.git work 2>/dev/null; cd work
            runuser -u git -- git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m "a change"
            runuser -u git -- git push origin HEAD:refs/heads/main
            """,
            check=check,
        )


@pytest.fixture
def debian(tmp_path: Path, built: Built) -> Debian:
    debian = Debian(tmp_path / "debian")
    debian.run("rm -f /usr/sbin/policy-rc.d; mkdir -p /run/systemd/system; rm -rf /srv/git; mkdir -m 0700 /etc/piehole")
    (debian.written / "usr/bin").mkdir(parents=True, exist_ok=True)
    (debian.written / "usr/bin/systemctl").write_text(_SYSTEMCTL)
    (debian.written / "usr/bin/systemctl").chmod(0o755)
    shutil.copy(built.deb, debian.written / "piehole.deb")
    return debian


def _newer(deb: Path, folder: Path) -> None:
    """The next version of the package."""
    subprocess.run(["dpkg-deb", "-R", str(deb), str(folder)], check=True)
    control = folder / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    subprocess.run(
        ["dpkg-deb", "-b", "-z1", "--root-owner-group", str(folder), str(deb)], check=True, capture_output=True
    )


def _installed_well(debian: Debian, built: Built) -> None:
    assert debian.run("piehole --version") == f"piehole {built.version}\n"
    assert "set up:" in debian.run("piehole --help")
    assert debian.run("piehole files").startswith("/usr/share/piehole/deploy:\n")
    assert "piehole-install(1)" in debian.run("man piehole")
    assert "_piehole" in debian.run("bash -c '. /usr/share/bash-completion/completions/piehole; complete -p piehole'")
    assert debian.run("bash -c 'piehole completion bash --line \"piehole sta\"'").startswith("status\t")
    assert debian.run(f"systemd-analyze verify /lib/systemd/system/{CONTROLLER}") == ""
    unit = debian.run(f"cat /lib/systemd/system/{CONTROLLER}")
    assert "\nEnvironmentFile=-/etc/default/piehole\nExecStart=/usr/bin/piehole controller $OPTIONS\n" in unit
    assert "Copy to" not in unit
    (options,) = shlex.split(debian.run(". /etc/default/piehole; echo \"'$OPTIONS'\""))
    COMMANDS["controller"].parser().parse_args(shlex.split(options))
    # The accounts and the folders; those that are there stay as they are.
    assert debian.run("stat -c '%U %a' /srv/git /home/git/.ssh /etc/piehole").split("\n")[:3] == [
        "git 755",
        "git 700",
        "root 700",
    ]
    # Without compiled modules each hook would start many times later.
    uncompiled = """
        find /usr/lib/piehole -name '*.py' | while read -r file; do
            set -- "${file%/*}/__pycache__/$(basename "$file" .py)".*.pyc; [ -e "$1" ] || echo "$file"
        done
    """
    assert debian.run(uncompiled) == ""


def test_it_is_installed_upgraded_removed_and_purged_and_repositories_stay(
    debian: Debian, built: Built, etcd: EtcdProcess, prefix: str
) -> None:
    assert debian.dpkg("-i", "/piehole.deb") == set()  # nothing is started or enabled
    _installed_well(debian, built)
    install = 'runuser -u git -- piehole install /srv/git/tools.git --group g --site oslo --url /srv/git/tools.git "$@"'
    debian.run("runuser -u git -- git init -q --bare -b main /srv/git/tools.git")
    debian.run(install, "--etcd", etcd.endpoint, "--prefix", prefix)
    assert "piehole: accepted: refs/heads/main" in debian.push()

    # An upgrade keeps settings, and restarts a controller that runs.
    debian.run("echo 'OPTIONS=\"--root /mine\"' >/etc/default/piehole; touch /is-active")
    _newer(debian.written / "piehole.deb", debian.written / "newer")
    assert debian.dpkg("-i", "/piehole.deb") == {"restart"}
    assert debian.run("cat /etc/default/piehole") == 'OPTIONS="--root /mine"\n'
    assert "piehole: accepted: refs/heads/main" in debian.push()

    # Without piehole nothing is accepted, and all can be read.
    assert debian.dpkg("-r", "piehole") == {"stop"}
    assert "run 'piehole install' at this site" in debian.push(check=False)
    at = "git -c safe.directory='*' --git-dir=/srv/git/tools.git for-each-ref"
    before = debian.run(at)
    assert before and debian.run("cat /etc/default/piehole")
    assert debian.dpkg("-P", "piehole") == set()
    installed = [debian.written / name for name in ("etc", "lib", "usr")]
    left = {
        path
        for folder in installed
        for path in folder.rglob("*")
        if path.is_file() and "piehole" in str(path.relative_to(folder))
    }
    assert left == set()
    assert debian.run(at) == before

    debian.dpkg("-i", "/piehole.deb")
    assert "piehole: accepted: refs/heads/main" in debian.push()


def test_a_controller_that_was_enabled_and_stopped_is_not_enabled_anew(debian: Debian) -> None:
    """systemd is asked to start it only where an administrator enabled it."""
    debian.run(
        f"mkdir -p /etc/systemd/system/multi-user.target.wants; touch /etc/systemd/system/multi-user.target.wants/{CONTROLLER}"
    )
    assert debian.dpkg("-i", "/piehole.deb") == {"start"}
