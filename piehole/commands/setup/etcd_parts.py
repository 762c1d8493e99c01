"""The parts of setup that ask etcd, or change what it holds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from piehole.commands.setup.machine import CannotSee, Machine
from piehole.commands.setup.parts import CommandDone, shown_command
from piehole.commands.setup.settings import SetupSettings
from piehole.deadline import Deadline
from piehole.errors import EtcdError, EtcdRefused, NoAccess
from piehole.etcd.client import Etcd
from piehole.etcd.endpoint import Credentials
from piehole.etcd.json_gateway import NO_TOKENS
from piehole.group import keys
from piehole.group.records import GroupRecord, SiteRecord
from piehole.repository.git_settings import GitConfig

_ANSWER = 5.0  # seconds
T = TypeVar("T")


def ask(
    settings: SetupSettings,
    question: Callable[[Etcd], T],
    credentials: Credentials | None = None,
    endpoints: Sequence[str] = (),
) -> T:
    """
    :raises CannotSee: this account may not read the password or the certificate
    :raises EtcdError: there is no answer, or it is no
    """
    etcd = Etcd(endpoints or settings.all_endpoints(), credentials or settings.all_credentials())
    try:
        return question(etcd)
    except NoAccess as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise EtcdError(str(error)) from error
        raise CannotSee(str(error)) from error
    finally:
        etcd.close()


def _read(etcd: Etcd) -> object:
    return etcd.range(b"/piehole/", deadline=Deadline(_ANSWER))


def no_majority(settings: SetupSettings) -> str:
    """Why etcd gives no linearizable read; ``""`` where it does."""
    try:
        ask(settings, _read)
    except EtcdRefused:
        return ""  # by name and password, which come next: it has a majority
    except EtcdError as error:
        return str(error)
    return ""


def tokens_taken(settings: SetupSettings) -> CommandDone:
    """This server's member takes the tokens that it gives: one that came back by a snapshot may not, until it is restarted."""

    def are_taken(_: Machine) -> bool:
        try:
            ask(settings, _read, endpoints=settings.all_endpoints()[:1])
        except EtcdError as error:
            return NO_TOKENS not in str(error)
        return True

    what = "the member of etcd here refuses the tokens that it gives"
    return CommandDone(what, ("systemctl", "restart", "etcd"), are_taken)


def no_users(settings: SetupSettings) -> str:
    """Why this site's user cannot read, or everybody can; ``""`` where etcd is as it should be."""
    try:
        ask(settings, _read)
    except EtcdError as error:
        return str(error)
    try:
        ask(settings, _read, replace(settings.all_credentials(), user=None, password_file=None))
    except EtcdRefused:
        return ""
    except EtcdError as error:
        return str(error)
    return f"etcd asks for no passwords yet ({settings.sites[0].name} makes its users)"


def no_group(settings: SetupSettings) -> str:
    """Why there is no group to join yet; ``""`` where there is one."""
    try:
        found = ask(
            settings, lambda etcd: etcd.range(keys.Keyspace().group(settings.group), deadline=Deadline(_ANSWER))
        )
    except EtcdError as error:
        return str(error)
    return "" if found.kvs else f"etcd knows no group {settings.group} ({settings.sites[0].name} founds it)"


@dataclass(frozen=True, slots=True)
class EtcdUsersMade:
    """etcd has a user for each site and asks for passwords; the folder with the passwords of all is gone from this server."""

    settings: SetupSettings
    script: Path

    def lacking(self, machine: Machine) -> str:  # noqa: ARG002 - what it looks at is no part of the machine
        if self._passwords.is_dir():
            return f"{self._passwords} has the passwords of all sites, for making etcd's users"
        return no_users(self.settings)

    def shown(self) -> str:
        return f"{shown_command(['sh', str(self.script), 'SITES', str(self._passwords)])}; rm -r {self._passwords}"

    def do(self, machine: Machine) -> None:
        if not self._passwords.is_dir():
            return  # they were made before: what is wrong with them is told by the wait that follows
        own = self.settings.all_credentials()
        env = {
            "ETCDCTL_ENDPOINTS": self.settings.all_endpoints()[0],
            "ETCDCTL_CACERT": own.ca or "",
            "ETCDCTL_CERT": own.cert or "",
            "ETCDCTL_KEY": own.key or "",
        }
        with tempfile.NamedTemporaryFile("w", prefix="piehole-sites-") as sites:
            sites.write("".join(f"{one.name} {one.host} {one.address}\n" for one in self.settings.sites))
            sites.flush()
            machine.run(["sh", str(self.script), sites.name, str(self._passwords)], env=env)
        shutil.rmtree(self._passwords)

    @property
    def _passwords(self) -> Path:
        return self.settings.folder / "auth"


@dataclass(frozen=True, slots=True)
class SiteInstalled:
    """The repository is a site of the group: its settings, its records in etcd, its refs."""

    settings: SetupSettings
    program: str

    def lacking(self, machine: Machine) -> str:  # noqa: ARG002 - what it looks at is no part of the machine
        wanted = self.settings
        if not (wanted.repository / "HEAD").exists():
            return f"{wanted.repository} is no repository yet"
        found = GitConfig(wanted.repository)
        for name, value in (("group", wanted.group), ("site", wanted.site.name), ("url", wanted.url)):
            if found.local(f"piehole.{name}") != value:
                return f"{wanted.repository} is not the site {wanted.site.name} of the group {wanted.group} (piehole.{name})"
        keyspace = keys.Keyspace()
        try:
            group, site, progress = (
                ask(wanted, lambda etcd, key=key: etcd.range(key, deadline=Deadline(_ANSWER))).kvs  # type: ignore[misc]
                for key in (
                    keyspace.group(wanted.group),
                    keyspace.site(wanted.group, wanted.site.name),
                    keyspace.progress(wanted.group, wanted.site.name),
                )
            )
        except EtcdError as error:
            return f"nobody knows whether {wanted.repository} is a site: {error}"
        adopting = bool(group) and GroupRecord.parse(group[0].value).extra.get("adopting") == wanted.site.name
        if adopting or not (group and site and progress):
            return f"etcd does not have all records of the site {wanted.site.name}"
        record = SiteRecord.parse(site[0].value)
        if record.id != found.local("piehole.siteid") or record.url != wanted.url or record.left:
            return f"etcd's record of the site {wanted.site.name} is not that of {wanted.repository}"
        return ""

    def shown(self) -> str:
        return shown_command(self._command, self.settings.account)

    def do(self, machine: Machine) -> None:
        machine.tell(machine.run(self._command, user=self.settings.account).stdout)

    @property
    def _command(self) -> list[str]:
        wanted = self.settings
        named = ["--group", wanted.group, "--site", wanted.site.name, "--url", wanted.url]
        return [self.program, "install", str(wanted.repository), *named]
