"""Fetch with dulwich: ask one peer for exact objects, and pass on the pack.

The wants are oids and no ref is listed, so a peer serves objects even before its own ref moves, and the cost does not
grow with the number of its refs. Protocol v2 serves any oid; a peer that speaks v0 (an sshd without
``AcceptEnv GIT_PROTOCOL``) lists its refs and needs ``uploadpack.allowAnySHA1InWant`` for others than their tips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from dulwich.client import HttpGitClient, HTTPUnauthorized, TraditionalGitClient
from dulwich.objects import ObjectID
from dulwich.protocol import Protocol
from urllib3 import BaseHTTPResponse, PoolManager

from piehole.errors import PieholeError, TransferError
from piehole.fastpath.read_gate import PEER_HEADER
from piehole.transfer.byte_channels import ByteTap, Channel, ProcessChannel, SocketChannel, make_pool
from piehole.transfer.git_remote_config import Login, ask_login, http_settings, report_login, ssh_argv, ssh_command
from piehole.transfer.process import one_line
from piehole.transfer.urls import PeerUrl
from piehole.transfer.watchdog import Limits, Watchdog

if TYPE_CHECKING:
    from dulwich.client import HTTPResponse

_NO_REF: Final = [b"refs/piehole-matches-none/"]
_LACKS: Final = re.compile(r"not our ref ([0-9a-f]{40,64})")
_STRANGER: Final = "Host key verification failed"  # ssh, for a host key that is unknown or has changed
_CHANGED: Final = re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|No \S+ host key is known for \S+")

WEB_PAGE: Final = "answers with a web page, such as a login page, and not as a git server: correct its URL, or let its server serve git there"


class NegotiationTrouble(Exception):
    """The peer and dulwich did not understand each other before any pack data came. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What is asked of a peer. ``haves``: oids whose closure is complete here, the most likely common ones first."""

    wants: tuple[str, ...]
    haves: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerAccess:
    """How one peer is reached: for which repository, within which limits, under which watchdog."""

    git_dir: Path
    peer: PeerUrl
    limits: Limits
    watchdog: Watchdog


def receive(access: PeerAccess, request: FetchRequest, write: Callable[[bytes], int]) -> None:
    """Write the pack that the peer sends for ``request``.

    :raises NegotiationTrouble: git may still succeed with the same peer
    :raises TransferError: it cannot be reached, lacks an object, refuses, breaks off, or the watchdog ended it
    """
    tap = ByteTap(access.watchdog)

    def pack_data(data: bytes) -> int:
        tap.in_pack = True
        return write(data)

    def ask(client: TraditionalGitClient | HttpGitClient) -> None:
        wants, haves = _determine(request, client), _Haves(request.haves)
        client.fetch_pack(access.peer.path, wants, haves, pack_data, ref_prefix=_NO_REF, protocol_version=2)

    if access.peer.protocol in ("http", "https"):
        _over_http(access, tap, ask)
    else:
        _over_stream(access, tap, ask)


def sends_web_page(access: PeerAccess) -> bool:
    """Whether an http peer answers with a web page where git's answer should be."""

    def ask(client: HttpGitClient) -> None:
        client.get_refs(access.peer.path, protocol_version=2, ref_prefix=_NO_REF)

    try:
        _over_http(access, ByteTap(access.watchdog), ask)
    except (TransferError, NegotiationTrouble) as error:
        return str(error) == WEB_PAGE
    return False


def _over_stream(access: PeerAccess, tap: ByteTap, ask: Callable[[TraditionalGitClient], None]) -> None:
    channel = _channel(access, tap)
    client = _StreamClient(channel, access.peer)
    try:
        ask(client)
    except Exception as error:
        client.hang_up()
        raise _translated(error, tap, access.watchdog, channel.last_words()) from error
    finally:
        client.hang_up()


