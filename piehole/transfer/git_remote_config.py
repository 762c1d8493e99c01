"""The git configuration for reaching peers: the ssh command, and certificates, logins and headers for http.

Every fetch carries the mark of a peer, by which it passes a read gate (:mod:`piehole.fastpath.read_gate`): if each of two sites waited
until it is fresh before it served the other one, neither would ever be. A server without a gate does not read the mark.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piehole import git
from piehole.errors import GitError
from piehole.fastpath.read_gate import PEER_FIELD, PEER_HEADER
from piehole.transfer.urls import PeerUrl
from piehole.transfer.watchdog import Limits

_HTTP_KNOWN: Final = {"http.sslcainfo", "http.sslcapath", "http.sslverify", "http.sslcert", "http.sslkey"}
# What a peer's git finds in its environment: git reads the fields that it knows.
_GIT_PROTOCOL: Final = f"GIT_PROTOCOL=version=2:{PEER_FIELD}"
# These do not change how a fetch reaches the peer, or ask only for what is done anyway.
_HTTP_IDLE: Final = {
    "http.postbuffer", "http.lowspeedlimit", "http.lowspeedtime", "http.followredirects", "http.receivepack",
    "http.uploadpack", "http.getanyfile", "http.maxrequests", "http.minsessions", "http.noepsv", "http.useragent",
    "http.version",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``foreign``: a setting that only git honours (a proxy, cookies, headers), so that git must fetch."""

    ca_info: str | None = None
    ca_path: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str


def ssh_command(git_dir: Path) -> str:
    """The ssh command as git would choose it: ``GIT_SSH_COMMAND``, then ``core.sshCommand``, then plain ssh."""
    chosen = os.environ.get("GIT_SSH_COMMAND")
    if chosen:
        return chosen
    done = git.run(git_dir, ["config", "--get", "core.sshCommand"], ok=(0, 1))
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n") or "ssh"


def ssh_argv(command: str, peer: PeerUrl, limits: Limits, remote: str) -> list[str]:
    """The argument list of ``ssh HOST REMOTE``. ``command`` is the administrator's, and a shell's line as in git."""
    options = ["-x", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, round(limits.connect))}"]
    options += ["-o", f"SetEnv {_GIT_PROTOCOL}"]
    if peer.port is not None:
        options += ["-p", str(peer.port)]
    host = f"{peer.user}@{peer.host}" if peer.user else peer.host
    program = ["ssh"] if command == "ssh" else ["sh", "-c", f'{command} "$@"', command]
    return [*program, *options, "--", host, remote]


def ssh_command_for_git(command: str, limits: Limits) -> str:
    """The value of ``GIT_SSH_COMMAND`` for git, which adds the port and the host itself. It also sends its own GIT_PROTOCOL; what SetEnv
    says is sent after that, and counts.
    """
    wait = max(1, round(limits.connect))
    return f"{command} -x -o BatchMode=yes -o ConnectTimeout={wait} -o SetEnv={_GIT_PROTOCOL}"


def headers_for_git(peer: PeerUrl, already: int = 0) -> dict[str, str]:
    """The variables that give git the headers for an http peer: the mark of a peer, and the login of its URL. Every account of this
    machine could read an argument.

    :param already: the number of settings in the environment so far (``GIT_CONFIG_COUNT``)
    """
    if peer.protocol not in ("http", "https"):
        return {}
    headers = [f"{PEER_HEADER}: 1"]
    if peer.password is not None:
        token = base64.b64encode(f"{peer.user or ''}:{peer.password}".encode()).decode()
        headers.append(f"Authorization: Basic {token}")
    found = {"GIT_CONFIG_COUNT": str(already + len(headers))}
    for number, header in enumerate(headers, already):
        # With the URL: git ignores a setting for all URLs after one for this URL.
        found |= {f"GIT_CONFIG_KEY_{number}": f"http.{peer.display}.extraHeader", f"GIT_CONFIG_VALUE_{number}": header}
    return found


def http_settings(git_dir: Path, peer: PeerUrl) -> HttpSettings:
    """The settings of ``http.*`` and ``http.<url>.*`` for this peer."""
    done = git.run(git_dir, ["config", "--null", "--get-urlmatch", "http", peer.display], ok=(0, 1))
    found: dict[str, str] = {}
    for entry in done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        name, _, value = entry.partition("\n")
        found[name.lower()] = value
    return read_http_settings(found)


def read_http_settings(found: Mapping[str, str]) -> HttpSettings:
    """Sort settings, by git's lower-case names, into those that are honoured here and those that are not."""
    foreign = sorted(name for name in found if name not in _HTTP_KNOWN | _HTTP_IDLE)

    def path(name: str) -> str | None:
        value = found.get(name)
        return str(Path(value).expanduser()) if value else None

    return HttpSettings(
        ca_info=path("http.sslcainfo"),
        ca_path=path("http.sslcapath"),
        cert=path("http.sslcert"),
        key=path("http.sslkey"),
        verify=found.get("http.sslverify", "true").lower() not in ("false", "no", "off", "0", ""),
        foreign=foreign[0] if foreign else "",
    )


def ask_login(git_dir: Path, peer: PeerUrl) -> Login | None:
    """Ask git's credential helpers for a login; None where they have none."""
    try:
        done = git.run(git_dir, ["credential", "fill"], stdin=_described(peer, None), timeout=30)
    except GitError:  # no helper and no terminal: git ends with 128
        return None
    fields = dict(line.partition("=")[::2] for line in git.lines(done.stdout))
    if "username" not in fields or "password" not in fields:
        return None
    return Login(fields["username"], fields["password"])


def report_login(git_dir: Path, peer: PeerUrl, login: Login, *, good: bool) -> None:
    """Have the helpers store a login that worked, or erase one that did not. :raises GitError: git failed"""
    git.run(git_dir, ["credential", "approve" if good else "reject"], stdin=_described(peer, login), timeout=30)


def _described(peer: PeerUrl, login: Login | None) -> bytes:
    host = f"[{peer.host}]" if ":" in peer.host else peer.host
    fields = {"protocol": peer.protocol, "host": host if peer.port is None else f"{host}:{peer.port}"}
    fields["path"] = peer.path.lstrip("/")
    if login is not None:
        fields |= {"username": login.user, "password": login.password}
    elif peer.user:
        fields["username"] = peer.user
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode() + b"\n"
