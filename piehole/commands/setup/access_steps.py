"""The steps of setup for those who fetch and push: users and the other sites, over https and ssh."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.commands.setup.facts import Facts
from piehole.commands.setup.file_parts import BlockIs, FileIs, FileThere, unit_file
from piehole.commands.setup.machine import Machine
from piehole.commands.setup.parts import CommandDone, Part, ServiceRuns, SetupStep, answers
from piehole.commands.setup.settings import PLACE, SetupSettings

_GATE: Final = Path("/usr/local/lib/piehole")


class AccessPlanner:
    """Plans the web server and sshd of one server."""

    def __init__(self, settings: SetupSettings, facts: Facts, home: Path, adapted: Callable[[str], str]) -> None:
        self._settings = settings
        self._facts = facts
        self._deploy = facts.deploy
        self._users = facts.users
        self._home = home
        self._adapted = adapted

    def steps(self) -> Iterator[SetupStep]:
        if self._settings.read_gate != "off":
            yield self._gate()
        if self._settings.https:
            yield self._https()
        if self._settings.ssh:
            yield self._ssh()
        if self._settings.others and not self._settings.https:
            yield self._peers()

    def _gate(self) -> SetupStep:
        gate, ssh = self._deploy["read-gate.pl"].encode(), self._deploy["ssh-git.sh"].encode()
        files = tuple(FileIs(_GATE / name, gate, 0o755) for name in ("upload-pack", "http-backend"))
        why = "A fetch waits until this site has what the group agreed on (piehole.readGate)"
        return SetupStep("read gate", why, (*files, FileIs(_GATE / "ssh-git.sh", ssh)))

    def _https(self) -> SetupStep:
        settings = self._settings
        address = settings.site.in_url
        nginx = self._adapted("nginx.conf").replace("@HOST@", settings.site.host).replace("@ADDRESS@", address)
        if settings.read_gate != "off":
            nginx = nginx.replace("/usr/lib/git-core/git-http-backend", str(_GATE / "http-backend"))
        parts: list[Part] = []
        for kind in ("socket", "service"):
            name = f"piehole-http.{kind}"
            parts.append(unit_file(name, self._adapted(name), restarts="piehole-http.socket"))
        parts.append(ServiceRuns("piehole-http.socket", "", "run fcgiwrap as the account on /run/piehole-http.sock"))
        if self._users is not None:
            passwords = {
                name.removesuffix(".password"): text for name, text in self._users.items() if name.endswith(".password")
            }
            parts.append(PasswordsAre(PLACE / "htpasswd", passwords))
        parts += [
            FileIs(Path("/etc/nginx/conf.d/piehole.conf"), nginx.encode(), restarts=("nginx",)),
            ServiceRuns("nginx", f"{address}:443", "nginx", verb="reload-or-restart", test=("nginx", "-t")),
        ]
        why = "Users log in with a name and a password; the other sites show a certificate, and may only fetch"
        return SetupStep("https", why, tuple(parts))

    def _ssh(self) -> SetupStep:
        settings = self._settings
        parts: list[Part] = [
            FileIs(Path("/etc/ssh/sshd_config.d/piehole.conf"), self._adapted("sshd.conf").encode(), restarts=("ssh",))
        ]
        if self._users is not None:
            command = (
                'git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"' if settings.read_gate == "off" else f"sh {_GATE}/ssh-git.sh"
            )
            keys = tuple(
                f'restrict,command="GL_USER={name.removesuffix(".pub")} {command}" {line}'
                for name, text in sorted(self._users.items())
                if name.endswith(".pub")
                for line in text.strip().splitlines()
            )
            owner = f"{settings.account}:{settings.account}"
            parts.append(BlockIs(self._home / ".ssh/authorized_keys", keys, 0o600, owner, "users"))
        parts += [
            CommandDone(
                "sshd has no host keys",
                ("ssh-keygen", "-q", "-A"),
                lambda _: any(Path("/etc/ssh").glob("ssh_host_*_key")),
            ),
            ServiceRuns("ssh", f"{settings.site.in_url}:22", "sshd", verb="reload-or-restart"),
        ]
        why = "One account for all users, with a key for each, which allows nothing but Git; `piehole log` shows the key's name"
        return SetupStep("ssh", why, tuple(parts))

    def _peers(self) -> SetupStep:
        """The sites fetch from each other over ssh."""
        settings, made, ssh = self._settings, self._facts.made, self._home / ".ssh"
        owner = f"{settings.account}:{settings.account}"
        key = ssh / "piehole"
        parts: list[Part] = [FileIs(_GATE / "ssh-upload-pack.sh", self._deploy["ssh-upload-pack.sh"].encode())]
        if "ssh-key" in made:
            parts.append(FileIs(key, made["ssh-key"], 0o600, owner, secret=True))
            peers = made["peers.pub"].decode().splitlines()
            own = f"piehole@{settings.site.host}"
            command = f"sh {_GATE}/ssh-upload-pack.sh {settings.repository}"
            keys = tuple(f'restrict,command="{command}" {line}' for line in peers if line.split()[-1] != own)
            parts.append(BlockIs(ssh / "authorized_keys", keys, 0o600, owner, "the other sites"))
        else:
            parts.append(
                FileThere(
                    key, 0o600, owner, f"`piehole setup --keys` makes it in the folder {settings.site.name}, as ssh-key"
                )
            )
        others = " ".join(one.host for one in settings.others)
        lines = (f"Host {others}", f"\tIdentityFile {key}", "\tStrictHostKeyChecking accept-new")
        parts.append(BlockIs(ssh / "config", lines, 0o600, owner, "the other sites"))
        return SetupStep(
            "peers", "The other sites fetch over ssh, each with a key of its own that allows nothing else", tuple(parts)
        )


@dataclass(frozen=True, slots=True)
class PasswordsAre:
    """The web server knows exactly these users. Passwords are salted, so each is tried with the salt that is there."""

    path: Path
    users: Mapping[str, str]

    def lacking(self, machine: Machine) -> str:
        found = machine.read(self.path)
        if found is None:
            return f"{self.path} does not exist"
        known = dict(line.split(":", 1) for line in found.decode(errors="replace").splitlines() if ":" in line)
        if known.keys() != self.users.keys():
            return f"{self.path} has other users: {', '.join(sorted(known.keys() ^ self.users.keys()))}"
        for name, password in self.users.items():
            salt = [*known[name].split("$"), "", "", ""][2]
            if self._salted(machine, password, salt) != known[name]:
                return f"{self.path} has another password for {name}"
        return ""

    def shown(self) -> str:
        return f"write it with the users {', '.join(self.users) or 'of nobody'} (`openssl passwd -apr1`)"

    def do(self, machine: Machine) -> None:
        lines = (f"{name}:{self._salted(machine, password)}\n" for name, password in self.users.items())
        machine.write(self.path, "".join(lines).encode(), 0o640, "root:www-data")

    @staticmethod
    def _salted(machine: Machine, password: str, salt: str = "") -> str:
        chosen = ["-salt", salt] if salt else []
        line = password.splitlines()[0] + "\n"
        return machine.run(["openssl", "passwd", "-apr1", *chosen, "-stdin"], stdin=line).stdout.strip()


def closed_ports(settings: SetupSettings) -> list[str]:
    """What nobody answers at, on the other servers; a firewall may be the reason."""
    ports = [2379, 2380] * settings.has_tls + [443 if settings.https else 22]
    closed = [f"{one.host}:{port}" for one in settings.others for port in ports if not answers(f"{one.host}:{port}")]
    if not closed:
        return []
    rules = []
    for family, is_six in (("ip", False), ("ip6", True)):
        if addresses := ", ".join(one.address for one in settings.sites if (":" in one.address) == is_six):
            allowed = f"{family} saddr '{{ {addresses} }}' tcp dport '{{ {', '.join(map(str, ports))} }}' accept"
            rules.append(f"`nft add rule inet filter input {allowed}`")
    return [
        f"Nobody answers at {', '.join(closed)}. Has `piehole setup` been started there, and does that server's firewall let "
        f"{settings.site.address} in? With nftables: {', '.join(rules)}"
    ]
