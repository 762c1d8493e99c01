"""etcd seen with independent eyes: the JSON gateway over ``http.client``, sharing no code with piehole.

Errors are raised as ``RawEtcdError``; nothing is retried and nothing is cached.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_IDLE_SECONDS = 0.5


class RawEtcdError(Exception):
    """etcd answered with something else than 200, or not at all."""


@dataclass(frozen=True)
class Change:
    """One change of one key: ``value`` is None for a deletion of the key itself."""

    revision: int
    value: str | None


@dataclass(frozen=True)
class KeyValue:
    """A key's present value and its three counters."""

    value: str
    create_revision: int
    mod_revision: int
    version: int


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="surrogateescape")


def _end_of(prefix: str) -> str:
    """The range end of all keys that begin with ``prefix`` (whose last byte is below 0xff, as in all UTF-8)."""
    raw = prefix.encode()
    return base64.b64encode(raw[:-1] + bytes([raw[-1] + 1])).decode()


class RawEtcd:
    """A client of one endpoint, ``http://host:port`` or, with a TLS context, ``https://host:port``."""

    def __init__(self, endpoint: str, *, context: ssl.SSLContext | None = None, token: str = "") -> None:
        self.endpoint = endpoint
        self._context = context
        self._token = token

    def call(self, path: str, body: dict[str, Any], *, timeout: float = 5.0) -> dict[str, Any]:
        """POST ``body`` to ``/v3`` + ``path`` and return the answer."""
        with self._post(path, json.dumps(body), timeout) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    def put(self, key: str, value: str, *, lease: int = 0) -> int:
        """Store a value; returns the revision."""
        body = {"key": _b64(key), "value": _b64(value), "lease": str(lease)}
        return int(self.call("/kv/put", body)["header"]["revision"])

    def change(self, puts: Mapping[str, str], deletes: Sequence[str]) -> int:
        """Store values and delete keys (those that end with ``/``: all below them) in one transaction; returns its revision."""
        operations: list[dict[str, Any]] = [
            {"request_put": {"key": _b64(key), "value": _b64(value)}} for key, value in puts.items()
        ]
        for key in deletes:
            end = {"range_end": _end_of(key)} if key.endswith("/") else {}
            operations.append({"request_delete_range": {"key": _b64(key), **end}})
        return int(self.call("/kv/txn", {"success": operations})["header"]["revision"])

    def get(self, key: str) -> str | None:
        """The value, or None where there is no key (linearizable)."""
        found = self.look(key)
        return found.value if found else None

    def look(self, key: str) -> KeyValue | None:
        """The value with its counters."""
        return self._range({"key": _b64(key)}).get(key)

    def get_prefix(self, prefix: str) -> dict[str, str]:
        """Every key that begins with ``prefix``, and its value."""
        return {key: found.value for key, found in self.look_prefix(prefix).items()}

    def look_prefix(self, prefix: str) -> dict[str, KeyValue]:
        """Every key that begins with ``prefix``, with its counters."""
        return self._range({"key": _b64(prefix), "range_end": _end_of(prefix)})

    def delete(self, key: str) -> int:
        """Delete one key; returns how many there were (0 or 1)."""
        return int(self.call("/kv/deleterange", {"key": _b64(key)}).get("deleted", 0))

    def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``; returns how many there were."""
        body = {"key": _b64(prefix), "range_end": _end_of(prefix)}
        return int(self.call("/kv/deleterange", body).get("deleted", 0))

    def revision(self) -> int:
        """The cluster's revision (linearizable: it fails without a quorum)."""
        return int(self.call("/kv/range", {"key": _b64("\0"), "count_only": True})["header"]["revision"])

    def history(self, key: str, since: int = 0) -> list[Change]:
        """Every change of the key after revision ``since``, oldest first.

        :raises RawEtcdError: part of it was compacted
        """
        now = self.look(key)
        watch = {"create_request": {"key": _b64(key), "start_revision": since + 1}}
        changes: list[Change] = []
        with self._post("/watch", json.dumps(watch), _IDLE_SECONDS) as response:
            # A key that is there now tells where its history ends; else silence has to.
            while now is None or (
                now.mod_revision > since and (not changes or changes[-1].revision < now.mod_revision)
            ):
                try:
                    line = response.readline()
                except TimeoutError:
                    break
                result = json.loads(line).get("result", {})
                if result.get("canceled"):
                    raise RawEtcdError(f"no history of {key} after {since}: {result}")
                changes += [self._change(event) for event in result.get("events", ())]
        return changes

    def compact(self, revision: int) -> None:
        """Forget all history before ``revision``."""
        self.call("/kv/compaction", {"revision": str(revision), "physical": True})

    def status(self) -> dict[str, Any]:
        """The member's own view: version, leader, raftTerm, header.member_id …"""
        return self.call("/maintenance/status", {})

    def health(self) -> bool:
        """Does ``/health`` say that this member serves, with a leader? False also where nobody answers."""
        try:
            with self._request("GET", "/health", None, 2.0) as response:
                return response.status == 200 and json.loads(response.read()).get("health") == "true"
        except RawEtcdError:
            return False

    def login(self, user: str, password: str) -> RawEtcd:
        """The same endpoint with that user's token."""
        answer = self.call("/auth/authenticate", {"name": user, "password": password})
        return RawEtcd(self.endpoint, context=self._context, token=answer["token"])

    @staticmethod
    def _change(event: dict[str, Any]) -> Change:
        deleted = event.get("type") == "DELETE"
        return Change(int(event["kv"]["mod_revision"]), None if deleted else _text(event["kv"].get("value", "")))

    def _range(self, body: dict[str, Any]) -> dict[str, KeyValue]:
        return {
            _text(kv["key"]): KeyValue(
                _text(kv.get("value", "")), int(kv["create_revision"]), int(kv["mod_revision"]), int(kv["version"])
            )
            for kv in self.call("/kv/range", body).get("kvs", ())
        }

    @contextmanager
    def _post(self, path: str, body: str, timeout: float) -> Iterator[http.client.HTTPResponse]:
        with self._request("POST", f"/v3{path}", body, timeout) as response:
            if response.status != 200:
                raise RawEtcdError(f"{path}: {response.status} {response.read().decode(errors='replace')}")
            yield response

    @contextmanager
    def _request(self, method: str, path: str, body: str | None, timeout: float) -> Iterator[http.client.HTTPResponse]:
        netloc = urlsplit(self.endpoint).netloc
        connection: http.client.HTTPConnection
        if self._context is not None:
            connection = http.client.HTTPSConnection(netloc, timeout=timeout, context=self._context)
        else:
            connection = http.client.HTTPConnection(netloc, timeout=timeout)
        headers = {"Authorization": self._token} if self._token else {}
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise RawEtcdError(f"{self.endpoint}{path}: {error or type(error).__name__}") from error
        try:
            with response:
                yield response
        finally:
            connection.close()
