"""The session through which etcd3gw's client speaks, in the place of its own: one warm connection, by ``http.client``.

A session of ``requests`` costs each call 0.4 to 0.9 ms more, and each ref of a push pays for one. This one looks at no proxy of the
environment and at no netrc, and follows no redirect.
"""

from __future__ import annotations

import json as encoder
import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from piehole.etcd.endpoint import Credentials, Endpoint

_JSON: Final = {"Content-Type": "application/json"}


class HttpAnswer:
    """What etcd3gw reads of an answer. One that is streamed is read by :meth:`lines`."""

    def __init__(self, connection: socket.socket, response: HTTPResponse) -> None:
        """:raises HTTPException: it is none"""
        if response.status < 200:  # http.client skips 100 only; the answer itself is still to come
            raise HTTPException(f"an answer with the status {response.status}")
        self.status_code = response.status
        self.reason = response.reason
        self._response = response
        self._connection = connection
        self._body: bytes | None = None

    @property
    def text(self) -> str:
        return self.read().decode("utf-8", "replace")

    def json(self) -> Any:
        """:raises ValueError: it is none"""
        return encoder.loads(self.read())

    def read(self) -> bytes:
        """All of it, so that the connection is free for the next call."""
        if self._body is None:
            self._body = self._response.read()
        return self._body

    def lines(self) -> Iterator[bytes]:
        """Each line as it comes, until the other side ends."""
        while line := self._response.readline():
            yield line

    def shut(self) -> None:
        """End the reading in another thread."""
        # Not SSLSocket's own, which first takes away what the reader uses: it would go on to read what is encrypted.
        socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


class HttpSession:
    """One connection to one member, for one call after the other. Not safe to share between threads.

    ``sent``: whether the last call may have reached the member.
    """

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._connection: HTTPConnection | None = None
        self.sent = False

    def post(
        self, url: str, *, json: object, headers: Mapping[str, str], timeout: tuple[float, float], stream: bool = False
    ) -> HttpAnswer:
        """
        :param timeout: seconds for connecting, and for each read
        :raises OSError, http.client.HTTPException: no answer, or no HTTP
        """
        self.sent = False
        try:
            connection = self._connected(*timeout)
            self.sent = True
            connection.request("POST", urlsplit(url).path, encoder.dumps(json).encode(), {**_JSON, **headers})
            answer = HttpAnswer(connection.sock, connection.getresponse())
            if not stream:
                answer.read()
        except BaseException:
            self.close()  # what is still to come would be taken for the next call's answer
            raise
        return answer

    def __del__(self) -> None:
        self.close()  # as those of requests end with whoever held them

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, connect: float, read: float) -> HTTPConnection:
        if self._connection is None or self._connection.sock is None or _has_ended(self._connection.sock):
            self.close()
            self._connection = self._new(connect)
            self._connection.connect()
        self._connection.sock.settimeout(read)
        return self._connection

    def _new(self, timeout: float) -> HTTPConnection:
        """The certificates are read for each connection, so renewed ones count without a restart."""
        host, port = self._endpoint.host, self._endpoint.port
        if self._endpoint.scheme == "http":
            return HTTPConnection(host, port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._credentials.ca)
        if self._credentials.cert:
            context.load_cert_chain(self._credentials.cert, self._credentials.key, password=_no_pass_phrase)
        return HTTPSConnection(host, port, timeout=timeout, context=context)


def _no_pass_phrase() -> str:
    """Else OpenSSL would ask for it at the terminal, and wait."""
    raise ssl.SSLError("piehole.etcdKey is encrypted")


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it; one that speaks unasked is of no use, either."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
