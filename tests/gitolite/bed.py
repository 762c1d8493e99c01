"""Two real gitolite servers as two sites: each with a HOME, an sshd and a controller of its own, and users with real keys."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.support import git
from tests.support.etcd_raw import Change, RawEtcd
from tests.support.git import git_environment, make_home
from tests.support.ports import LOOPBACK
from tests.support.process import ManagedProcess
from tests.support.servers import find_program
from tests.support.sshd import SshServer
from tests.support.wait import until

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "gitolite"
MAIN: Final = "refs/heads/main"
PEOPLE: Final = ("admin", "alice", "bob", "piehole-oslo", "piehole-lima")
Done = subprocess.CompletedProcess[str]

CONF: Final = """\
@peers = piehole-oslo piehole-lima

repo gitolite-admin
    RW+ = admin

repo @all
    R   = @peers

repo tools deep/er/tools
    RW+ = alice
    R   = bob

repo rules
    RW  topic/          = bob
    -   release/        = alice
    -   VREF/MAX_NEWBIN_SIZE/1000 = alice
    RW                  = alice

repo own/CREATOR/..*
    C   = @all
    RW+ = CREATOR
    R   = READERS

repo any/..*
    C   = @all
    RW+ = CREATOR

repo apart
    RW+ = alice
    option ENV.piehole = no
"""


class GitoliteSsh(SshServer):
    """gitolite's sshd: its keys are those that gitolite writes, and each login runs gitolite-shell."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = environment
        super().__init__(folder)

    def _write_configs(self) -> None:
        super()._write_configs()
        config = self.folder / "sshd_config"
        lines = [line for line in config.read_text().splitlines() if not line.startswith(("AuthorizedKeys", "SetEnv"))]
        settings = " ".join(
            f'"{name}={value}"' for name, value in self._environment.items() if name not in ("USER", "LOGNAME", "SHELL")
        )
        keys = Path(self._environment["HOME"]) / ".ssh" / "authorized_keys"
        config.write_text("\n".join([*lines, f"AuthorizedKeysFile {keys}", f"SetEnv {settings}"]) + "\n")


