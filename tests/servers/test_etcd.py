"""Three members over TLS, with passwords: what fails, and what is said then."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.servers.conftest import TOKEN_SECONDS
from tests.support.assertions import accepted, refused
from tests.support.git import MAIN
from tests.support.wait import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_STRANGERS_CA = "/etc/piehole/strangers-ca.pem"


def _says(server: Server, *words: str, status: int) -> str:
    """What a command that needs etcd says at this server."""
    done = server.piehole("sites", "-C", REPOSITORY, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    for word in words:
        assert word in said, said
    return said


def test_one_member_down_keeps_pushes_working_at_every_server(bed: ThreeServers, clone: str) -> None:
    bed.servers[2].host.systemctl("stop", "etcd")
    for server in bed:
        oid = bed.laptop.commit(clone, f"one member is down, to {server.site}")
        accepted(bed.laptop.push(clone, server.ssh))
        bed.arrives(MAIN, oid)


def test_two_members_down_refuse_pushes_in_words_until_one_is_back(bed: ThreeServers, clone: str) -> None:
    oslo, lima, kyoto = bed.servers
    for server in (lima, kyoto):
        server.host.systemctl("stop", "etcd")
    oslo.wait_leaderless()
    oid = bed.laptop.commit(clone, "two members are down")
    refused(bed.laptop.push(clone, oslo.ssh), "no-quorum")
    assert oslo.at() != oid
    assert MAIN in bed.laptop.git(clone, "ls-remote", lima.https).stdout
    lima.host.systemctl("start", "etcd")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.arrives(MAIN, oid)


def test_a_login_that_has_expired_is_renewed_without_a_word(bed: ThreeServers, clone: str) -> None:
    oslo = bed.servers[0]
    oid = bed.laptop.commit(clone, "with a fresh login")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.arrives(MAIN, oid)
    deleted = '"deleted a simple token","user-name":"oslo"'
    before = sum(server.host.log_of("etcd").count(deleted) for server in bed)
    time.sleep(TOKEN_SECONDS)  # as long as etcd keeps an unused token

    def expired() -> bool:
        return sum(server.host.log_of("etcd").count(deleted) for server in bed) > before

    until(expired, 4 * TOKEN_SECONDS, "oslo's login expires")
    oid = bed.laptop.commit(clone, "the login has expired")
    accepted(bed.laptop.push(clone, oslo.ssh))
    bed.arrives(MAIN, oid)


def test_a_wrong_authority_is_said_with_its_mend(bed: ThreeServers, tmp_path: Path) -> None:
    oslo = bed.servers[0]
    bed.make_keys(tmp_path / "pki")
    oslo.host.write(_STRANGERS_CA, (tmp_path / "pki" / "authority" / "ca.pem").read_text())
    oslo.host.run("git", "config", "--system", "piehole.etcdCA", _STRANGERS_CA)
    try:
        _says(oslo, "certificate", "piehole.etcdCA", status=3)
    finally:
        oslo.host.run("git", "config", "--system", "piehole.etcdCA", "/etc/piehole/ca.pem")


def test_a_changed_password_is_said_with_its_mend_and_a_new_file_needs_no_restart(
    bed: ThreeServers, clone: str
) -> None:
    oslo, lima, _ = bed.servers
    file = lima.host.path("/etc/piehole/etcd-password")
    old = file.read_text()
    oslo.etcdctl("user", "passwd", "lima", "--interactive=false", root=True, stdin="another\n")
    try:
        _says(lima, "piehole.etcdPasswordFile", status=1)
        bed.laptop.commit(clone, "with the password of yesterday")
        assert "piehole.etcdPasswordFile" in refused(bed.laptop.push(clone, lima.ssh), "no-access")
        file.write_text("another\n")
        accepted(bed.laptop.push(clone, lima.ssh))
    finally:
        oslo.etcdctl("user", "passwd", "lima", "--interactive=false", root=True, stdin=old)
        file.write_text(old)


def test_a_missing_role_is_said_with_its_mend(bed: ThreeServers, clone: str) -> None:
    oslo, lima, _ = bed.servers
    oslo.etcdctl("user", "revoke-role", "lima", "piehole", root=True)
    try:
        _says(lima, "permission denied", "role", "prefix", status=1)
        bed.laptop.commit(clone, "without a role")
        assert "role" in refused(bed.laptop.push(clone, lima.ssh), "no-access")
    finally:
        oslo.etcdctl("user", "grant-role", "lima", "piehole", root=True)
    accepted(bed.laptop.push(clone, lima.ssh))


def test_a_missing_client_certificate_is_said_with_its_mend(bed: ThreeServers) -> None:
    oslo = bed.servers[0]
    for name in ("etcdCert", "etcdKey"):
        oslo.host.run("git", "config", "--system", "--unset", f"piehole.{name}")
    try:
        _says(oslo, "certificate", "piehole.etcdCert", status=3)
    finally:
        oslo.host.run("git", "config", "--system", "piehole.etcdCert", "/etc/piehole/client.pem")
        oslo.host.run("git", "config", "--system", "piehole.etcdKey", "/etc/piehole/client-key.pem")


def _reissue(bed: ThreeServers, tmp_path: Path, name: str, days: int) -> Path:
    """Another certificate of the same authority for oslo, ; its folder."""
    made = tmp_path / "pki"
    shutil.copytree(bed.folder / "pki", made)
    (made / "oslo" / f"{name}.pem").unlink()
    bed.make_keys(made, "--days", str(days))
    return made / "oslo"


def test_an_expired_client_certificate_is_said_with_its_mend(bed: ThreeServers, tmp_path: Path) -> None:
    oslo = bed.servers[0]
    expired = _reissue(bed, tmp_path, "client", 0)
    time.sleep(1.1)  # it is valid for the second in which it was made
    names = [f"/etc/piehole/expired{suffix}.pem" for suffix in ("", "-key")]
    for name in names:
        oslo.host.write(name, (expired / Path(name).name.replace("expired", "client")).read_text(), mode=0o400)
        oslo.host.run("chown", "git:git", name)
    try:
        oslo.host.run("git", "config", "--system", "piehole.etcdCert", "/etc/piehole/expired.pem")
        oslo.host.run("git", "config", "--system", "piehole.etcdKey", "/etc/piehole/expired-key.pem")
        _says(oslo, "bad certificate", "piehole.etcdCert", "not expired", status=3)
    finally:
        oslo.host.run("git", "config", "--system", "piehole.etcdCert", "/etc/piehole/client.pem")
        oslo.host.run("git", "config", "--system", "piehole.etcdKey", "/etc/piehole/client-key.pem")
        oslo.host.run("rm", *names)


def test_an_expired_certificate_of_etcd_is_said_and_the_other_members_are_asked(
    bed: ThreeServers, clone: str, tmp_path: Path
) -> None:
    oslo = bed.servers[0]
    files = [oslo.host.path(f"/etc/piehole/server{suffix}.pem") for suffix in ("", "-key")]
    before = [file.read_bytes() for file in files]
    expired = _reissue(bed, tmp_path, "server", 0)
    for file in files:  # etcd reads them anew for each connection
        file.write_bytes((expired / file.name).read_bytes())
    time.sleep(1.1)  # it is valid for the second in which it was made
    try:
        said = oslo.piehole("check", REPOSITORY, check=False).stdout
        assert "certificate has expired" in said
        assert "renew the certificate" in said
        bed.laptop.commit(clone, "by way of the other members")
        accepted(bed.laptop.push(clone, oslo.ssh))
    finally:
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)
