"""Three servers, set up by deploy/'s scripts, and a user's laptop."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.guide.runner import Place
from tests.servers.bed.hosts import CHECKOUT, NETWORK, Done, Host, Wire, python
from tests.support.assertions import arrives
from tests.support.git import MAIN
from tests.support.wait import until

SITES = ("oslo", "lima", "kyoto")
KIT = "/root/kit"  # what the administrator has copied to a server
REPOSITORY = "/srv/git/project.git"
PASSWORD = "correct horse battery staple"  # noqa: S105 -- of an account that exists in a namespace
_NUMBERS = {"oslo": 11, "lima": 12, "kyoto": 13, "laptop": 21}
_READY = 40.0  # seconds

_METRICS = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/piehole/ca.pem")
context.load_cert_chain("/etc/piehole/client.pem", "/etc/piehole/client-key.pem")
print(urllib.request.urlopen(f"https://{sys.argv[1]}:2379/metrics", context=context, timeout=10).read().decode())
"""


def _name(host: str) -> str:
    return f"{host}.example.org"


class Laptop:
    """A user's machine: stock git, an ssh key, a password, and nothing of piehole."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._made = 0

    def prepare(self) -> None:
        """Make the user's account with its key and password, which trusts each host's key at first sight."""
        self.host.run("useradd", "--create-home", "--user-group", "--shell", "/bin/sh", "alice")
        self.host.sh("mkdir -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' -C alice -f ~/.ssh/id_ed25519", user="alice")
        self.host.write(
            "/etc/ssh/ssh_config",
            "StrictHostKeyChecking accept-new\nLogLevel ERROR\nBatchMode yes\nConnectTimeout 10\n",
        )
        self.host.write(
            "/etc/gitconfig",
            "[user]\n\tname = Alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n"
            "[credential]\n\thelper = store --file=/home/alice/.git-credentials\n",
        )
        self.host.write(
            "/home/alice/.git-credentials",
            "".join(f"https://alice:{PASSWORD.replace(' ', '%20')}@{_name(site)}\n" for site in SITES),
        )
        self.host.run("chown", "alice", "/home/alice/.git-credentials")

    def trust(self, ca: Path) -> None:
        self.host.write("/etc/piehole-ca.pem", ca.read_text())
        self.host.run("git", "config", "--system", "http.sslCAInfo", "/etc/piehole-ca.pem")

    @property
    def key(self) -> str:
        return self.host.path("/home/alice/.ssh/id_ed25519.pub").read_text()

    def git(self, clone: str, *arguments: str, check: bool = True, timeout: float = 90.0) -> Done:
        return self.host.run(
            "git", "-C", clone, *arguments, user="alice", check=check, env={"GIT_TERMINAL_PROMPT": "0"}, timeout=timeout
        )

    def clone(self, url: str) -> str:
        """A new clone; returns its folder."""
        self._made += 1
        folder = f"/home/alice/clone{self._made}"
        self.git("/home/alice", "clone", "--quiet", url, folder)
        return folder

    def commit(self, clone: str, message: str) -> str:
        self.git(clone, "commit", "--quiet", "--allow-empty", "-m", message)
        return self.git(clone, "rev-parse", "HEAD").stdout.strip()

    def push(self, clone: str, url: str, *refspecs: str, timeout: float = 90.0) -> Done:
        return self.git(clone, "push", url, *(refspecs or ("HEAD:" + MAIN,)), check=False, timeout=timeout)


class Server:
    """One of the three, as a site."""

    def __init__(self, host: Host, site: str) -> None:
        self.host = host
        self.site = site

    def __str__(self) -> str:
        return self.site

    @property
    def ssh(self) -> str:
        return f"ssh://git@{self.host.name}{REPOSITORY}"

    @property
    def https(self) -> str:
        return f"https://{self.host.name}/project.git"

    def url(self, protocol: str) -> str:
        return self.ssh if protocol == "ssh" else self.https

    def at(self, ref: str = MAIN) -> str:
        """Where the ref is on this server's disk; "" where it is not."""
        try:
            return self.host.path(f"{REPOSITORY}/{ref}").read_text().strip()
        except OSError:
            done = self.host.run(
                "git", f"--git-dir={REPOSITORY}", "rev-parse", "--verify", "--quiet", ref, user="git", check=False
            )
            return done.stdout.strip()

    def refs(self) -> str:
        """All branches and tags with their oids, one a line."""
        listed = ("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        return self.host.run("git", f"--git-dir={REPOSITORY}", *listed, user="git").stdout

    def piehole(self, *arguments: str, check: bool = True) -> Done:
        return self.host.run("piehole", *arguments, user="git", check=check)

    def wait_ready(self) -> None:
        """Wait until the controller serves the repository and this server's own member of etcd has a leader."""
        until(self.host.path(f"{REPOSITORY}/piehole/controller").exists, 20, f"the controller of {self.site} serves")

        def answers() -> bool:
            return self.etcdctl("get", "/piehole/", check=False).returncode == 0

        until(answers, 20, f"etcd of {self.site} answers")

    def wait_leaderless(self) -> None:
        """Wait until this server's member knows that it has no leader: what is proposed to it before then hangs."""

        def leaderless() -> bool:
            return "\netcd_server_has_leader 0\n" in self.host.run("python3", "-c", _METRICS, self.host.name).stdout

        until(leaderless, 20, f"etcd of {self.site} has no leader")

    def service(self, name: str) -> tuple[int, int]:
        """The main process of a service, 0 where it does not run, and how often it has been started."""
        self.host.systemctl("show", name)
        main, starts, _ = json.loads(self.host.path(f"/run/{name}.show").read_text())
        return main, starts

    def etcdctl(self, *arguments: str, root: bool = False, check: bool = True, stdin: str = "") -> Done:
        """etcdctl at this server's own member, as the site's user or as etcd's root."""
        return self.host.run("etcdctl", *arguments, env=self._etcdctl_environment(root), check=check, stdin=stdin)

    def etcd_script(self, name: str, *arguments: str) -> Done:
        """One of deploy/'s scripts for etcd, as etcd's root."""
        return self.host.run("sh", str(CHECKOUT / "deploy" / name), *arguments, env=self._etcdctl_environment(True))

    def _etcdctl_environment(self, root: bool) -> dict[str, str]:
        password = "/etc/etcd-root" if root else "/etc/piehole/etcd-password"
        return {
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": f"https://{self.host.name}:2379",
            "ETCDCTL_CACERT": "/etc/piehole/ca.pem",
            "ETCDCTL_CERT": "/etc/piehole/client.pem",
            "ETCDCTL_KEY": "/etc/piehole/client-key.pem",
            "ETCDCTL_USER": "root" if root else self.site,
            "ETCDCTL_PASSWORD": self.host.path(password).read_text().strip(),
        }


class _Places(Mapping[str, Place]):
    """An account of a host is looked up when a page comes there: it may be that page that made it."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def __getitem__(self, prompt: str) -> Place:
        user, _, name = prompt[:-1].partition("@")
        at_home = self._hosts[name].command("sh", "-c", 'cd && exec "$@"', "sh", user=user)
        # No network has the addresses that documents use.
        return Place(at_home, replaced={"192.0.2.": f"{NETWORK}."})

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)


class ThreeServers:
    """The bed. ``begin`` brings all of it up; ``end`` leaves nothing."""

    def __init__(self, folder: Path, *, etcd_settings: Mapping[str, str] | None = None) -> None:
        """
        :param etcd_settings: more of every member's settings
        """
        self.folder = folder
        self.etcd_settings = etcd_settings or {}
        folder.mkdir(parents=True, exist_ok=True)
        self._wire = Wire(folder)
        names = {_name(host): f"{NETWORK}.{number}" for host, number in _NUMBERS.items()}
        self._hosts = {host: Host(self._wire, folder, _name(host), number, names) for host, number in _NUMBERS.items()}
        self.laptop = Laptop(self._hosts["laptop"])
        self.servers = [Server(self._hosts[site], site) for site in SITES]

    def __iter__(self) -> Iterator[Server]:
        return iter(self.servers)

    def boot(self) -> ThreeServers:
        """Bare servers, and a laptop with its user."""
        for host in self._hosts.values():
            host.boot()
        self.laptop.prepare()
        return self

    def begin(self) -> ThreeServers:
        self.boot()
        self.make_keys(self.folder / "pki")
        self.laptop.trust(self.folder / "pki" / "authority" / "ca.pem")
        self.set_up(self.servers)
        return self

    @property
    def places(self) -> Mapping[str, Place]:
        """Where the prompts of a page stand, such as ``root@oslo#``, ``git@lima$`` or ``alice@laptop$``."""
        return _Places(self._hosts)

    def end(self) -> None:
        with ThreadPoolExecutor(len(self._hosts)) as pool:  # the kernel takes its time with each
            list(pool.map(Host.halt, self._hosts.values()))
        self._wire.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def more(self, *names: str) -> Iterator[list[Host]]:
        """More bare hosts on the same wire, which know all names."""
        numbers = {**_NUMBERS, **{name: 31 + number for number, name in enumerate(names)}}
        known = {_name(name): f"{NETWORK}.{number}" for name, number in numbers.items()}
        hosts = [Host(self._wire, self.folder, _name(name), numbers[name], known) for name in names]
        try:
            yield [host.boot() for host in hosts]
        finally:
            for host in hosts:
                host.burn()

    def set_up(self, servers: Sequence[Server]) -> None:
        """Run `piehole setup` on these at the same time."""
        for server in servers:
            self.deliver(server)
        with ThreadPoolExecutor(len(servers)) as pool:
            for done in [pool.submit(self.run_setup, server) for server in servers]:
                done.result()

    def rebuild(self, lost: Server) -> None:
        """Set up a server anew whose disk has burned, with the help of one that lives."""
        helper = next(server for server in self.servers if server.host.is_up and server is not lost)
        helper.etcd_script("etcd-replace.sh", lost.site)
        lost.host.boot()
        self.deliver(lost, founding=False)
        settings = f'site = "{lost.site}"\n' + self._settings(ETCD_INITIAL_CLUSTER_STATE="existing")
        lost.host.write(f"{KIT}/{lost.site}/setup.toml", settings)
        self.run_setup(lost)

    def run_setup(self, server: Server, *options: str, user: str = "root", check: bool = True) -> Done:
        words = ("setup", "--from", f"{KIT}/{server.site}", *(options or ("--yes", "--wait", f"{_READY:.0f}")))
        return server.host.run("piehole", *words, user=user, check=check, timeout=_READY + 60)

    @staticmethod
    def copy(folder: Path, host: Host, inside: str) -> None:
        shutil.copytree(folder, host.path(inside))

    def deliver(self, server: Server, *, founding: bool = True) -> None:
        """What the administrator copies to a server: its part of the keys, the users, the settings."""
        host = server.host
        kit = f"{KIT}/{server.site}"
        shutil.rmtree(host.path(KIT), ignore_errors=True)
        self.copy(self.folder / "pki" / server.site, host, kit)
        host.write(f"{kit}/users/alice.pub", self.laptop.key)
        host.write(f"{kit}/users/alice.password", PASSWORD + "\n")
        host.write("/etc/etcd-root", (self.folder / "pki" / "auth" / "root").read_text(), mode=0o400)
        if not founding:
            shutil.rmtree(host.path(f"{kit}/auth"), ignore_errors=True)

    def _settings(self, **etcd: str) -> str:
        lines = ['group = "project"']
        for site in SITES:
            lines += [f"[sites.{site}]", f'host = "{_name(site)}"', f'address = "{NETWORK}.{_NUMBERS[site]}"']
        lines += ["[etcd.settings]", *(f'{name} = "{value}"' for name, value in {**self.etcd_settings, **etcd}.items())]
        return "\n".join([*lines, ""])

    def mend(self) -> None:
        """Start what was stopped, and wait until all three agree."""
        for server in self.servers:
            server.host.systemctl("start", "etcd", "piehole-controller", "piehole-http", "nginx", "ssh")
        for server in self.servers:
            server.wait_ready()
        self.in_step()

    def in_step(self, timeout: float = 30.0) -> None:
        def same() -> bool:
            return len({server.refs() for server in self.servers}) == 1

        until(same, timeout, "all three servers have the same refs")

    def arrives(self, ref: str, oid: str, servers: Sequence[Server] | None = None, timeout: float = 20.0) -> None:
        arrives(self.servers if servers is None else servers, ref, oid, timeout)

    def make_keys(self, folder: Path, *options: str, source: Path | None = None) -> None:
        """Make what is missing in a folder with the keys of all servers, as the administrator does on a machine of their own."""
        if source is None:
            source = self.folder / "setup.toml"
            source.write_text(self._settings())
        words = [python(), "-m", "piehole.cli", "setup", "--from", str(source), "--keys", str(folder), *options]
        subprocess.run(words, check=True, timeout=60, cwd=CHECKOUT, stdout=subprocess.DEVNULL)


MakeBed = Callable[..., ThreeServers]
