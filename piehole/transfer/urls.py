"""Parse the URL of a peer strictly, so that it can never become an option or a command.

The forms are git's own (gitprotocol and ``git help urls``): ``ssh://``, ``http://``, ``https://``, ``git://``,
``file:///``, the scp-like ``[user@]host:path``, and a plain absolute path. Everything else is refused, remote helpers
(``ext::``, ``fd::``) in particular.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final, Literal, NoReturn, get_args
from urllib.parse import SplitResult, quote, unquote, urlsplit

from piehole.errors import UsageError

Protocol = Literal["ssh", "http", "https", "git", "file"]

_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")
_SSH_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP: Final = re.compile(r"(?:(?P<user>[^@/:\[\]]+)@)?(?P<host>[^/:@\[\]]+|\[[^\]]*\]):(?P<path>.+)", re.DOTALL)
_USERINFO: Final = re.compile(r"//.*@", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PeerUrl:
    """The parsed URL of a peer. ``path`` is decoded, except for http(s), where it stays as it was written."""

    protocol: Protocol
    path: str
    host: str = ""
    port: int | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def display(self) -> str:
        """The URL for logs and messages, without the credentials of http(s)."""
        if self.protocol == "file":
            return self.path
        user = f"{self.user}@" if self.protocol == "ssh" and self.user else ""
        return f"{self.protocol}://{user}{self._authority}{self._url_path}"

    @property
    def for_git(self) -> str:
        """The URL in a form that git can read in one way only, without a password."""
        return self.display

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def _url_path(self) -> str:
        if self.protocol in ("http", "https"):
            return self.path
        path = quote(self.path, safe="/~@:+,=!$&'()*;")
        # The path of an scp-like URL is relative to the home directory, which ssh:// writes as /~/.
        return path if path.startswith("/") else f"/{path}" if path.startswith("~") else f"/~/{path}"


def parse_url(url: str, allowed: Collection[str]) -> PeerUrl:
    """Parse the URL of a peer and check its protocol.

    :param allowed: the protocols that ``piehole.allowProtocol`` allows
    :raises UsageError: the URL is malformed, of an unknown kind, or of a protocol that is not allowed
    """
    if not _harmless(url):
        _refuse(url, "it is empty or holds control characters")
    if url.startswith("-"):
        _refuse(url, "it begins with '-'")
    if _HELPER.match(url):
        _refuse(url, "remote helpers are never used")
    peer = _parse(url)
    if peer.protocol not in allowed:
        names = ", ".join(sorted(allowed)) or "none"
        raise UsageError(
            f"the protocol {peer.protocol} of the peer {peer.display} is not allowed "
            f"(piehole.allowProtocol allows: {names})"
        )
    return peer


def _parse(url: str) -> PeerUrl:
    if url.startswith("/"):
        return PeerUrl("file", url)
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _scp(url)
    protocol = scheme.group(1).lower()
    if protocol not in get_args(Protocol):
        _refuse(url, f"the protocol {protocol} is unknown (piehole.allowProtocol may name ssh, https, http, git, file)")
    if "\\" in url:
        _refuse(url, "it holds a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # What the error says may quote a part of a password that holds "/".
        raise UsageError(f"the peer's URL {_shown(url)} cannot be used: its host or port is none") from error
    if port == 0:
        _refuse(url, "port 0 is no port")
    if protocol == "file":
        return _file(url, parts)
    if protocol in ("http", "https"):
        return _http(url, parts, "http" if protocol == "http" else "https")
    return _ssh_or_git(url, parts, "ssh" if protocol == "ssh" else "git")


def _file(url: str, parts: SplitResult) -> PeerUrl:
    if parts.netloc not in ("", "localhost"):
        _refuse(url, "a file URL names no host: file:///path")
    return PeerUrl("file", _decoded(url, url[len("file://") + len(parts.netloc) :]))


def _http(url: str, parts: SplitResult, protocol: Literal["http", "https"]) -> PeerUrl:
    if "?" in url or "#" in url:
        _refuse(url, "a query or a fragment makes no sense here")
    if " " in url or not url.isascii():
        _refuse(url, "spaces and letters beyond ASCII must be percent-encoded in http")
    _decoded(url, parts.path)
    user = None if parts.username is None else _decoded(url, parts.username, path=False)
    password = None if parts.password is None else _decoded(url, parts.password, path=False)
    return PeerUrl(protocol, parts.path, _host(url, parts.hostname or ""), parts.port, user, password)


def _ssh_or_git(url: str, parts: SplitResult, protocol: Literal["ssh", "git"]) -> PeerUrl:
    if parts.password is not None:
        _refuse(url, "a password has no place in it; ssh uses keys")
    user = None
    if parts.username is not None:
        user = unquote(parts.username)
        if protocol == "git" or not _SSH_USER.fullmatch(user):
            _refuse(url, "its user name is not one")
    # urlsplit takes "?" and "#" for a query and a fragment; git does not.
    path = _decoded(url, url[len(protocol) + len("://") + len(parts.netloc) :])
    if path.startswith("/~"):
        path = path[1:]
    return PeerUrl(protocol, path, _host(url, parts.hostname or ""), parts.port, user)


def _scp(url: str) -> PeerUrl:
    match = _SCP.fullmatch(url)
    if match is None:
        _refuse(url, "it is neither a URL, nor host:path, nor an absolute path")
    user, host, path = match["user"], match["host"], match["path"]
    if user is not None and not _SSH_USER.fullmatch(user):
        _refuse(url, "its user name is not one")
    _no_option(url, path)
    return PeerUrl("ssh", path, _host(url, host.removeprefix("[").removesuffix("]")), None, user)


def _host(url: str, host: str) -> str:
    if not _HOST.fullmatch(host):
        _refuse(url, "its host name is not one")
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError as error:
            raise UsageError(f"the peer's URL {_shown(url)} cannot be used: its host name is not one") from error
    return host


def _decoded(url: str, text: str, *, path: bool = True) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"the peer's URL {_shown(url)} cannot be used: it is not UTF-8") from error
    if path and not decoded.startswith("/"):
        _refuse(url, "it names no path")
    if decoded and not _harmless(decoded):
        _refuse(url, "it holds control characters")
    return decoded


def _no_option(url: str, path: str) -> None:
    if path.startswith("-"):
        _refuse(url, "its path begins with '-'")


def _harmless(text: str) -> bool:
    """No control characters (C0, DEL, C1) and no lone surrogates."""
    return bool(text) and not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text)


def _shown(url: str) -> str:
    """A malformed URL, safe for a log: credentials hidden, control characters escaped."""
    return ascii(_USERINFO.sub("//", url))


def _refuse(url: str, why: str) -> NoReturn:
    raise UsageError(f"the peer's URL {_shown(url)} cannot be used: {why}")