class GitoliteSite:
    """One gitolite server. ``home`` is its account's."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.bed = bed
        self.name = name
        self.home = make_home(bed.folder / name)
        self.log = bed.folder / f"{name}.log"
        self.controller: ManagedProcess | None = None
        account = pwd.getpwuid(os.getuid()).pw_name
        self.environment = git_environment(self.home) | {
            "USER": account,
            "LOGNAME": account,
            "PATH": f"{bed.programs}:{os.environ['PATH']}",
        }
        self.ssh = GitoliteSsh(bed.folder / f"{name}-ssh", self.environment)
        self.base = f"ssh://{self.ssh.user}@{LOOPBACK}:{self.ssh.port}/"

    # ---- the server

    def run(self, *command: str, check: bool = True) -> Done:
        """A command of the administrator's, on the server, as its git account."""
        done = subprocess.run(
            command,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            env=self.environment,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def set_up(self) -> None:
        """gitolite alone, as Debian's package sets it up."""
        self.run("gitolite", "setup", "-pk", str(self.bed.key("admin").with_suffix(".pub")))

    def add_piehole(self) -> None:
        """The steps of docs/guides/gitolite.md."""
        settings = {
            "piehole.site": self.name,
            "piehole.prefix": self.bed.prefix,
            "piehole.root": str(self.repositories),
            "piehole.hookTimeout": "8",
            "core.sshCommand": self.bed.ssh_command(f"piehole-{self.name}"),
        }
        for name, value in settings.items():
            self.run("git", "config", "--global", name, value)
        # A hook goes by the configuration in the home of its account, which this HOME is not: so each repository has them, too.
        template = self.home / "template"
        (template / "hooks").mkdir(parents=True)  # gitolite links its own into it
        self.run("git", "config", "--global", "init.templateDir", str(template))
        for name in ("piehole.prefix", "piehole.hookTimeout", "core.sshCommand"):
            self.run("git", "config", "--file", str(template / "config"), name, settings[name])
        self.use_etcd(self.bed.endpoint)
        shutil.copytree(DEPLOY / "local", self.home / "local")
        snippet = (DEPLOY / "piehole.rc").read_text().replace("ssh://git@oslo.example.org/", self.base)
        with self.rc.open("a") as rc:
            rc.write(snippet)
        self.run("gitolite", "setup")

    def use_etcd(self, endpoint: str) -> None:
        """Which etcd this server and every repository that is made from now on has."""
        self.run("git", "config", "--global", "piehole.etcd", endpoint)
        self.run("git", "config", "--file", str(self.home / "template" / "config"), "piehole.etcd", endpoint)

    @property
    def rc(self) -> Path:
        return self.home / ".gitolite.rc"

    @property
    def repositories(self) -> Path:
        return self.home / "repositories"

    def repository(self, name: str) -> Path:
        return self.repositories / f"{name}.git"

    def refs(self, name: str) -> dict[str, str]:
        found = git.refs(self.repository(name))
        return {ref: oid for ref, oid in found.items() if not ref.startswith("refs/piehole/")}

    def at(self, name: str, ref: str = MAIN) -> str:
        return self.refs(name).get(ref, "")

    def piehole(self, *arguments: str, check: bool = True) -> Done:
        return self.run("piehole", *arguments, check=check)

    def start(self) -> None:
        environment = self.environment | {"RUNTIME_DIRECTORY": str(self.bed.runtime)}
        command = [str(self.bed.programs / "piehole"), "controller", "--log-format", "json"]
        self.controller = ManagedProcess(command, self.log, env=environment)

    def serves(self, name: str) -> None:
        """Wait until the controller serves a repository."""
        until(lambda: (self.repository(name) / "piehole" / "controller").exists(), 30, f"{self.name} serves {name}")

    def end(self) -> None:
        if self.controller is not None:
            self.controller.end()
        self.ssh.end()

    # ---- its users

    def url(self, name: str) -> str:
        return f"{self.base}{name}"

    def clone(self, who: str, name: str) -> Path:
        target = self.bed.fresh(f"{who}-{name.replace('/', '-')}")
        done = self.bed.as_user(who, "clone", "--quiet", self.url(name), str(target))
        assert done.returncode == 0, done.stderr
        return target

    def push(self, who: str, work: Path, name: str, *refspecs: str) -> Done:
        options = [word for word in refspecs if word.startswith("--")]
        names = [word for word in refspecs if not word.startswith("--")]
        return self.bed.as_user(who, "push", *options, self.url(name), *names, cwd=work)

    def publish(self, change: Callable[[Path], None], message: str = "rules") -> Done:
        """Change gitolite-admin as its administrator does: in a clone, and push."""
        work = self.clone("admin", "gitolite-admin")
        change(work)
        for words in (("add", "--all"), ("commit", "--quiet", "--allow-empty", "-m", message)):
            done = self.bed.as_user("admin", *words, cwd=work)
            assert done.returncode == 0, done.stderr
        return self.push("admin", work, "gitolite-admin", "HEAD:master")

    def publish_all(self) -> Done:
        """Everybody's key, and the rules of these tests."""
        return self.publish(self._write_rules)

    def _write_rules(self, work: Path) -> None:
        for who in PEOPLE:
            shutil.copy(self.bed.key(who).with_suffix(".pub"), work / "keydir" / f"{who}.pub")
        (work / "conf" / "gitolite.conf").write_text(CONF)


class Bed:
    """etcd, the two servers, and everybody's keys."""

    def __init__(self, folder: Path, endpoint: str, prefix: str) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.prefix = prefix
        self.etcd = RawEtcd(endpoint)
        self.runtime = Path(tempfile.mkdtemp(prefix="ph-"))  # short, since a socket's path has at most 107 bytes
        self.programs = folder / "bin"
        self.sites: list[GitoliteSite] = []
        self._made = 0

    def begin(self) -> Bed:
        """Two sites with everybody's rules, their controllers running.

        :raises Unavailable: this machine lacks gitolite or sshd
        """
        find_program("gitolite")
        self.programs.mkdir()
        program = self.programs / "piehole"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m piehole.cli "$@"\n')
        program.chmod(0o755)
        make_home(self.folder / "people")
        for who in PEOPLE:
            self._make_key(who)
        for name in ("oslo", "lima"):
            site = GitoliteSite(self, name)
            self.sites.append(site)
            site.set_up()
        self._write_known_hosts()
        for site in self.sites:
            site.add_piehole()
            done = site.publish_all()
            assert done.returncode == 0 and not ("piehole: " in done.stderr or "FATAL" in done.stderr), done.stderr
            site.start()
        for site in self.sites:
            site.serves("tools")
            site.serves("rules")
        return self

    def __getitem__(self, number: int) -> GitoliteSite:
        return self.sites[number]

    def end(self) -> None:
        for site in self.sites:
            site.end()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        self._made += 1
        return self.folder / "work" / f"{name}-{self._made}"

    # ---- people

    def key(self, who: str) -> Path:
        return self.folder / "keys" / who

    def ssh_command(self, who: str) -> str:
        return f"ssh -F {shlex.quote(str(self.key(who).with_suffix('.config')))}"

    def as_user(self, who: str, *arguments: str, cwd: Path | None = None) -> Done:
        """git, on this user's own machine."""
        environment = git_environment(self.folder / "people") | {"GIT_SSH_COMMAND": self.ssh_command(who)}
        return subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            env=environment,
            check=False,
        )

    def one_more(self, name: str) -> GitoliteSite:
        """A gitolite server with everybody's rules and nothing of piehole, which the caller ends."""
        site = GitoliteSite(self, name)
        site.set_up()
        self._write_known_hosts(site)
        done = site.publish_all()
        assert done.returncode == 0, done.stderr
        return site

    def _make_key(self, who: str) -> None:
        self.key(who).parent.mkdir(exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(self.key(who))]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)

    def _write_known_hosts(self, *more: GitoliteSite) -> None:
        known = self.folder / "known_hosts"
        known.write_text("".join((site.ssh.folder / "known_hosts").read_text() for site in [*self.sites, *more]))
        for who in PEOPLE:
            config = self.sites[0].ssh.ssh_config.read_text()
            config = config.replace(f"{self.sites[0].ssh.folder}/user_key", str(self.key(who)))
            config = config.replace(f"{self.sites[0].ssh.folder}/known_hosts", str(known))
            self.key(who).with_suffix(".config").write_text(config)

    # ---- the consensus

    def ref_key(self, group: str, ref: str = MAIN) -> str:
        return f"{self.prefix}/ref/{group}/{ref}"

    def value(self, group: str, ref: str = MAIN) -> str | None:
        return self.etcd.get(self.ref_key(group, ref))

    def pushes(self, group: str) -> Sequence[Change]:
        """Everything that was ever written as this group's push record: each swap writes it."""
        return self.etcd.history(self.ref_key(group, "@push"))

    def groups(self) -> set[str]:
        start = f"{self.prefix}/group/"
        return {key.removeprefix(start) for key in self.etcd.get_prefix(start)}

    def arrives(self, name: str, oid: str, ref: str = MAIN) -> None:
        for site in self.sites:
            until(lambda site=site: site.at(name, ref) == oid, 30, f"{ref} of {name} is at {oid[:12]} at {site.name}")  # type: ignore[misc]
