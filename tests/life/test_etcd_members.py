"""Members of etcd come and go while pushes go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import OwnCluster
from tests.guide.runner import Page
from tests.life.bed import Life, begun, live
from tests.support import git
from tests.support.assertions import accepted
from tests.support.etcd import EtcdCluster, EtcdOptions, EtcdProcess, find_etcdctl
from tests.support.git import MAIN
from tests.support.groups import MakeGroup
from tests.support.ports import LOOPBACK, free_ports
from tests.support.wait import PATIENCE, until

MORE, USED = "More members of etcd", "Use a new member"
_SITES = ("oslo", "lima")


def _etcdctl(binary: Path) -> Path:
    found = find_etcdctl(binary)
    if found is None:
        pytest.skip("no etcdctl on this machine")
    return found


def _push(life: Life, work: Path, message: str) -> None:
    for site in life.group:
        oid = git.commit(work, f"{message}, to {site.name}")
        accepted(git.push(work, site.repository, "HEAD:main"))
        life.group.arrives(MAIN, oid, timeout=PATIENCE)


def _added(life: Life, words: dict[str, str]) -> None:
    """`etcdctl member add`, until etcd takes it: the members must have been connected for five seconds."""
    page = Page("docs/guides/sites.md", MORE)

    def done() -> bool:
        try:
            page.run({"root@oslo#": life.admin.place(life["oslo"], words)}, sections=[MORE])
        except AssertionError as error:
            if "unhealthy cluster" not in str(error):
                raise
            return False
        return True

    until(done, PATIENCE, "etcd takes another member")


def _joining(
    cluster: EtcdCluster, folder: Path, name: str, ports: tuple[int, int], *, members: list[EtcdProcess]
) -> EtcdProcess:
    """A member that has been added to the others, with an empty data directory."""
    options = EtcdOptions(extra=("--initial-cluster-state=existing",))
    peers = {one.name: one.peer_url for one in members} | {name: f"http://{LOOPBACK}:{ports[1]}"}
    binary, token = cluster.members[0].binary, cluster.members[0].token
    return EtcdProcess(binary, folder / name, name=name, options=options, ports=ports, cluster=peers, token=token)


@pytest.mark.slow
@pytest.mark.page("docs/guides/sites.md", "A member of etcd is replaced")
def test_a_member_whose_disk_was_lost_is_replaced_and_piehole_needs_nothing(
    make_group: MakeGroup, own_cluster: OwnCluster, tmp_path: Path, page: Page
) -> None:
    cluster = own_cluster(3)
    lost, *living = cluster.members
    life = live(make_group, tmp_path, _SITES, endpoints=cluster.endpoints)
    work = begun(life)
    lost.kill()
    lost.wipe()
    life.admin.use_etcdctl(_etcdctl(lost.binary), living[0].endpoint)
    _push(life, work, "one member is lost")
    page.run({"root@oslo#": life.admin.place(life["oslo"], {"replace.sh lima": f"replace.sh {lost.name}"})})
    again = life.admin.run(life["oslo"], "sh deploy/etcd-replace.sh nobody", check=False)
    assert (again.returncode, "give its peer URL" in again.stderr) == (1, True)
    new = _joining(cluster, tmp_path / "new", lost.name, lost.ports, members=living)
    try:
        new.launch()
        new.wait_healthy()
        _push(life, work, "it is replaced")
        living[0].kill()  # now the new one is needed for a majority
        _push(life, work, "another one is gone")
        checked = life["oslo"].piehole("check", check=False).out
        assert living[0].endpoint in checked, "the endpoint that does not answer is named"
    finally:
        new.kill()


@pytest.mark.slow
@pytest.mark.page("docs/guides/sites.md", MORE, USED)
def test_a_fourth_and_a_fifth_member_are_added_and_used(
    make_group: MakeGroup, own_cluster: OwnCluster, tmp_path: Path, page: Page
) -> None:
    cluster = own_cluster(3)
    first = cluster.members[0]
    # piehole knows the first member alone, so that it must use the new ones once that is gone.
    life = live(make_group, tmp_path, _SITES, endpoints=[first.endpoint], locally=False)
    oslo, lima = life["oslo"], life["lima"]
    git.git(lima.repository, "config", "--add", "piehole.etcd", first.endpoint)
    work = begun(life)
    life.admin.use_etcdctl(_etcdctl(first.binary), first.endpoint)
    added: list[EtcdProcess] = []
    try:
        for name in ("quito", "perth"):
            client, peer = free_ports(2)
            words = {"https://quito.example.org:2380": f"http://{LOOPBACK}:{peer}", "quito": name}
            _added(life, words)
            known = [*cluster.members, *added]
            added.append(_joining(cluster, tmp_path / "new", name, (client, peer), members=known))
            added[-1].launch()
            added[-1].wait_healthy()
            _push(life, work, f"with {name}")
        assert oslo.controller is not None
        life.admin.reload_by_systemctl(oslo.controller)
        new = added[0].endpoint
        words = {"https://oslo.example.org:2379": first.endpoint, "https://quito.example.org:2379": new}
        page.run(
            {"root@oslo#": life.admin.place(oslo, words), "git@lima$": life.admin.place(lima, words)}, sections=[USED]
        )
        page.left.clear()  # what is below MORE was typed for each member
        for site in life.group:
            # It is one repository with another address, so it is left and served anew.
            site.wait_event("repository.left", PATIENCE)
        first.kill()
        life.group.etcd = added[0].raw
        for site in life.group:
            site.wait_event("etcd.connected", PATIENCE, endpoint=new)
        _push(life, work, "without the first one")
    finally:
        for member in added:
            member.kill()