def _channel(access: PeerAccess, tap: ByteTap) -> Channel:
    peer = access.peer
    if peer.protocol == "git":
        return SocketChannel(access.watchdog, tap, peer, access.limits)
    if peer.protocol == "ssh":
        quoted = "'" + peer.path.replace("'", "'\\''").replace("!", "'\\!'") + "'"  # as git's sq_quote does
        command = ssh_argv(ssh_command(access.git_dir), peer, access.limits, f"git-upload-pack {quoted}")
        return ProcessChannel(access.watchdog, tap, command)
    command = ["git", "upload-pack", "--", peer.path]
    return ProcessChannel(access.watchdog, tap, command, {"GIT_PROTOCOL": "version=2"})


def _over_http(access: PeerAccess, tap: ByteTap, ask: Callable[[HttpGitClient], None]) -> None:
    settings = http_settings(access.git_dir, access.peer)
    if settings.foreign:
        raise NegotiationTrouble(f"{settings.foreign} is a setting that only git honours")
    with make_pool(settings, access.limits, access.watchdog) as pool:
        try:
            _logged_in(access, lambda login: ask(_HttpClient(access.peer, pool, tap, login)))
        except HTTPUnauthorized as error:
            raise TransferError(
                "asks for a login, and neither its URL nor a credential helper has the right one"
            ) from error
        except Exception as error:
            raise _translated(error, tap, access.watchdog, "") from error


def _logged_in(access: PeerAccess, ask: Callable[[Login | None], None]) -> None:
    """Ask with the login of the URL, or with none. Where the server demands one, ask again with that of git's credential helpers."""
    user, password = access.peer.user, access.peer.password
    given = Login(user, password) if user is not None and password is not None else None
    try:
        ask(given)
    except HTTPUnauthorized:
        login = None if given else ask_login(access.git_dir, access.peer)
        if login is None:
            raise
    else:
        return
    try:
        ask(login)
    except HTTPUnauthorized:
        report_login(access.git_dir, access.peer, login, good=False)
        raise
    report_login(access.git_dir, access.peer, login, good=True)


def _determine(request: FetchRequest, client: TraditionalGitClient | HttpGitClient) -> Callable[..., list[ObjectID]]:
    def wants(refs: object, depth: int | None = None) -> list[ObjectID]:
        del refs, depth
        if getattr(client, "dumb", False):
            raise NegotiationTrouble("it is a plain file server")
        if client.protocol_version != 2 and len(request.wants[0]) != 40:
            raise NegotiationTrouble("it speaks protocol v0, in which dulwich cannot name the object format")
        return [ObjectID(want.encode()) for want in request.wants]

    return wants


def _translated(error: Exception, tap: ByteTap, watchdog: Watchdog, words: str) -> Exception:
    """Translate a failure. A lying peer can make the parser raise anything, so every class of error comes here."""
    try:
        watchdog.check()
    except TransferError as aborted:
        return aborted
    if isinstance(error, (PieholeError, NegotiationTrouble)):
        return error
    refusal = tap.refusal
    lacking = _LACKS.search(refusal)
    if lacking:
        return TransferError(f"does not have {lacking.group(1)}")
    if refusal:
        return TransferError(f"refused: {refusal}")
    if _STRANGER in words:
        return TransferError(
            f"does not prove to be the host that is known here, so nothing was asked of it: {_brief(words)} Where its key was "
            "changed on purpose, have this account remove the old one (`ssh-keygen -R HOST`) and take over the new one once you "
            "have compared it at that server"
        )
    what = words or one_line(str(error).encode("utf-8", "replace")) or type(error).__name__
    if tap.in_pack:
        return TransferError(f"broke off in the middle of the pack: {what}")
    if tap.received == 0:
        return TransferError(f"cannot be reached or serves no such repository: {what}")
    return NegotiationTrouble(what)


def _brief(words: str) -> str:
    """ssh's message about a host key, without its banner of twelve lines."""
    found = _CHANGED.search(words)
    return f"Host key verification failed ({found.group(0).rstrip('.')})." if found else f"{_STRANGER}."


