"""Byte channels to a peer: a process's pipes, a socket, or HTTP connections. Every byte that arrives passes a tap.

dulwich blocks without timeouts and reads whatever a peer sends. So the tap reports each read to the watchdog, limits what may
come before the pack, and remembers the end of it, where a peer that hangs up says why.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader, RawIOBase
from typing import IO, Any, Final, Protocol

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from piehole import git
from piehole.errors import TransferError, TransferRejected
from piehole.transfer.git_remote_config import HttpSettings
from piehole.transfer.process import end, last_words_of, one_line, spawn
from piehole.transfer.urls import PeerUrl
from piehole.transfer.watchdog import Limits, Watchdog

# Bytes before the pack: capabilities, and with old peers all refs (a million of them have about 60 MB).
_OPENING: Final = 128 << 20
_TAIL: Final = 4096
_ERR: Final = re.compile(rb"[0-9a-f]{4}ERR ([^\n\0]{1,400})")  # an ERR packet, gitprotocol-pack
_GIT_PORT: Final = 9418
_GRACE: Final = 30.0  # seconds after which urllib3 ends a stalled read by itself, should the watchdog fail


class ByteTap:
    """Counts and checks every chunk that arrives."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._tail = b""
        self.received = 0
        self.in_pack = False

    def saw(self, chunk: bytes) -> bytes:
        self._watchdog.arrived()
        self.received += len(chunk)
        if not self.in_pack:
            self._tail = (self._tail + chunk)[-_TAIL:]
            if self.received > _OPENING:
                raise TransferRejected(f"sent {_OPENING} bytes without beginning a pack")
        return chunk

    @property
    def refusal(self) -> str:
        """The message that the peer sent instead of a pack; empty where it sent none."""
        found = _ERR.findall(self._tail)
        return one_line(found[-1]) if found and not self.in_pack else ""


class Channel(Protocol):
    """The transport that dulwich needs, with what its other end said last."""

    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def close(self) -> None: ...
    def last_words(self) -> str: ...


class _Tapped(RawIOBase):
    def __init__(self, receive: Callable[[int], bytes], tap: ByteTap) -> None:
        super().__init__()
        self._receive = receive
        self._tap = tap

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed: any writable buffer
        chunk = self._tap.saw(self._receive(len(buffer)))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _drain(reader: BufferedReader[_Tapped]) -> None:
    """Read what is left. A peer that refuses a want says so and hangs up while the request is still being written."""
    try:
        reader.read(_TAIL)
    except OSError:  # the connection was reset, and what had come is lost
        pass


class ProcessChannel:
    """The pipes of ssh, or of upload-pack on this machine. stderr goes to a file: a pipe that nobody drains would block it."""

    def __init__(
        self, watchdog: Watchdog, tap: ByteTap, command: Sequence[str], extra_env: Mapping[str, str] | None = None
    ) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by close
        self._watchdog = watchdog
        self._words = ""
        try:
            self._process = spawn(
                watchdog,
                command,
                env=git.environment(extra_env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except BaseException:
            self._errors.close()
            raise
        assert self._process.stdout is not None  # noqa: S101 -- both were asked to be pipes
        assert self._process.stdin is not None  # noqa: S101 -- it was asked to be a pipe
        self._stdin = self._process.stdin
        descriptor = self._process.stdout.fileno()
        self._reader = BufferedReader(_Tapped(lambda size: os.read(descriptor, size), tap))

    def read(self, size: int) -> bytes:
        return self._reader.read(size)

    def write(self, data: bytes) -> int:
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except BrokenPipeError:
            _drain(self._reader)
            raise
        return len(data)

    def close(self) -> None:
        """End the process. The pack carries its own checksum, so nothing further is awaited."""
        if self._errors.closed:
            return
        end(self._watchdog, self._process)
        self._words = last_words_of(self._errors)
        self._errors.close()

    def last_words(self) -> str:
        return self._words


class SocketChannel:
    """A socket to a git:// peer (gitprotocol-pack, "Git Transport")."""

    def __init__(self, watchdog: Watchdog, tap: ByteTap, peer: PeerUrl, limits: Limits) -> None:
        try:
            self._socket = socket.create_connection((peer.host, peer.port or _GIT_PORT), timeout=limits.connect)
        except OSError as error:
            raise TransferError(f"cannot be reached: {error}") from error
        self._socket.settimeout(None)  # from here on the watchdog limits the time
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watchdog.own_socket(self._socket)
        self._reader = BufferedReader(_Tapped(self._socket.recv, tap))

    def read(self, size: int) -> bytes:
        return self._reader.read(size)

    def write(self, data: bytes) -> int:
        try:
            self._socket.sendall(data)
        except ConnectionError:
            _drain(self._reader)
            raise
        return len(data)

    def close(self) -> None:
        self._socket.close()

    def last_words(self) -> str:
        return ""


def make_pool(settings: HttpSettings, limits: Limits, watchdog: Watchdog) -> PoolManager:
    """A pool for one transfer whose sockets the watchdog can shut down. It follows no redirect."""
    manager = PoolManager(
        num_pools=1,
        maxsize=1,
        timeout=Timeout(connect=limits.connect, read=limits.stall + _GRACE),
        retries=Retry(total=0, redirect=False),
        ca_certs=settings.ca_info,
        ca_cert_dir=settings.ca_path,
        cert_file=settings.cert,
        key_file=settings.key,
        cert_reqs="CERT_REQUIRED" if settings.verify else "CERT_NONE",
    )

    def own(sock: socket.socket | None) -> None:
        if sock is not None:
            watchdog.own_socket(sock)

    class OwnedConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            own(self.sock)

    class OwnedTlsConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            own(self.sock)

    class Pool(HTTPConnectionPool):
        ConnectionCls = OwnedConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = OwnedTlsConnection

    classes: dict[str, Any] = {"http": Pool, "https": TlsPool}
    manager.pool_classes_by_scheme = classes
    return manager
