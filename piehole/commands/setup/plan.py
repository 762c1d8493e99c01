"""The steps that make a server a site. Pure: from settings, and what was found on the machine, to data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from piehole.commands.setup import access_steps, etcd_parts
from piehole.commands.setup.facts import Facts
from piehole.commands.setup.file_parts import FileIs, FileThere, unit_file
from piehole.commands.setup.machine import Machine
from piehole.commands.setup.parts import (
    CommandDone,
    GitSettingIs,
    Part,
    ProgramsAreThere,
    ServiceRuns,
    SetupStep,
    WaitUntil,
)
from piehole.commands.setup.settings import FILE, PLACE, SetupSettings
from piehole.errors import UsageError


def plan(settings: SetupSettings, facts: Facts, patience: float) -> list[SetupStep]:
    """
    :raises UsageError: the account that is wanted is not setup's to make, and is not there
    """
    return list(Planner(settings, facts, patience).steps())


class Planner:
    """Plans for one server."""

    def __init__(self, settings: SetupSettings, facts: Facts, patience: float) -> None:
        self._settings = settings
        self._facts = facts
        self._patience = patience
        if facts.home is None and settings.account != "git":
            raise UsageError(
                f"there is no account {settings.account!r} on this server. Make it (useradd --system --create-home {settings.account}), "
                "or leave out `account`: setup makes an account named git."
            )
        self._home = facts.home or Path("/home/git")

    def steps(self) -> Iterator[SetupStep]:
        """What waits for other servers comes last."""
        settings = self._settings
        yield self._programs()
        yield self._accounts()
        yield self._keys()
        if settings.makes_etcd:
            yield self._etcd()
        access = access_steps.AccessPlanner(settings, self._facts, self._home, self.adapted)
        yield from access.steps()
        yield self._git_settings()
        yield self._majority()
        if settings.has_tls:
            yield self._etcd_users()
        yield self._repository()
        yield self._controller()
        yield self._sound()

    def _programs(self) -> SetupStep:
        settings = self._settings
        needed = [("git", "git"), ("setpriv", "util-linux"), ("perl", "perl")]
        if settings.makes_etcd:
            needed += [("etcd", "etcd-server"), ("etcdctl", "etcd-client")]
        if settings.ssh:
            needed += [("sshd", "openssh-server")]
        if settings.https:
            needed += [("nginx", "nginx-light"), ("fcgiwrap", "fcgiwrap"), ("openssl", "openssl")]
        return SetupStep(
            "programs", "What this server needs, from its distribution", (ProgramsAreThere(tuple(needed)),)
        )

    def _accounts(self) -> SetupStep:
        settings, deploy = self._settings, self._facts.deploy
        account, root = settings.account, settings.repository.parent
        wanted = [account] * (account == "git") + ["etcd"] * settings.makes_etcd
        accounts = "".join(
            line
            for line in deploy["sysusers.conf"].splitlines(keepends=True)
            if line[0] == "#" or line.split()[1] in wanted
        )
        folders = deploy["tmpfiles.conf"].replace("/srv/git", str(root)).replace("/home/git", str(self._home))
        folders = re.sub(r"(:?)git +(:?)git$", rf"\1{account} \2{account}", folders, flags=re.MULTILINE)
        if account != "git":  # its home and what is in there is not setup's
            folders = "".join(line for line in folders.splitlines(keepends=True) if f" {self._home}" not in line)

        def are_there(machine: Machine) -> bool:
            return all(machine.account(name) is not None for name in wanted)

        def takes_keys(machine: Machine) -> bool:
            found = machine.account(account)
            return found is None or not machine.is_locked(account)

        made: list[Part] = [
            FileIs(
                Path("/etc/sysusers.d/piehole.conf"),
                accounts.encode(),
                packaged=Path("/usr/lib/sysusers.d/piehole.conf"),
            )
        ]
        made += [
            CommandDone(f"there is no account {' or '.join(wanted)}", ("systemd-sysusers", "piehole.conf"), are_there)
        ]
        made += [
            FileIs(
                Path("/etc/tmpfiles.d/piehole.conf"),
                folders.encode(),
                packaged=Path("/usr/lib/tmpfiles.d/piehole.conf"),
            )
        ]
        made += [
            CommandDone(
                f"the folder {root} or {PLACE} is missing",
                ("systemd-tmpfiles", "--create", "piehole.conf"),
                lambda _: all(one.is_dir() for one in (root, PLACE, self._home)),
            )
        ]
        if account == "git":
            # No password fits "*". A locked account ("!") could take no ssh key, either.
            made.append(CommandDone("the account git is locked", ("usermod", "--password", "*", "git"), takes_keys))
        who = f"The account {account} owns the repositories, receives pushes and runs the controller"
        return SetupStep("accounts", f"{who}; etcd has one of its own" if settings.makes_etcd else who, tuple(made))

    def _keys(self) -> SetupStep:
        settings, made = self._settings, self._facts.made
        parts: list[Part] = [FileIs(PLACE / FILE, self._facts.settings.encode())]
        server = "etcd" if settings.has_tls else "root"
        owners: dict[str, str] = {}
        if settings.has_tls or settings.https:
            owners |= {"ca.pem": "", "server.pem": server, "server-key.pem": server}
            owners |= dict.fromkeys(("client.pem", "client-key.pem"), settings.account)
        if settings.has_tls:
            owners |= {"peer.pem": "etcd", "peer-key.pem": "etcd", "etcd-password": settings.account}
        for name, owner in owners.items():
            mode, whose = (0o400, f"{owner}:{owner}") if owner else (0o644, "root:root")
            if name in made:
                readers = {"ca.pem": ("etcd", "nginx"), "server.pem": ("nginx",)}.get(name, ())
                restarts = tuple(one for one in readers if settings.https or one == "etcd")
                parts.append(FileIs(PLACE / name, made[name], mode, whose, restarts, secret=bool(owner)))
            else:
                parts.append(
                    FileThere(
                        PLACE / name, mode, whose, f"`piehole setup --keys` makes it in the folder {settings.site.name}"
                    )
                )
        why = "The settings, for the next run; certificates and passwords, each readable only by the account that needs it"
        return SetupStep("keys", why, tuple(parts))

    def _etcd(self) -> SetupStep:
        here = self._settings.site
        address = here.in_url
        parts: tuple[Part, ...] = (
            FileIs(Path("/etc/default/etcd"), self._etcd_environment(address).encode(), restarts=("etcd",)),
            unit_file("etcd.service", self._facts.deploy["etcd.service"], restarts="etcd"),
            ServiceRuns(
                "etcd",
                f"{address}:2379" if self._settings.has_tls else "127.0.0.1:2379",
                "run `etcd` as the account etcd with the variables in /etc/default/etcd",
                blocks=False,
            ),
        )
        return SetupStep("etcd", "A member of etcd, in which the sites agree on their refs", parts)

    def _etcd_environment(self, address: str) -> str:
        settings, here = self._settings, self._settings.site
        lines = {"ETCD_NAME": here.name}
        if settings.has_tls:
            lines |= {
                "ETCD_LISTEN_CLIENT_URLS": f"https://{address}:2379,https://127.0.0.1:2379",
                "ETCD_ADVERTISE_CLIENT_URLS": f"https://{here.host}:2379",
                "ETCD_LISTEN_PEER_URLS": f"https://{address}:2380",
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"https://{here.host}:2380",
                "ETCD_INITIAL_CLUSTER": ",".join(f"{one.name}=https://{one.host}:2380" for one in settings.sites),
                "ETCD_INITIAL_CLUSTER_TOKEN": f"piehole-{settings.group}",
            }
            for kind, file in (("", "server"), ("PEER_", "peer")):
                lines |= {
                    f"ETCD_{kind}CERT_FILE": f"{PLACE}/{file}.pem",
                    f"ETCD_{kind}KEY_FILE": f"{PLACE}/{file}-key.pem",
                    f"ETCD_{kind}TRUSTED_CA_FILE": f"{PLACE}/ca.pem",
                    f"ETCD_{kind}CLIENT_CERT_AUTH": "true",
                }
        else:
            lines |= {"ETCD_INITIAL_CLUSTER": f"{here.name}=http://127.0.0.1:2380"}
        lines |= dict(settings.etcd_settings)
        own = "".join(f"{name}={value}\n" for name, value in lines.items())
        return f"{self._facts.deploy['etcd.env']}\n# --- This server (the last word counts)\n{own}"

    def _git_settings(self) -> SetupStep:
        settings = self._settings
        own = settings.all_credentials()
        wanted = {
            "piehole.site": settings.site.name,
            "piehole.root": str(settings.repository.parent),
            "piehole.etcd": ",".join(settings.all_endpoints()),
            "piehole.etcdCA": own.ca,
            "piehole.etcdCert": own.cert,
            "piehole.etcdKey": own.key,
            "piehole.etcdUser": own.user,
            "piehole.etcdPasswordFile": own.password_file,
            "piehole.readGate": settings.read_gate if settings.read_gate != "off" else None,
        }
        parts = [GitSettingIs(name, value) for name, value in wanted.items() if value]
        parts.append(GitSettingIs("safe.directory", str(settings.repository), among=True))
        if settings.https:
            for name, file in (("sslCAInfo", "ca.pem"), ("sslCert", "client.pem"), ("sslKey", "client-key.pem")):
                parts.append(GitSettingIs(f"http.{name}", f"{PLACE}/{file}", settings.account))
        return SetupStep(
            "settings", "Where etcd is, and which certificate this server shows, for all its repositories", tuple(parts)
        )

    def _majority(self) -> SetupStep:
        settings = self._settings
        what = "etcd answers" if len(settings.sites) == 1 else "etcd answers, which needs a majority of its members"
        return SetupStep(
            "majority",
            "Nothing can be agreed on before that: start setup on the other servers, too",
            (WaitUntil(what, lambda _: etcd_parts.no_majority(settings), self._patience, self._unreachable),),
        )

    def _unreachable(self) -> list[str]:
        return access_steps.closed_ports(self._settings)

    def _etcd_users(self) -> SetupStep:
        settings = self._settings
        parts: list[Part] = []
        if settings.is_first:
            parts.append(etcd_parts.EtcdUsersMade(settings, self._facts.deploy_folder / "etcd-auth.sh"))
        if settings.makes_etcd:
            parts.append(etcd_parts.tokens_taken(settings))
        what = f"etcd knows the user {settings.site.name} and asks for passwords"
        parts.append(WaitUntil(what, lambda _: etcd_parts.no_users(settings), self._patience))
        return SetupStep(
            "etcd users", "Each site has a user of etcd; whoever has none can read and write nothing", tuple(parts)
        )

    def _repository(self) -> SetupStep:
        settings, repository = self._settings, self._settings.repository
        init = ("git", "init", "--quiet", "--bare", "--shared=group", "--initial-branch=main", str(repository))
        parts: list[Part] = [
            CommandDone(
                f"there is no repository {repository}",
                init,
                lambda _: all((repository / name).exists() for name in ("HEAD", "config", "objects", "refs")),
                settings.account,
            )
        ]
        if not settings.is_first:
            parts.append(
                WaitUntil(
                    f"the group {settings.group} is founded", lambda _: etcd_parts.no_group(settings), self._patience
                )
            )
        parts.append(etcd_parts.SiteInstalled(settings, self._facts.program))
        return SetupStep("repository", f"A site of the group {settings.group}; the first site founds it", tuple(parts))

    def _controller(self) -> SetupStep:
        settings, name = self._settings, "piehole-controller.service"
        root = settings.repository.parent
        runs = ServiceRuns(
            "piehole-controller",
            f"{settings.repository}/piehole/controller",
            f"run `{self._facts.program} controller --root {root}` as the account {settings.account}",
        )
        parts: list[Part] = [runs]
        if name not in self._facts.packaged or (settings.account, str(root)) != ("git", "/srv/git"):
            parts.insert(0, unit_file(name, self.adapted(name), restarts=runs.unit))
        return SetupStep("controller", "The daemon that replicates the repositories of this server", tuple(parts))

    def _sound(self) -> SetupStep:
        settings, program = self._settings, self._facts.program

        def faults(machine: Machine) -> str:
            done = machine.run([program, "check", str(settings.repository)], user=settings.account, check=False)
            return "" if done.returncode == 0 else (done.stdout.strip() or done.stderr.strip())

        wait = WaitUntil("piehole check finds no fault", faults, self._patience, self._unreachable)
        return SetupStep(
            "check",
            "Hooks, settings, owners, every endpoint of etcd and every other site are as they should be",
            (wait,),
        )

    def adapted(self, name: str) -> str:
        """A file for servers, with the account, the folders and the programs of this one."""
        settings = self._settings
        text = re.sub(r"/usr/(local/)?bin/piehole\b(?!-)", self._facts.program, self._facts.deploy[name])
        text = text.replace("/srv/git", str(settings.repository.parent)).replace("/home/git", str(self._home))
        for line in ("User={}\n", "Group={}\n", "Match User {}\n"):
            text = text.replace(line.format("git"), line.format(settings.account))
        return text
