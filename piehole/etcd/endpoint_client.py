"""One endpoint of etcd: its warm connections, the login, and the classification of every error on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from json import JSONDecodeError
from typing import Final, TypeVar

from piehole.errors import EtcdError
from piehole.etcd import json_gateway
from piehole.etcd.endpoint import Credentials, Endpoint
from piehole.etcd.etcd3gw_light import Etcd3Client, Etcd3Exception
from piehole.etcd.http_session import HttpAnswer, HttpSession
from piehole.etcd.json_gateway import Inconclusive, Json, NotEnabled, TokenRefused

CONNECT_SECONDS: Final = 1.0
# A member without a leader then refuses at once, and ends a watch, instead of letting the caller wait.
_HEADERS: Final = {"Grpc-Metadata-hasleader": "true"}

# OpenSSL's words for a failed handshake (lower case, spaces for underscores) and what to do. The first match counts.
_TLS_ADVICE: Final = (
    ("certificate has expired", "renew the certificate, or correct the clock"),
    ("certificate is not yet valid", "correct the clock, or renew the certificate"),
    (
        "hostname mismatch",
        "write the endpoint in piehole.etcd as etcd's certificate names it, or make one that names it",
    ),
    (
        "ip address mismatch",
        "write the endpoint in piehole.etcd as etcd's certificate names it, or make one that names it",
    ),
    ("certificate verify failed", "set piehole.etcdCA to the certificates that sign etcd's"),
    # etcd says no more than that of an expired certificate, either.
    (
        "bad certificate",
        "set piehole.etcdCert and piehole.etcdKey to a certificate that etcd's authority has signed and that has not expired",
    ),
    ("certificate required", "set piehole.etcdCert and piehole.etcdKey: etcd asks for a client certificate"),
    ("unknown ca", "set piehole.etcdCert and piehole.etcdKey to a certificate that etcd's authority has signed"),
    ("is encrypted", "take away its pass phrase: nobody is there to type it"),
    ("wrong version number", "etcd does not speak TLS there: write http:// in piehole.etcd, or correct the port"),
)

T = TypeVar("T")


class _Connection:
    """etcd3gw's client with our HTTP session in place of its own, and the timeouts of the current call."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self.session = HttpSession(endpoint, credentials)
        self.client = Etcd3Client(
            endpoint.host,
            endpoint.port,
            protocol=endpoint.scheme,
            api_path="/v3/",  # else it would ask for the version first
            session=self.session,  # type: ignore[arg-type]  # it only calls post
        )
        self.connect = self.read = 0.0

    def set_timeout(self, seconds: float) -> None:
        self.connect, self.read = min(CONNECT_SECONDS, seconds), seconds
        self.client.timeout = (self.connect, self.read)  # type: ignore[assignment]  # passed on to the session


