"""dulwich on the wire: ask one peer for exact objects, and pass the pack on.

The wants are oids and no ref is listed, so a peer serves objects a moment before its own ref moves, and the cost does
not grow with the number of its refs. Protocol v2 serves any oid; a peer that speaks v0 (an sshd without
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
from piehole.transfer.channel import Channel, ProcessChannel, SocketChannel, Tap
from piehole.transfer.limits import Limits
from piehole.transfer.pool import make_pool
from piehole.transfer.process import plain
from piehole.transfer.remote import (
    Login,
    ask_login,
    http_settings,
    ssh_argv,
    ssh_command,
    tell_login,
)
from piehole.transfer.urls import PeerUrl
from piehole.transfer.watchdog import Watchdog

if TYPE_CHECKING:
    from dulwich.client import HTTPResponse

_NO_REF: Final = [b"refs/piehole-matches-none/"]
_LACKS: Final = re.compile(r"not our ref ([0-9a-f]{40,64})")


class NegotiationTrouble(Exception):
    """The peer and dulwich did not understand each other before any pack data came. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a peer. ``haves``: oids whose closure is complete here, the most likely common ones first."""

    wants: tuple[str, ...]
    haves: tuple[str, ...]


def receive(
    git_dir: Path,
    peer: PeerUrl,
    request: Request,
    write: Callable[[bytes], int],
    *,
    limits: Limits,
    watchdog: Watchdog,
) -> None:
    """Write the pack that the peer sends for ``request``.

    :raises NegotiationTrouble: another way to the same peer may succeed
    :raises TransferError: it cannot be reached, lacks an object, refuses, breaks off, or the watchdog ended it
    """
    tap = Tap(watchdog)

    def pack_data(data: bytes) -> int:
        tap.in_pack = True
        return write(data)

    if peer.protocol in ("http", "https"):
        _over_http(git_dir, peer, request, pack_data, tap, limits, watchdog)
    else:
        _over_stream(git_dir, peer, request, pack_data, tap, limits, watchdog)


def _over_stream(
    git_dir: Path,
    peer: PeerUrl,
    request: Request,
    pack_data: Callable[[bytes], int],
    tap: Tap,
    limits: Limits,
    watchdog: Watchdog,
) -> None:
    channel = _channel(git_dir, peer, tap, limits, watchdog)
    client = _StreamClient(channel, peer)
    try:
        client.fetch_pack(
            peer.path,
            _determine(request, client),
            _Haves(request.haves),
            pack_data,
            ref_prefix=_NO_REF,
            protocol_version=2,
        )
    except Exception as error:
        client.hang_up()
        raise _translated(error, tap, watchdog, channel.last_words()) from error
    finally:
        client.hang_up()


def _channel(git_dir: Path, peer: PeerUrl, tap: Tap, limits: Limits, watchdog: Watchdog) -> Channel:
    if peer.protocol == "git":
        return SocketChannel(watchdog, tap, peer, limits)
    if peer.protocol == "ssh":
        quoted = "'" + peer.path.replace("'", "'\\''").replace("!", "'\\!'") + "'"  # as git's sq_quote
        return ProcessChannel(watchdog, tap, ssh_argv(ssh_command(git_dir), peer, limits, f"git-upload-pack {quoted}"))
    command = ["git", "upload-pack", "--", peer.path]
    return ProcessChannel(watchdog, tap, command, {"GIT_PROTOCOL": "version=2"})


def _over_http(
    git_dir: Path,
    peer: PeerUrl,
    request: Request,
    pack_data: Callable[[bytes], int],
    tap: Tap,
    limits: Limits,
    watchdog: Watchdog,
) -> None:
    settings = http_settings(git_dir, peer)
    if settings.foreign:
        raise NegotiationTrouble(f"{settings.foreign} is for git itself to honour")
    login = Login(peer.user, peer.password) if peer.user is not None and peer.password is not None else None
    with make_pool(settings, limits, watchdog) as pool:
        client = _HttpClient(peer, pool, tap, login)
        try:
            try:
                _ask_over_http(client, peer, request, pack_data)
            except HTTPUnauthorized:
                if login is not None:
                    raise
                login = ask_login(git_dir, peer)
                if login is None:
                    raise
                client = _HttpClient(peer, pool, tap, login)
                try:
                    _ask_over_http(client, peer, request, pack_data)
                except HTTPUnauthorized:
                    tell_login(git_dir, peer, login, good=False)
                    raise
                tell_login(git_dir, peer, login, good=True)
        except HTTPUnauthorized as error:
            raise TransferError("asks for a login that git's credential helpers do not have") from error
        except Exception as error:
            raise _translated(error, tap, watchdog, "") from error


def _ask_over_http(client: _HttpClient, peer: PeerUrl, request: Request, pack_data: Callable[[bytes], int]) -> None:
    client.fetch_pack(
        peer.path, _determine(request, client), _Haves(request.haves), pack_data, ref_prefix=_NO_REF, protocol_version=2
    )


def _determine(request: Request, client: TraditionalGitClient | HttpGitClient) -> Callable[..., list[ObjectID]]:
    def wants(refs: object, depth: int | None = None) -> list[ObjectID]:
        del refs, depth
        if getattr(client, "dumb", False):
            raise NegotiationTrouble("it is a plain file server")
        if client.protocol_version != 2 and len(request.wants[0]) != 40:
            raise NegotiationTrouble("it speaks protocol v0, in which dulwich cannot name the object format")
        return [ObjectID(want.encode()) for want in request.wants]

    return wants


def _translated(error: Exception, tap: Tap, watchdog: Watchdog, words: str) -> Exception:
    """What a failure means. A peer that lies can make the parser fail in any way, so every class of error comes here."""
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
    what = words or plain(str(error).encode("utf-8", "replace")) or type(error).__name__
    if tap.in_pack:
        return TransferError(f"broke off in the middle of the pack: {what}")
    if tap.received == 0:
        return TransferError(f"cannot be reached or serves no such repository: {what}")
    return NegotiationTrouble(what)


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
    """ssh, git:// and local peers: one channel, used once."""

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
        """May be called twice."""
        if self._protocol is None:
            self._channel.close()
        else:
            self._protocol.close()


class _HttpClient(HttpGitClient):
    """Smart HTTP with every byte tapped. It stays at the peer's address, whatever the peer says."""

    def __init__(self, peer: PeerUrl, pool: PoolManager, tap: Tap, login: Login | None) -> None:
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
            raise TransferError(f"points to another server, {plain(url.encode())}")
        response, _ = super()._http_request(url, headers, data, raise_for_status=False)
        location = response.headers.get("Location", "")
        if 300 <= response.status < 400:
            response.close()
            place = plain(urlsplit(location)._replace(query="").geturl().encode()) or "another place"
            raise TransferError(f"redirects to {place}: let the site's URL name it")
        if response.status == 401 and raise_for_status:
            response.close()
            raise HTTPUnauthorized(response.headers.get("WWW-Authenticate"), url)
        if response.status != 200 and raise_for_status:
            response.close()
            raise TransferError(f"answered with HTTP status {response.status}")

        # dulwich names only what it uses itself. Unlike read, read1 returns what has come: a slow peer is not a stalled one.
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