class _Haves:
    """A fixed list of haves, in the form of dulwich's graph walkers."""

    def __init__(self, haves: Sequence[str]) -> None:
        self._haves: Iterator[ObjectID] = iter([ObjectID(have.encode()) for have in haves])

    def __next__(self) -> ObjectID | None:
        return next(self._haves, None)

    def ack(self, sha: ObjectID, /) -> None:
        pass

    def nak(self) -> None:
        pass


class _StreamClient(TraditionalGitClient):
    """The client for ssh, git:// and local peers: one channel, used once."""

    def __init__(self, channel: Channel, peer: PeerUrl) -> None:
        super().__init__(thin_packs=True, quiet=True)
        self._channel = channel
        self._peer = peer
        self._protocol: Protocol | None = None

    def _connect(
        self,
        cmd: bytes,
        path: str | bytes,
        protocol_version: int | None = None,  # noqa: ARG002 -- 2 is asked for in each channel's own way
    ) -> tuple[Protocol, Callable[[], bool], None]:
        self._protocol = Protocol(self._channel.read, self._channel.write, self._channel.close)
        if self._peer.protocol == "git":
            port = f":{self._peer.port}" if self._peer.port else ""
            host = f"[{self._peer.host}]" if ":" in self._peer.host else self._peer.host
            name = path if isinstance(path, bytes) else path.encode()
            self._protocol.send_cmd(b"git-" + cmd, name, f"host={host}{port}".encode() + b"\0\0version=2\0")
        # Never poll for ACKs: a v2 peer sends none before "done", and 64 haves are one round.
        return self._protocol, lambda: False, None

    def hang_up(self) -> None:
        """Close the channel. It may be called twice."""
        if self._protocol is None:
            self._channel.close()
        else:
            self._protocol.close()


class _HttpClient(HttpGitClient):
    """The client for smart HTTP. Every byte passes the tap, and no answer can direct it to another address."""

    def __init__(self, peer: PeerUrl, pool: PoolManager, tap: ByteTap, login: Login | None) -> None:
        super().__init__(
            peer.display,
            pool_manager=pool,
            username=login.user if login else None,
            password=login.password if login else None,
            quiet=True,
        )
        self._tap = tap

    def _get_url(self, path: str | bytes) -> str:
        del path  # joining it would let a path that begins with // name another host
        return self._base_url

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> tuple[HTTPResponse, Callable[[int], bytes]]:
        if not url.startswith(self._base_url):
            raise TransferError(f"points to another server, {one_line(url.encode())}")
        marked = {**(headers or {}), PEER_HEADER: "1"}
        response, _ = super()._http_request(url, marked, data, raise_for_status=False)
        location = response.headers.get("Location", "")
        if 300 <= response.status < 400:
            response.close()
            place = one_line(urlsplit(location)._replace(query="").geturl().encode()) or "another place"
            raise TransferError(f"redirects to {place}: let the site's URL name it")
        if response.status == 401 and raise_for_status:
            response.close()
            raise HTTPUnauthorized(response.headers.get("WWW-Authenticate"), url)
        if response.status != 200 and raise_for_status:
            response.close()
            raise TransferError(f"answered with HTTP status {response.status}")
        if response.status == 200 and response.headers.get("Content-Type", "").startswith("text/html"):
            response.close()
            raise TransferError(WEB_PAGE)

        # dulwich's type names only what it uses itself. Unlike read, read1 returns what has arrived, so a slow peer does not look stalled.
        stream = cast("BaseHTTPResponse", response)
        buffer = bytearray()

        def read(size: int) -> bytes:
            while len(buffer) < size:
                chunk = self._tap.saw(stream.read1(size - len(buffer)))
                if not chunk:
                    break
                buffer.extend(chunk)
            taken = bytes(buffer[:size])
            del buffer[:size]
            return taken

        return response, read