class EndpointClient:
    """The client of one endpoint, safe to use from many threads: each call borrows a connection of its own.

    The connection that was returned last is borrowed first. A token is kept until etcd refuses it, or a call with it gets no answer;
    then a new login is made. While etcd's authentication is off, the calls carry no token, as etcd wants none.
    """

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self.name = str(endpoint)
        self._endpoint = endpoint
        self._credentials = credentials
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False
        self._token: str | None = None

    def call(self, path: str, body: Json, *, timeout: float) -> Json:
        """POST, and return the JSON object of the answer.

        :param timeout: seconds for the answer; connecting takes at most CONNECT_SECONDS of it
        :raises Inconclusive: there is no definite answer
        :raises EtcdRefused, Compacted: the answer is a refusal; nothing was changed
        :raises EtcdFull: etcd has no space left; what was sent was applied or never will be
        """

        def post(connection: _Connection, headers: dict[str, str]) -> Json:
            return self._post(connection, path, body, headers)

        with self._borrowed(timeout) as connection:
            return self._logged_in(connection, post)

    @contextmanager
    def stream(self, path: str, body: Json, *, idle: float) -> Iterator[HttpAnswer]:
        """POST, and give the response to read as it arrives, on a connection that nobody else uses.

        :param idle: seconds of silence, also before the first byte, after which reading fails
        :raises Inconclusive, EtcdRefused: as ``call``
        """
        connection = self._connect()
        connection.set_timeout(idle)

        def post(connection: _Connection, headers: dict[str, str]) -> HttpAnswer:
            return self._post_for_stream(connection, path, body, headers)

        try:
            yield self._logged_in(connection, post)
        finally:
            connection.session.close()

    def forget_login(self) -> bool:
        """Log in again before the next call. Returns False where no login is configured."""
        with self._lock:
            self._token = None
        return self._credentials.user is not None

    @property
    def needs_no_login(self) -> bool:
        """Whether a login is configured, and the last one was answered that etcd's authentication is off."""
        return self._token == ""

    def close(self) -> None:
        """Close the idle connections now, and every borrowed one when it is returned."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.session.close()

    # ---- connections

    @contextmanager
    def _borrowed(self, timeout: float) -> Iterator[_Connection]:
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        connection = idle or self._connect()
        connection.set_timeout(timeout)
        try:
            yield connection
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.session.close()

    def _connect(self) -> _Connection:
        self._credentials.check_readable()
        return _Connection(self._endpoint, self._credentials)

    # ---- the login

    def _logged_in(self, connection: _Connection, post: Callable[[_Connection, dict[str, str]], T]) -> T:
        if self._credentials.user is None:
            return post(connection, _HEADERS)
        token = self._token  # another thread may log in at the same time: then both tokens are valid
        if token is not None:
            try:
                return post(connection, _with(token))
            except TokenRefused:
                pass  # nothing was applied, so asking again is safe
            except Inconclusive as inconclusive:
                if inconclusive.kind != "undecided":
                    # Some versions answer an old token by closing the connection (etcd-io/etcd#15256).
                    self.forget_login()
                raise
        try:
            return post(connection, _with(self._login(connection)))
        except TokenRefused:
            pass  # authentication was switched on, or a user or role was changed, after this login
        try:
            return post(connection, _with(self._login(connection)))
        except TokenRefused as refused:
            if json_gateway.NO_TOKENS not in str(refused):
                raise
            # A member that came back by a snapshot may know no token, not even its own, until it is started again. Others do.
            raise Inconclusive(str(refused), sent=False, kind="undecided") from refused

    def _login(self, connection: _Connection) -> str:
        """Get a token; ``""`` while etcd's authentication is off, which asks for none."""
        body = {"name": self._credentials.user, "password": self._credentials.password()}
        try:
            token = str(self._post(connection, "/auth/authenticate", body, _HEADERS)["token"])
        except Inconclusive as inconclusive:
            raise Inconclusive(f"login: {inconclusive.reason}", sent=False) from inconclusive
        except KeyError as error:
            raise Inconclusive("login: no token in the answer", sent=False) from error
        except NotEnabled:
            token = ""
        self._token = token
        return token

    # ---- one request

    def _post(self, connection: _Connection, path: str, body: Json, headers: dict[str, str]) -> Json:
        try:
            answer = connection.client.post(connection.client.get_url(path), json=body, headers=headers)
        except (Etcd3Exception, HTTPException, OSError, ValueError) as error:
            raise self._judge(error, connection) from error
        if not isinstance(answer, dict):
            raise json_gateway.foreign(str(answer))
        return answer

    def _post_for_stream(self, connection: _Connection, path: str, body: Json, headers: dict[str, str]) -> HttpAnswer:
        try:
            answer = connection.session.post(
                connection.client.get_url(path),
                json=body,
                headers=headers,
                timeout=(connection.connect, connection.read),
                stream=True,
            )
            if answer.status_code == 200:
                return answer
            refused = answer.text
        except (HTTPException, OSError, ValueError) as error:
            raise self._judge(error, connection) from error
        raise json_gateway.refusal(self.name, refused)

    def _judge(self, error: Exception, connection: _Connection) -> EtcdError | Inconclusive:
        if isinstance(error, Etcd3Exception):  # an answer that is not 200
            return json_gateway.refusal(self.name, error.detail_text or "")
        sent = connection.session.sent
        if isinstance(error, TimeoutError):
            said = (
                f"no answer within {connection.read:.3g} s"
                if sent
                else f"no connection within {connection.connect:.3g} s"
            )
            return Inconclusive(said, sent=sent)
        if isinstance(error, JSONDecodeError | UnicodeDecodeError):
            return Inconclusive("does not speak etcd's v3 JSON", sent=sent, kind="foreign")
        return Inconclusive(describe(error), sent=sent)


def _with(token: str) -> dict[str, str]:
    return {**_HEADERS, "Authorization": token} if token else _HEADERS


def describe(error: Exception) -> str:
    """The error in a few words, with advice where there is some."""
    said = ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__)[:200]
    advice = next((advice for part, advice in _TLS_ADVICE if part in said.lower().replace("_", " ")), "")
    return f"{said} ({advice})" if advice else said
