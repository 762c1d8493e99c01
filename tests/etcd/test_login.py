"""Users, tokens and certificates."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from piehole.deadline import Deadline
from piehole.errors import EtcdRefused, EtcdUnreachable, NoAccess
from piehole.etcd import json_gateway
from piehole.etcd.client import Credentials, Etcd
from piehole.etcd.endpoint_client import EndpointClient
from piehole.etcd.model import Put
from tests.conftest import OwnEtcd
from tests.etcd.conftest import Connect
from tests.support.etcd import EtcdOptions, EtcdProcess
from tests.support.etcd_raw import RawEtcd

pytestmark = pytest.mark.etcd_versions


def enable_auth(member: EtcdProcess) -> None:
    """Root, and the user ``site`` with the password ``open`` for all keys from ``p/`` to ``p0``."""
    call = member.raw.call
    for name, password in (("root", "root"), ("site", "open")):
        call("/auth/user/add", {"name": name, "password": password})
        call("/auth/role/add", {"name": name})
        call("/auth/user/grant", {"user": name, "role": name})
    permission = {"permType": "READWRITE", "key": "cC8=", "range_end": "cDA="}
    call("/auth/role/grant", {"name": "site", "perm": permission})
    call("/auth/enable", {})


def invalidate_tokens(member: EtcdProcess) -> None:
    """A change of its password, to the same one, ends all logins of a user."""
    root = member.raw.login("root", "root")
    root.call("/auth/user/changepw", {"name": "site", "password": "open"})


@pytest.fixture
def guarded(own_etcd: OwnEtcd) -> EtcdProcess:
    """A member that lets nobody in without a login."""
    member = own_etcd()
    enable_auth(member)
    return member


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("open\n")
    return file


@pytest.fixture
def site(password: Path) -> Credentials:
    return Credentials(user="site", password_file=str(password))


def put(client: Etcd, key: bytes, value: bytes = b"") -> int:
    return client.txn([], [Put(key, value)], deadline=Deadline(5)).revision


def test_a_login_opens_what_the_role_may_and_a_token_that_ended_is_replaced(
    connect: Connect, guarded: EtcdProcess, site: Credentials
) -> None:
    client = connect(guarded.endpoint, credentials=site)
    put(client, b"p/a", b"1")
    assert client.range(b"p/a", deadline=Deadline(5)).kvs[0].value == b"1"
    with pytest.raises(EtcdRefused, match=r"permission denied .*grant"):
        put(client, b"q")
    invalidate_tokens(guarded)
    after = put(client, b"p/a", b"2")
    invalidate_tokens(guarded)
    with client.watch(b"p/", after - 1, idle=5, head=client.head(b"p/", deadline=Deadline(5))) as watch:
        assert next(iter(watch)).revision == after
    assert client.first_change(b"p/a", after - 1, deadline=Deadline(5)) is not None
    assert client.status(b"p/", deadline=Deadline(5))[0].error == ""


def test_a_watch_logs_in_once_more_when_its_token_is_no_longer_good(
    connect: Connect, guarded: EtcdProcess, site: Credentials
) -> None:
    client = connect(guarded.endpoint, credentials=site)
    revision = put(client, b"p/a")
    head = client.head(b"p/", deadline=Deadline(5))
    invalidate_tokens(guarded)
    with client.watch(b"p/", revision - 1, idle=5, head=head) as watch:
        assert next(iter(watch)).revision == revision
    with pytest.raises(EtcdRefused, match="permission denied"), client.watch(b"q", 0, idle=5, head=head) as watch:
        next(iter(watch))


def test_a_member_that_refuses_the_tokens_it_gives_is_passed_over_and_its_mend_is_told(
    connect: Connect, guarded: EtcdProcess, site: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a member of etcd 3.5.1 does that has come back by a snapshot, until it is started again. Its answer is replayed."""
    sick = guarded.endpoint.replace("127.0.0.1", "localhost")
    post = EndpointClient._post

    def refuse(self: EndpointClient, connection: Any, path: str, body: Any, headers: dict[str, str]) -> Any:
        if self.name == sick and path != "/auth/authenticate":
            raise json_gateway.classify(self.name, 16, "etcdserver: invalid auth token")
        return post(self, connection, path, body, headers)

    monkeypatch.setattr(EndpointClient, "_post", refuse)
    put(connect(sick, guarded.endpoint, credentials=site), b"p/a", b"1")
    alone = connect(sick, credentials=site)
    with pytest.raises(EtcdUnreachable) as unreachable:
        alone.txn([], [Put(b"p/a", b"2")], deadline=Deadline(1))
    assert not unreachable.value.maybe_sent
    (told,) = alone.status(b"p/", deadline=Deadline(5))
    assert "invalid auth token (if it goes on, restart this member" in told.error


