"""Peers that lie or hang: a server on a loopback socket that speaks git:// (protocol v2) as far as a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Talk = Callable[[socket.socket], None]

CAPABILITIES = b"version 2\n", b"agent=git/2.39\n", b"ls-refs\n", b"fetch=shallow\n", b"object-format=sha1\n"


def pkt(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


@contextmanager
def lying_peer(talk: Talk) -> Iterator[str]:
    """Serve every connection with ``talk`` (after the git-daemon request was read); yields the URL."""
    ended = threading.Event()
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            try:
                talk(connection)
            except OSError:
                pass  # the client has hung up, as it should
            finally:
                connection.close()

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"git://127.0.0.1:{server.getsockname()[1]}/repo.git"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            for thread in threads:
                thread.join(10)


def sends_pack(pack: bytes, *, cut: bool = False) -> Talk:
    """A peer that answers every fetch with this pack; ``cut``: it hangs up without an end."""

    def talk(connection: socket.socket) -> None:
        _open(connection)
        connection.sendall(pkt(b"packfile\n"))
        for start in range(0, len(pack), 1000):
            connection.sendall(pkt(b"\1" + pack[start : start + 1000]))
        if not cut:
            connection.sendall(b"0000")

    return talk


def sends_for_ever(connection: socket.socket) -> None:
    """A pack of one blob that never ends: 2**60 bytes in stored blocks of zlib, so that git streams it to the disk."""
    _open(connection)
    connection.sendall(pkt(b"packfile\n"))
    size = b"\xb0" + b"\x80" * 7 + b"\x10"  # gitformat-pack: type 3, then the size, seven bits a byte
    connection.sendall(pkt(b"\1PACK" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + size + b"\x78\x01"))
    length = 60_000
    block = b"\0" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + bytes(length)
    while True:
        connection.sendall(pkt(b"\1" + block))


def introduces_itself_for_ever(connection: socket.socket) -> None:
    """Capabilities without end."""
    connection.sendall(pkt(CAPABILITIES[0]))
    line = pkt(b"x" * 65000)
    while True:
        connection.sendall(line * 10)


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def falls_silent_in_the_pack(connection: socket.socket) -> None:
    _open(connection)
    connection.sendall(pkt(b"packfile\n") + pkt(b"\1PACK" + (2).to_bytes(4, "big") + (9).to_bytes(4, "big")))
    says_nothing(connection)


def chats_in_the_pack(connection: socket.socket) -> None:
    """Words for people (side-band 2) without end, where the pack should go on."""
    _open(connection)
    connection.sendall(pkt(b"packfile\n") + pkt(b"\1PACK" + (2).to_bytes(4, "big") + (9).to_bytes(4, "big")))
    line = pkt(b"\2" + b"still counting\r" * 4000)
    while True:
        connection.sendall(line)


def _open(connection: socket.socket) -> None:
    stream = connection.makefile("rb")
    _read(stream.read, 1)
    connection.sendall(b"".join(pkt(line) for line in CAPABILITIES) + b"0000")
    _read(stream.read, None)
    connection.sendall(b"0000")  # no refs
    _read(stream.read, None)


def _read(read: Callable[[int], bytes], count: int | None) -> None:
    """Read ``count`` packets, or up to the next flush."""
    while count is None or count > 0:
        size = int(read(4) or b"0000", 16)
        if size == 0:
            return
        if size > 4:
            read(size - 4)
        count = None if count is None else count - 1
