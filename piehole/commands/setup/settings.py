"""What an administrator wants this server to be: the file that `piehole setup --from` takes, or the answers on a terminal."""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from piehole.errors import UsageError
from piehole.etcd.endpoint import Credentials, Endpoint
from piehole.group import keys
from piehole.group.config import READ_GATES

FILE: Final = "setup.toml"
PLACE: Final = Path("/etc/piehole")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_ACCOUNT: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ETCD_NAME: Final = re.compile(r"ETCD_[A-Z0-9_]+")
_CREDENTIALS: Final = ("ca", "cert", "key", "user", "password-file")


@dataclass(frozen=True, slots=True)
class ServerSite:
    """One server: its site's name, the host name that clients and other servers use, its own address."""

    name: str
    host: str
    address: str

    @property
    def in_url(self) -> str:
        """The address as a URL has it."""
        return f"[{self.address}]" if ":" in self.address else self.address


@dataclass(frozen=True, slots=True)
class SetupSettings:
    """One server of a group, as setup makes it.

    :ivar folder: has the certificates, passwords and users that were made for it
    :ivar text: the file of settings, as it is for this server
    """

    folder: Path
    text: str
    group: str
    site: ServerSite
    sites: tuple[ServerSite, ...]
    account: str = "git"
    repository: Path = Path("/srv/git/project.git")
    url: str = ""
    https: bool = True
    ssh: bool = True
    read_gate: str = "off"
    # Of an etcd that is there already; without endpoints, setup makes a member on each server.
    endpoints: tuple[str, ...] = ()
    credentials: Credentials = field(default_factory=Credentials)
    etcd_settings: tuple[tuple[str, str], ...] = ()

    @property
    def others(self) -> tuple[ServerSite, ...]:
        return tuple(one for one in self.sites if one != self.site)

    @property
    def is_first(self) -> bool:
        """Whether this server does the steps that one server does for all."""
        return self.site == self.sites[0]

    @property
    def makes_etcd(self) -> bool:
        return not self.endpoints

    @property
    def has_tls(self) -> bool:
        """Whether the etcd that setup makes has certificates and passwords: an etcd of one server stays on loopback."""
        return self.makes_etcd and len(self.sites) > 1

    def all_endpoints(self) -> tuple[str, ...]:
        """This server's own member first: as long as it works, no other need be asked."""
        if self.endpoints:
            return self.endpoints
        if not self.has_tls:
            return ("http://127.0.0.1:2379",)
        return tuple(f"https://{one.host}:2379" for one in (self.site, *self.others))

    def all_credentials(self) -> Credentials:
        if not self.has_tls:
            return self.credentials
        names = {name: str(PLACE / f"{file}") for name, file in _OWN_CREDENTIALS.items()}
        return Credentials(**names, user=self.site.name)


_OWN_CREDENTIALS: Final = {
    "ca": "ca.pem",
    "cert": "client.pem",
    "key": "client-key.pem",
    "password_file": "etcd-password",
}


def file_of(source: Path) -> Path:
    return source / FILE if source.is_dir() else source


def load(source: Path, site: str = "", *, for_all: bool = False) -> SetupSettings:
    """Read the file, or the file setup.toml of a folder.

    :param site: which of its sites this server is; else the file says so, or this machine's name does
    :param for_all: the first one, where nobody says which
    :raises UsageError: it cannot be read, or says something that makes no sense
    """
    file = file_of(source)
    try:
        text = file.read_text()
        found = tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"there is no file {file}. `piehole setup --help` shows what it holds.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not TOML: {error}") from error
    if for_all and not site and isinstance(found.get("sites"), dict) and found["sites"]:
        site = next(iter(found["sites"]))
    named = "site" in found
    read = SettingsReader(str(file), text, found).settings(file.parent.resolve(), site)
    return read if named else replace(read, text=for_site(text, read.site.name))


def for_site(text: str, site: str) -> str:
    """The file of settings that names none of its sites, for one of them."""
    return f'site = "{site}"\n{text}'


