"""Which path of the controller's web server is answered by what. Knows no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

# Of every answer that does not say otherwise. A page names what it needs in a policy of its own.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class WebRequest:
    """``path`` and ``query`` are decoded; the names of headers are lower-case. HEAD is answered as GET, without the body."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, target: str, headers: Mapping[str, str]) -> WebRequest:
        """
        :raises ValueError: the target of the request is malformed
        """
        parts = urlsplit(target)
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(unquote(parts.path), dict(parse_qsl(parts.query, max_num_fields=32)), lower)


@dataclass(frozen=True, slots=True)
class WebResponse:
    """``body``: bytes, or a stream of parts, each of which is sent at once. A stream should yield something now and then (``b""`` too):
    only then it is seen that the client has gone, or that the server is stopping.
    """

    body: bytes | Generator[bytes, None, None]
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, words: str, status: HTTPStatus = HTTPStatus.OK) -> WebResponse:
        return cls(f"{words}\n".encode(errors="replace"), status=status)

    @classmethod
    def json(cls, value: Any) -> WebResponse:
        # Escaped to ASCII: the names of refs may hold bytes that are no UTF-8.
        return cls(json.dumps(value, separators=(",", ":")).encode(), "application/json")

    def all_headers(self) -> dict[str, str]:
        length = {"Content-Length": str(len(self.body))} if isinstance(self.body, bytes) else {}
        return {**_HEADERS, "Content-Type": self.type, **length, **self.headers}


Handler = Callable[[WebRequest], WebResponse]


class RouteTable:
    """Paths, each with what answers it. All are added before the server starts."""

    def __init__(self) -> None:
        self._exact: dict[str, Handler] = {}
        self._below: dict[str, Handler] = {}

    def add(self, path: str, handler: Handler) -> None:
        """Answer exactly this path or, where it ends with ``/`` and is not ``/`` alone, every path below it."""
        (self._below if path.endswith("/") and path != "/" else self._exact)[path] = handler

    def answer(self, request: WebRequest) -> WebResponse:
        handler = self._exact.get(request.path)
        if handler is None:
            below = [path for path in self._below if request.path.startswith(path)]
            handler = self._below[max(below, key=len)] if below else _not_found
        return handler(request)


def _not_found(_request: WebRequest) -> WebResponse:
    return WebResponse.text("There is nothing here.", HTTPStatus.NOT_FOUND)
