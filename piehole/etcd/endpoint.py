"""etcd's endpoints and the credentials for them, as plain data. Nothing here connects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole.errors import NoAccess, UsageError

_FORM: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+):(?P<port>\d{1,5})/?"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One client URL of an etcd member. ``host`` is without brackets; ``str()`` gives the URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``http://host:port``, ``https://host:port`` or ``host:port`` (which means http).

        :raises UsageError: it has another form
        """
        match = _FORM.fullmatch(text.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            shown = re.sub(r"//.*@", "//", text)  # a password that does not belong here is not printed, either
            raise UsageError(f"{shown!r} is not an etcd endpoint: write http://HOST:PORT or https://HOST:PORT")
        return cls(match["scheme"] or "http", match["host"].strip("[]"), int(match["port"]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Paths to credentials, never the secrets: files are read when they are needed, so they may be renewed.

    ``ca``: certificates that sign the server's; ``cert`` and ``key``: our own (without a CN, where authentication is
    on: etcd's gateway refuses those); ``user`` and ``password_file``: etcd's own authentication.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password_file: str | None = None

    def __post_init__(self) -> None:
        for one, other, names in (
            (self.cert, self.key, "piehole.etcdCert and piehole.etcdKey"),
            (self.user, self.password_file, "piehole.etcdUser and piehole.etcdPasswordFile"),
        ):
            if bool(one) != bool(other):
                raise UsageError(f"{names} belong together: set both, or neither")

    def check_readable(self) -> None:
        """:raises NoAccess: this account cannot read one of the TLS files."""
        for path in (self.ca, self.cert, self.key):
            if path:
                _read(path)

    def password(self) -> str:
        """The password, without the newline that ends its file.

        :raises NoAccess: this account cannot read the file, or it is no text
        """
        if not self.password_file:
            raise NoAccess("piehole.etcdPasswordFile is not set")
        try:
            return _read(self.password_file).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise NoAccess(f"The etcd password in {self.password_file} is not UTF-8 text") from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NoAccess(f"This account cannot read the etcd credential {path}: {error.strerror}") from error