class SettingsReader:
    """Takes each setting out of the file with its check; what is left over was misspelt."""

    def __init__(self, file: str, text: str, found: dict[str, Any]) -> None:
        self._file = file
        self._text_of_file = text
        self._found = found

    def settings(self, folder: Path, site: str) -> SetupSettings:
        """
        :raises UsageError: a setting is missing, of the wrong kind, unknown, or makes no sense
        """
        in_file = self._text(self._found, "site", "")
        named = site or in_file
        group = keys.check_group(self._text(self._found, "group"))
        sites = tuple(self._sites(self._table(self._found, "sites")))
        here = self._here(sites, named)
        repository = self._path("repository", f"/srv/git/{group}.git")
        etcd = self._table(self._found, "etcd")
        endpoints = tuple(str(Endpoint.parse(one)) for one in self._texts(etcd, "endpoints"))
        account = self._text(self._found, "account", "git")
        if not _ACCOUNT.fullmatch(account) or account == "root":
            raise self._wrong(f"account is {account!r}: it must be an ordinary account's name, such as git")
        https = self._flag("https", len(sites) > 1)
        ssh = self._flag("ssh", True)
        url = f"https://{here.host}/{repository.name}" if https else f"ssh://{account}@{here.host}{repository}"
        gate = self._text(self._found, "read-gate", "off")
        if gate not in READ_GATES:
            raise self._wrong(f"read-gate is {gate!r}: it must be one of {', '.join(READ_GATES)}")
        read = SetupSettings(
            folder=folder,
            text=self._text_of_file,
            group=group,
            site=here,
            sites=sites,
            account=account,
            repository=repository,
            url=self._text(self._found, "url", url),
            https=https,
            ssh=ssh,
            read_gate=gate,
            endpoints=endpoints,
            credentials=self._credentials(etcd, bool(endpoints)),
            etcd_settings=tuple(self._etcd_settings(self._table(etcd, "settings"))),
        )
        self._refuse_rest(etcd, "[etcd] ")
        self._refuse_rest(self._found, "")
        if endpoints and read.etcd_settings:
            raise self._wrong(
                "[etcd] has endpoints, so setup makes no member that could have settings: leave out one of the two"
            )
        return read

    def _sites(self, table: dict[str, Any]) -> Iterable[ServerSite]:
        if not table:
            raise self._wrong("no site is named: write [sites.NAME] with host and address for each server")
        places: dict[str, str] = {}
        for name, fields in table.items():
            if not isinstance(fields, dict):
                raise self._wrong(f"sites.{name} must be a table with host and address")
            keys.check_site(name)
            host, address = (self._text(fields, one, where=f"sites.{name}.") for one in ("host", "address"))
            self._refuse_rest(fields, f"sites.{name}.")
            if not _HOST.fullmatch(host):
                raise self._wrong(f"sites.{name}.host is {host!r}: it must be a host name, such as {name}.example.org")
            try:
                ip_address(address)
            except ValueError:
                raise self._wrong(
                    f"sites.{name}.address is {address!r}: it must be an IP address, such as 192.0.2.11"
                ) from None
            for place in (host, address):
                if place in places:
                    raise self._wrong(f"the sites {places[place]} and {name} have the same host or address, {place}")
                places[place] = name
            yield ServerSite(name, host, address)

    def _here(self, sites: tuple[ServerSite, ...], named: str) -> ServerSite:
        name = socket.gethostname()
        names = {name, socket.getfqdn(name)} if not named and len(sites) > 1 else set()
        for one in sites:
            if one.name == named or (not named and (one.host in names or len(sites) == 1)):
                return one
        known = ", ".join(one.name for one in sites)
        if named:
            raise self._wrong(f"there is no site {named!r}; the sites are {known}")
        raise UsageError(f"which site is this server, {name}? Give --site, one of {known}.")

    def _credentials(self, etcd: dict[str, Any], existing: bool) -> Credentials:
        found = {name: self._text(etcd, name, "") for name in _CREDENTIALS}
        given = [name for name, value in found.items() if value]
        if given and not existing:
            raise self._wrong(f"[etcd] has {given[0]} but no endpoints: setup makes an etcd with its own certificates")
        for name in given:
            if name != "user" and not found[name].startswith("/"):
                raise self._wrong(f"[etcd] {name} is {found[name]!r}: it must be a path that begins with /")
        try:
            return Credentials(**{name.replace("-", "_"): found[name] or None for name in _CREDENTIALS})
        except UsageError:
            raise self._wrong("[etcd] cert and key belong together, and so do user and password-file") from None

    def _etcd_settings(self, table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        for name, value in table.items():
            if not _ETCD_NAME.fullmatch(name) or not isinstance(value, str | int) or "\n" in str(value):
                raise self._wrong(
                    f"[etcd.settings] {name} = {value!r}: it must be a variable of etcd, such as ETCD_HEARTBEAT_INTERVAL = 300"
                )
            yield name, str(value)

    # ---- one value each

    def _text(self, table: dict[str, Any], name: str, default: str | None = None, where: str = "") -> str:
        value = table.pop(name, default)
        if value is None:
            raise self._wrong(f"{where}{name} is missing")
        if not isinstance(value, str) or (not value and default is None) or re.search(r"[\x00-\x1f\x7f]", value):
            raise self._wrong(f"{where}{name} is {value!r}: it must be text of one line")
        return value

    def _texts(self, table: dict[str, Any], name: str) -> list[str]:
        value = table.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(f"{name} is {value!r}: it must be a list of texts")
        return value

    def _flag(self, name: str, default: bool) -> bool:
        value = self._found.pop(name, default)
        if not isinstance(value, bool):
            raise self._wrong(f"{name} is {value!r}: it must be true or false")
        return value

    def _path(self, name: str, default: str) -> Path:
        text = self._text(self._found, name, default)
        if not re.fullmatch(r"(/[A-Za-z0-9@_+][A-Za-z0-9@_.+-]*){2,}", text):
            raise self._wrong(f"{name} is {text!r}: it must be a path such as {default}, of letters, digits and @_.+-")
        return Path(text)

    def _table(self, table: dict[str, Any], name: str) -> dict[str, Any]:
        value = table.pop(name, {})
        if not isinstance(value, dict):
            raise self._wrong(f"{name} is {value!r}: it must be a table")
        return value

    def _refuse_rest(self, table: dict[str, Any], where: str) -> None:
        for name in table:
            raise self._wrong(f"there is no setting {where}{name}; `piehole setup --help` lists them")

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self._file}: {what}.")
