"""Links that can be cut: a relay on loopback before each server that somebody shall lose sight of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Literal

from tests.support.ports import LOOPBACK

State = Literal["open", "cut", "deaf", "dead"]
_CHUNK: Final = 1 << 16


class Link:
    """One relay. ``cut``: connections are closed; ``deaf``: requests pass, answers wait; ``dead``: nothing passes, all stay open.

    ``error``: etcd gets every write, and every other one of them is then answered with this gRPC code and these words.
    ``age``: a connection that was made at an earlier age is closed at its next request, which nobody gets.
    ``inspect`` is called with the body of each transaction before etcd gets any of it.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.state: State = "open"
        self.error: tuple[int, str] | None = None
        self.writes = 0
        self.age = 0
        self.inspect: Callable[[bytes], None] | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.forth = asyncio.Event()
        self.back = asyncio.Event()
        self.forth.set()
        self.back.set()

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


class Relays:
    """All links of a bed, served by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def to(self, target: int) -> Link:
        """A link to a port of this machine."""
        return asyncio.run_coroutine_threadsafe(self._open(target), self._loop).result(10)

    def set(self, link: Link, state: State) -> None:
        """Returns when the link is in this state."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(self._set(link, state), self._loop)
        done.result(10)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self, target: int) -> Link:
        link = Link(target)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(link, reader, writer)
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, LOOPBACK, 0)
        self._servers.append(server)
        link.port = server.sockets[0].getsockname()[1]
        return link

    async def _set(self, link: Link, state: State) -> None:
        link.state = state
        for event, passes in ((link.forth, state in ("open", "deaf")), (link.back, state == "open")):
            if passes:
                event.set()
            else:
                event.clear()
        if state == "cut":
            for writer in list(link.writers):
                writer.transport.abort()
            link.forth.set()  # so that what waits finds its connection gone
            link.back.set()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            if link.state == "cut":
                return
            far_reader, far = await asyncio.open_connection(LOOPBACK, link.target)
            link.writers |= {writer, far}
            between = _Between(link)
            # Where one side ends, both do: nobody here uses half a connection.
            pipes = [
                asyncio.ensure_future(_pipe(reader, far, link.forth, between.request)),
                asyncio.ensure_future(_pipe(far_reader, writer, link.back, between.answer)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        except OSError:
            pass  # the server is down: its client finds the connection closed
        finally:
            for one in (writer, far):
                if one is not None:
                    link.writers.discard(one)
                    one.close()
                    with contextlib.suppress(OSError):
                        await one.wait_closed()


class _Between:
    """What the relay makes of the requests and answers of one connection; ``None`` ends the connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._age = link.age
        self._asked = b""
        self._waiting = b""
        self._ended = False

    def request(self, data: bytes) -> bytes | None:
        self._asked += data
        if self._age != self._link.age:
            return None
        return data if self._link.inspect is None else self._inspected(data, self._link.inspect)

    def _inspected(self, data: bytes, inspect: Callable[[bytes], None]) -> bytes:
        """What may be passed on: whole requests only."""
        self._waiting += data
        head, end, body = self._waiting.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        if not end or len(body) < int(length[1] if length else 0):
            return b""
        whole, self._waiting = self._waiting, b""
        if head.startswith(b"POST /v3/kv/txn "):
            inspect(body)
        return whole

    def answer(self, data: bytes) -> bytes | None:
        asked, self._asked = self._asked, b""
        writes = b"POST /v3/kv/txn" in asked and b'"request_put"' in asked
        self._link.writes += writes
        if self._ended:
            return None
        if not writes or self._link.error is None or self._link.writes % 2:
            return data
        self._ended = True
        code, words = self._link.error
        body = json.dumps({"error": words, "code": code, "message": words}).encode()
        return b"HTTP/1.1 503 -\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _pipe(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    passes: asyncio.Event,
    change: Callable[[bytes], bytes | None],
) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            await passes.wait()
            changed = change(data)
            if changed is None:
                return
            sink.write(changed)
            await sink.drain()
