"""What `piehole setup` asks on a terminal when no file says what this server shall be, and the file that the answers make."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from piehole.cli.printing import tell

_CREDENTIALS: Final = (
    ("ca", "The file with the certificates that sign etcd's (empty: none)"),
    ("cert", "The file with this server's certificate for etcd (empty: none)"),
    ("key", "The file with its key (empty: none)"),
    ("user", "The user of etcd (empty: none)"),
    ("password-file", "The file with that user's password (empty: none)"),
)


class Questions:
    """Asks what cannot be guessed, and offers what can."""

    def __init__(self, read: Callable[[str], str] = input) -> None:
        self._read = read

    def text(self) -> str:
        """The file of settings, without the name of this site."""
        name = socket.gethostname()
        group = self._ask("Name of the group", "project")
        site = self._ask("Name of this server's site", name.partition(".")[0])
        lines = [f"group = {json.dumps(group)}"]
        account = self._ask("Account that owns the repositories", "git")
        repository = self._ask("The repository", f"/srv/git/{group}.git")
        tables = self._site(site, socket.getfqdn(name))
        while other := self._ask("Name of another site (empty: no more)", ""):
            domain = tables[1].partition(".")[2].strip('"')
            tables += self._site(other, f"{other}.{domain}" if domain else "")
        several = tables.count("") > 1
        https = several and self._ask("Do users come over https, too (nginx)? yes or no", "yes")[:1].lower() == "y"
        lines += [
            f"account = {json.dumps(account)}",
            f"repository = {json.dumps(repository)}",
            f"https = {json.dumps(https)}",
        ]
        return "\n".join(
            [
                "# Made by `piehole setup`. `piehole setup --help` says what each means.",
                *lines,
                "",
                *tables,
                *self._etcd(),
            ]
        )

    def _site(self, name: str, host: str) -> list[str]:
        host = self._ask(f"Host name of {name}, as users and other servers write it", host)
        address = self._ask(f"Address of {name}", _address(host))
        return [f"[sites.{name}]", f"host = {json.dumps(host)}", f"address = {json.dumps(address)}", ""]

    def _etcd(self) -> list[str]:
        found = self._ask(
            "Endpoints of an etcd that is there already, with commas (empty: each server gets a member)", ""
        )
        endpoints = [one.strip() for one in found.split(",") if one.strip()]
        if not endpoints:
            return []
        given = [(name, self._ask(question, "")) for name, question in _CREDENTIALS]
        lines = [f"{name} = {json.dumps(value)}" for name, value in given if value]
        return ["[etcd]", f"endpoints = {json.dumps(endpoints)}", *lines, ""]

    def _ask(self, question: str, default: str) -> str:
        return self._read(f"{question} [{default}]: " if default else f"{question}: ").strip() or default


def write(file: Path) -> None:
    """Ask, and write the file; its first site is this server."""
    tell(f"There is no file of settings here, so setup asks, and writes {file}. Nothing else is changed by answering.")
    file.write_text(Questions().text())


def _address(host: str) -> str:
    """Where the host name leads now; ``""`` where it leads nowhere, or only to this machine."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return ""
    return next((one for one in sorted(found) if not one.startswith(("127.", "::1", "fe80"))), "")
