"""etcd's authentication is switched on and off, and tokens end, under pushes: none is refused, and no site stops replicating."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import OwnEtcd
from tests.etcd.proxy import refusing_status, token_proxy_to
from tests.support.assertions import accepted
from tests.support.etcd import EtcdProcess
from tests.support.git import MAIN, commit, push
from tests.support.groups import Group, MakeGroup

pytestmark = pytest.mark.etcd_versions

_ROOT_END = "cA=="  # every key that begins with "/": the range from "/" to "p"


def add_users(member: EtcdProcess) -> None:
    """Root, and the user ``site`` with the password ``open``, who may use all keys from ``/`` on. Authentication stays off."""
    for name, password in (("root", "root"), ("site", "open")):
        member.raw.call("/auth/user/add", {"name": name, "password": password})
        member.raw.call("/auth/role/add", {"name": name})
        member.raw.call("/auth/user/grant", {"user": name, "role": name})
    permission = {"permType": "READWRITE", "key": "Lw==", "range_end": _ROOT_END}
    member.raw.call("/auth/role/grant", {"name": "site", "perm": permission})


@pytest.fixture
def member(own_etcd: OwnEtcd) -> EtcdProcess:
    made = own_etcd()
    add_users(made)
    return made


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("open\n")
    return file


def with_login(password: Path) -> dict[str, str]:
    return {"piehole.etcdUser": "site", "piehole.etcdPasswordFile": str(password)}


def pushed_everywhere(group: Group, work: Path, site: int) -> None:
    oid = commit(work, f"at {time.monotonic()}")
    accepted(push(work, group[site].repository, "HEAD:main"))
    group.arrives(MAIN, oid)


def test_authentication_is_switched_on_and_off_and_on_again_while_pushes_go_on(
    make_group: MakeGroup, member: EtcdProcess, password: Path
) -> None:
    group = make_group(2, etcd=member, settings=with_login(password))
    work = group.clone(group[0].repository)
    pushed_everywhere(group, work, 0)
    assert "authentication is off" in str(group[0].piehole("check", check=False))
    for _ in range(2):
        member.raw.call("/auth/enable", {})
        root = member.raw.login("root", "root")
        pushed_everywhere(group, work, 0)
        pushed_everywhere(group, work, 1)
        assert "authentication is off" not in str(group[0].piehole("check", check=False))
        root.call("/auth/disable", {})
        pushed_everywhere(group, work, 1)
        pushed_everywhere(group, work, 0)
    for site in group:
        assert "halted" not in site.log_text()


def test_authentication_is_switched_on_for_controllers_that_start_and_sites_that_have_none(
    make_group: MakeGroup, member: EtcdProcess, password: Path
) -> None:
    """A hook that decides alone has no token from before: each push is a login of its own, in whichever state etcd is."""
    group = make_group(1, etcd=member, settings=with_login(password), started=False)
    work = group.clone(group[0].repository)
    for path in ("", "/auth/enable", "/auth/disable"):
        if path:
            raw = member.raw if path.endswith("enable") else member.raw.login("root", "root")
            raw.call(path, {})
        commit(work, f"after {path}")
        accepted(push(work, group[0].repository, "HEAD:main"))


def test_an_old_token_that_is_answered_by_a_closed_connection_is_replaced(
    make_group: MakeGroup, member: EtcdProcess, password: Path
) -> None:
    """etcd-io/etcd#15256: the proxy closes a connection without a byte if its token is not the newest of this member."""
    member.raw.call("/auth/enable", {})
    with token_proxy_to(member.endpoint) as proxy:
        group = make_group(2, endpoints=[proxy.endpoint], settings=with_login(password))
        group.etcd = member.raw.login("root", "root")
        work = group.clone(group[0].repository)
        for site in (0, 1, 0, 1):
            proxy.forget_tokens()
            pushed_everywhere(group, work, site)
        assert proxy.closed > 4  # it did what the reports tell


def test_a_member_that_tells_its_status_to_root_only_is_sound(world: Group) -> None:
    """etcd 3.5.30 refuses /maintenance/status to other users (replayed: its answer)."""
    site = world["a"].build()
    with refusing_status(world.endpoints[0]) as endpoint, world.answering():
        answer = site.piehole("check", "--etcd", endpoint, check=False)
    assert "does not tell this user its version" in answer.out
    assert "fault: etcd" not in answer.out
    assert answer.status == 0
