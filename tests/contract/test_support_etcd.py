"""The etcd helpers do what the tests that stand on them believe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import OwnCluster, OwnEtcd
from tests.support.etcd import EtcdProcess, etcd_version, find_etcdctl
from tests.support.etcd_raw import Change, RawEtcdError
from tests.support.wait import until


@pytest.mark.etcd_versions
def test_a_value_is_read_back_with_its_whole_history(etcd: EtcdProcess, prefix: str) -> None:
    key = f"{prefix}/é"
    first = etcd.raw.put(key, "one")
    second = etcd.raw.put(key, "zwei €")
    etcd.raw.delete(key)
    assert etcd.raw.get(key) is None
    fourth = etcd.raw.put(key, "four")

    assert etcd.raw.get(key) == "four"
    assert etcd.raw.get_prefix(prefix) == {key: "four"}
    history = etcd.raw.history(key)
    assert [change for change in history if change.value is not None] == [
        Change(first, "one"),
        Change(second, "zwei €"),
        Change(fourth, "four"),
    ]
    assert [change.value for change in history] == ["one", "zwei €", None, "four"]
    assert etcd.raw.history(key, since=fourth) == []


def test_history_of_a_deleted_key_ends_with_its_deletion(etcd: EtcdProcess, prefix: str) -> None:
    etcd.raw.put(f"{prefix}/key", "one")
    etcd.raw.delete(f"{prefix}/key")

    assert [change.value for change in etcd.raw.history(f"{prefix}/key")] == ["one", None]


def test_history_that_was_compacted_is_an_error_not_an_empty_answer(own_etcd: OwnEtcd) -> None:
    raw = own_etcd().raw
    raw.put("key", "one")
    raw.compact(raw.put("key", "two"))

    with pytest.raises(RawEtcdError, match="compact"):
        raw.history("key")


def test_tests_of_one_etcd_do_not_see_each_other(prefix: str, request: pytest.FixtureRequest) -> None:
    other: str = request.getfixturevalue("prefix")
    assert prefix == other
    assert prefix.startswith("/piehole-")
    assert len(prefix) > 30


@pytest.mark.etcd_versions
def test_the_marked_subset_runs_on_the_line_that_it_names(
    etcd: EtcdProcess, etcd_binary: Path, request: pytest.FixtureRequest
) -> None:
    line = request.node.callspec.params.get("etcd_binary") if hasattr(request.node, "callspec") else None
    version = etcd.raw.status()["version"]
    assert version == etcd_version(etcd_binary)
    assert line is None or version.startswith(line)


@pytest.mark.etcd_versions
def test_a_killed_member_comes_back_with_its_data_on_the_same_endpoint(own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    endpoint = member.endpoint
    revision = member.raw.put("key", "kept")

    member.kill()
    assert not member.alive
    assert not member.raw.health()
    member.start()

    assert member.endpoint == endpoint
    assert member.raw.get("key") == "kept"
    assert member.raw.revision() == revision


def test_a_paused_member_keeps_its_connections_and_does_not_answer(own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    member.pause()
    with pytest.raises(RawEtcdError, match="timed out"):
        member.raw.call("/kv/range", {"key": "a2V5"}, timeout=0.3)
    assert member.alive

    member.resume()
    until(member.raw.health, what="the member answers again")


def test_a_paused_member_can_be_killed(own_etcd: OwnEtcd) -> None:
    member = own_etcd()
    member.pause()
    member.kill()
    assert not member.alive


@pytest.mark.etcd_versions
def test_a_backup_of_the_data_brings_the_old_values_back(own_etcd: OwnEtcd, tmp_path: Path) -> None:
    member = own_etcd()
    member.raw.put("key", "old")
    member.terminate()
    member.copy_data(tmp_path / "backup")
    member.start()
    member.raw.put("key", "new")

    member.kill()
    member.restore_data(tmp_path / "backup")
    member.start()

    assert member.raw.get("key") == "old"


@pytest.mark.etcd_versions
def test_a_restored_snapshot_brings_the_old_values_back(own_etcd: OwnEtcd, tmp_path: Path) -> None:
    member = own_etcd()
    if find_etcdctl(member.binary) is None:
        pytest.skip("no etcdctl on this machine")
    member.raw.put("key", "old")
    member.save_snapshot(tmp_path / "snapshot.db")
    member.raw.put("key", "new")

    member.kill()
    member.restore_snapshot(tmp_path / "snapshot.db")
    member.start()

    assert member.raw.get("key") == "old"


@pytest.mark.etcd_versions
def test_a_cluster_elects_another_leader_and_keeps_its_values(own_cluster: OwnCluster) -> None:
    cluster = own_cluster(3)
    leader = cluster.leader()
    leader.raw.put("key", "kept")

    leader.kill()

    successor = cluster.leader()
    assert successor is not leader
    assert successor.raw.get("key") == "kept"
    leader.start()
    assert leader.raw.get("key") == "kept"


@pytest.mark.slow
def test_a_cluster_without_quorum_is_not_healthy(own_cluster: OwnCluster) -> None:
    cluster = own_cluster(3)
    leader, (first, second) = cluster.leader(), cluster.followers()
    first.kill()
    second.pause()

    until(lambda: not leader.raw.health(), what="the last member says that it is not healthy")
    with pytest.raises(RawEtcdError):
        leader.raw.revision()


def test_a_killed_test_process_leaves_no_etcd(etcd_binary: Path, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.support.etcd import EtcdProcess\n"
        "print(EtcdProcess(Path(sys.argv[1]), Path(sys.argv[2])).start().pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(etcd_binary), str(tmp_path / "orphan")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    until(gone, what=f"etcd {pid} ends with the process that began it")


def test_another_etcd_on_the_chosen_port_is_noticed(own_etcd: OwnEtcd, etcd: EtcdProcess) -> None:
    member = own_etcd(start=False)
    member.start()
    taken = EtcdProcess(member.binary, member.folder / "second", ports=member.ports)
    try:
        with pytest.raises(Exception, match=r"address already in use|another etcd"):
            taken.launch()
            taken.wait_healthy()
            taken.check_identity()
    finally:
        taken.kill()
    assert member.alive
