"""A slow link: takes TCP connections that were meant for another host, and passes on what they carry, some time later.

usage: relay.py PORT MARK SECONDS. Standard library only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

_SO_MARK = 36  # <asm-generic/socket.h>
_SO_ORIGINAL_DST = 80  # <linux/netfilter_ipv4.h>


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    """Everything in its order, each piece ``seconds`` after it came."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def take() -> None:
        while True:
            try:
                piece = await source.read(1 << 16)
            except OSError:
                piece = b""
            await pieces.put((loop.time() + seconds, piece))
            if not piece:
                return

    async def give() -> None:
        while True:
            when, piece = await pieces.get()
            await asyncio.sleep(when - loop.time())
            if not piece:
                break
            sink.write(piece)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    await asyncio.gather(take(), give())


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mark: int, seconds: float) -> None:
    here: socket.socket = writer.get_extra_info("socket")
    port, address = struct.unpack("!2xH4s8x", here.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    there = socket.socket()
    there.setblocking(False)
    there.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
    far: asyncio.StreamWriter | None = None
    try:
        await asyncio.sleep(2 * seconds)  # a connection takes a round trip
        await asyncio.get_running_loop().sock_connect(there, (socket.inet_ntoa(address), port))
        answer, far = await asyncio.open_connection(sock=there)
        await asyncio.gather(_pass_on(reader, far, seconds), _pass_on(answer, writer, seconds))
    except OSError:
        pass  # either end has gone: both are told
    finally:
        writer.close()
        if far is None:
            there.close()
        else:
            far.close()


async def main(port: int, mark: int, seconds: float) -> None:
    server = await asyncio.start_server(lambda reader, writer: _relay(reader, writer, mark, seconds), "0.0.0.0", port)  # noqa: S104 -- in a namespace
    print("listening", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