def test_what_is_wrong_with_a_login_is_told_with_its_mend(
    connect: Connect, guarded: EtcdProcess, site: Credentials, password: Path
) -> None:
    with pytest.raises(EtcdRefused, match=r"set piehole\.etcdUser"):
        put(connect(guarded.endpoint), b"p/a")
    password.write_text("wrong")
    with pytest.raises(EtcdRefused, match=r"password in piehole\.etcdPasswordFile"):
        put(connect(guarded.endpoint, credentials=site), b"p/a")
    password.unlink()
    with pytest.raises(NoAccess, match="cannot read the etcd credential"):
        put(connect(guarded.endpoint, credentials=site), b"p/a")


def test_a_login_that_fails_leaves_the_transaction_unsent(
    connect: Connect, guarded: EtcdProcess, site: Credentials
) -> None:
    client = connect(guarded.endpoint, credentials=site)
    guarded.pause()
    with pytest.raises(EtcdUnreachable, match="login: no answer") as unreachable:
        client.txn([], [Put(b"p/a", b"")], deadline=Deadline(0.5))
    assert not unreachable.value.maybe_sent


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate of 127.0.0.1 without CN that is good for servers and clients."""
    folder = tmp_path_factory.mktemp("certificates")
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test-ca", "-days", "2")
    openssl("req", "-new", *key, "-keyout", "site.key", "-out", "site.csr", "-subj", "/O=test")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", str(extensions))
    openssl("x509", "-req", "-in", "site.csr", "-out", "site.pem", *signing)
    return folder


def test_tls_is_spoken_with_our_certificate_and_a_stranger_is_not_trusted(
    connect: Connect, own_etcd: OwnEtcd, certificates: Path
) -> None:
    ca, cert, key = (str(certificates / name) for name in ("ca.pem", "site.pem", "site.key"))
    flags = [f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={ca}", "--client-cert-auth"]
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    member = own_etcd(options=EtcdOptions(extra=flags, scheme="https", context=context))
    assert isinstance(member.raw, RawEtcd)

    client = connect(member.endpoint, credentials=Credentials(ca=ca, cert=cert, key=key))
    revision = put(client, b"p/a", b"1")
    with client.watch(b"p/", revision - 1, idle=30) as watch:
        batches = iter(watch)
        assert next(batches).revision == revision
        watch.stop()
        assert list(batches) == []

    distrustful = connect(member.endpoint)
    with pytest.raises(EtcdUnreachable, match="certificate verify failed") as unreachable:
        distrustful.txn([], [Put(b"p/a", b"")], deadline=Deadline(0.3))
    assert not unreachable.value.maybe_sent
    with pytest.raises(EtcdUnreachable):  # the words differ: the refusal may come after the handshake
        connect(member.endpoint, credentials=Credentials(ca=ca)).range(b"p/a", deadline=Deadline(0.5))


def test_an_encrypted_key_is_said_and_nobody_is_asked_for_its_pass_phrase(
    connect: Connect, certificates: Path, tmp_path: Path
) -> None:
    key = str(tmp_path / "encrypted.key")
    given = ["-in", str(certificates / "site.key"), "-out", key, "-passout", "pass:secret"]
    subprocess.run(["openssl", "pkcs8", "-topk8", *given], check=True, capture_output=True, timeout=60)
    credentials = Credentials(ca=str(certificates / "ca.pem"), cert=str(certificates / "site.pem"), key=key)
    with pytest.raises(EtcdUnreachable, match=r"piehole\.etcdKey is encrypted") as unreachable:
        connect("https://127.0.0.1:1", credentials=credentials).txn([], [Put(b"p/a", b"")], deadline=Deadline(0.3))
    assert not unreachable.value.maybe_sent
