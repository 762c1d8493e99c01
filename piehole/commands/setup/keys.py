"""`piehole setup --keys`: a certificate authority, and for each server a folder with all that it needs. Existing keys stay."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.commands.setup.machine import Machine
from piehole.commands.setup.settings import FILE, ServerSite, SetupSettings, for_site
from piehole.errors import UsageError

_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
# etcd's gateway is a client of its own member and shows the member's certificate, so that is for clients as well.
_USES: Final = {"server": "serverAuth, clientAuth", "peer": "serverAuth, clientAuth", "client": "clientAuth"}


@dataclass(frozen=True, slots=True)
class KeyMaker:
    """Makes the folder of each site below ``folder``.

    :ivar source: the file with the settings, which goes into each folder
    :ivar days: how long certificates are valid
    """

    settings: SetupSettings
    source: Path
    folder: Path
    days: int
    machine: Machine

    def run(self, tell: Callable[[str], None]) -> None:
        """Make what is missing. Files are readable only by this account.

        :raises UsageError: the settings are of one site
        :raises PieholeError: openssl or ssh-keygen failed
        """
        if self.settings.text == self.source.read_text():
            raise UsageError(
                f"{self.source} says which site it is for. Leave `site` out: --keys makes the folders of all sites."
            )
        before = os.umask(0o077)
        try:
            self._make(tell)
        finally:
            os.umask(before)

    def _make(self, tell: Callable[[str], None]) -> None:
        settings = self.settings
        self._make_authority()
        passwords = self.folder / "auth"
        for site in settings.sites:
            (self.folder / site.name).mkdir(exist_ok=True)
            shutil.copy(self._authority / "ca.pem", self.folder / site.name)
            self._make_for(site, passwords)
        everybody = "".join((self.folder / site.name / "ssh-key.pub").read_text() for site in settings.sites)
        for site in settings.sites:
            (self.folder / site.name / "peers.pub").write_text(everybody)
        first = settings.sites[0].name
        if settings.has_tls:
            self._make_password(passwords / "root")
            shutil.copytree(passwords, self.folder / first / "auth", dirs_exist_ok=True)
        secrets_of_all = " and ".join([str(self._authority), *([str(passwords)] if settings.has_tls else [])])
        tell(
            f"{secrets_of_all}: keep them safe, and on no server: whoever has the authority's key can sign what the servers trust"
        )
        for site in settings.sites:
            also = (
                ", which makes etcd's users with the passwords of all"
                if settings.has_tls and site.name == first
                else ""
            )
            tell(f"{self.folder / site.name}: for {site.host} only{also}")

    @property
    def _authority(self) -> Path:
        return self.folder / "authority"

    def _make_authority(self) -> None:
        self._authority.mkdir(parents=True, exist_ok=True)
        if not (self._authority / "ca.pem").exists():
            extensions = (
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            )
            names = ("-subj", "/O=piehole/CN=piehole authority", "-days", "3650")
            self._request(self._authority / "key.pem", self._authority / "ca.pem", "-x509", *names, *extensions)

    def _make_for(self, site: ServerSite, passwords: Path) -> None:
        folder = self.folder / site.name
        names = f"DNS:{site.host}, IP:{site.address}"
        for kind, uses in _USES.items():
            more = {"server": f"{names}, DNS:localhost, IP:127.0.0.1", "peer": names, "client": f"DNS:{site.host}"}
            self._make_certificate(folder / kind, uses, more[kind])
        if self.settings.has_tls:
            self._make_password(passwords / site.name)
            shutil.copy(passwords / site.name, folder / "etcd-password")
        if not (folder / "ssh-key").exists():
            self.machine.run(
                [
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    f"piehole@{site.host}",
                    "-f",
                    str((folder / "ssh-key").resolve()),
                ]
            )
        (folder / FILE).write_text(for_site(self.source.read_text(), site.name))
        users = self.source.parent / "users"
        if users.is_dir():
            shutil.copytree(users, folder / "users", copy_function=shutil.copyfile, dirs_exist_ok=True)

    def _make_certificate(self, base: Path, uses: str, names: str) -> None:
        """A certificate without a CN: while authentication is on, etcd's JSON gateway refuses clients whose certificate has one."""
        certificate = base.with_suffix(".pem")
        if certificate.exists():
            return
        request, extensions, new = (base.with_suffix(suffix) for suffix in (".csr", ".ext", ".new"))
        self._request(base.with_name(f"{base.name}-key.pem"), request, "-new", "-subj", "/O=piehole")
        extensions.write_text(
            f"basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = {uses}\n"
            f"subjectAltName = {names}\nauthorityKeyIdentifier = keyid\n"
        )
        signer = (
            "-CA",
            self._authority / "ca.pem",
            "-CAkey",
            self._authority / "key.pem",
            "-set_serial",
            f"0x{secrets.token_hex(16)}",
        )
        self._openssl(
            "x509",
            "-req",
            "-sha256",
            "-days",
            str(self.days),
            "-in",
            request,
            "-extfile",
            extensions,
            "-out",
            new,
            *signer,
        )
        request.unlink()
        extensions.unlink()
        new.rename(certificate)

    @staticmethod
    def _make_password(file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            file.write_text(secrets.token_hex(24) + "\n")

    def _request(self, key: Path, out: Path, *arguments: str) -> None:
        new = out.with_suffix(".part")
        self._openssl("req", *_KEY, "-keyout", key, "-out", new, *arguments)
        new.rename(out)

    def _openssl(self, *arguments: str | Path) -> None:
        self.machine.run(["openssl", *(str(one.resolve()) if isinstance(one, Path) else one for one in arguments)])
