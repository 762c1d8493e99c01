"""Real etcd for the tests: single members and clusters that can be killed, stopped and put back in time."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from tests.support.etcd_binary import EtcdOptions, etcd_version, find_etcdctl, find_etcds
from tests.support.etcd_raw import RawEtcd, RawEtcdError
from tests.support.ports import LOOPBACK, PortTaken, free_ports
from tests.support.process import ManagedProcess
from tests.support.wait import until

__all__ = ["EtcdCluster", "EtcdOptions", "EtcdProcess", "etcd_version", "find_etcdctl", "find_etcds"]

_START_SECONDS = 30.0
_CLASH_ATTEMPTS = 5


class EtcdProcess:
    """One member on loopback with its own data directory; alone unless it is given ``cluster``.

    :param folder: holds the data and the log; made when missing
    :param ports: client and peer port; chosen at the first start when not given
    :param cluster: name and peer URL of every member, this one included
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        name: str = "",
        options: EtcdOptions | None = None,
        ports: tuple[int, int] | None = None,
        cluster: Mapping[str, str] | None = None,
        token: str = "",
    ) -> None:
        self.binary = binary
        self.folder = folder
        self.name = name or f"m-{uuid4().hex[:12]}"
        self.options = options or EtcdOptions()
        self.token = token or uuid4().hex
        self._flags = self.options.arguments(binary)
        self._cluster = dict(cluster) if cluster is not None else None
        self._ports = ports
        self._process: ManagedProcess | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise RuntimeError(f"etcd {self.name} has not been started yet")
        return self._ports

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:port``"""
        return f"{self.options.scheme}://{LOOPBACK}:{self.ports[0]}"

    @property
    def peer_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports[1]}"

    @property
    def raw(self) -> RawEtcd:
        """An independent client of this member."""
        return RawEtcd(self.endpoint, context=self.options.context)

    def calls(self) -> dict[str, int]:
        """How often each method of gRPC has been called at this member since its start; JSON clients come by gRPC, too."""
        url = f"{self.endpoint}/metrics"
        with urllib.request.urlopen(url, timeout=10, context=self.options.context) as answer:  # noqa: S310 -- our own etcd
            told = re.findall(
                r'^grpc_server_started_total{grpc_method="(\w+)".*} (\S+)$', answer.read().decode(), re.MULTILINE
            )
        return {method: int(float(count)) for method, count in told if float(count)}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "etcd.log"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"etcd {self.name} is not running")
        return self._process.pid

    def start(self) -> EtcdProcess:
        """Start it and wait until it is healthy; a member that chooses its own ports chooses again after a clash."""
        if self._ports is not None:
            self.launch()
            self.wait_healthy()
            return self
        for _ in range(_CLASH_ATTEMPTS):
            client, peer = free_ports(2)
            self._ports = (client, peer)
            try:
                self.launch()
                self.wait_healthy()
                self.check_identity()
            except PortTaken:
                self.kill()
                self.wipe()
            else:
                return self
        raise PortTaken(f"no free ports for etcd after {_CLASH_ATTEMPTS} attempts")

    def launch(self) -> None:
        """Start the process without waiting for anything, as a member of a cluster that has no quorum yet must."""
        if self.alive:
            raise RuntimeError(f"etcd {self.name} is running already")
        cluster = self._cluster or {self.name: self.peer_url}
        self._process = ManagedProcess(
            [
                str(self.binary),
                f"--name={self.name}",
                f"--data-dir={self.data}",
                f"--listen-client-urls={self.endpoint}",
                f"--advertise-client-urls={self.endpoint}",
                f"--listen-peer-urls={self.peer_url}",
                f"--initial-advertise-peer-urls={self.peer_url}",
                "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in cluster.items()),
                f"--initial-cluster-token={self.token}",
                "--logger=zap",
                "--log-level=warn",
                *self._flags,
            ],
            self.log,
        )

    def wait_healthy(self, timeout: float = _START_SECONDS) -> None:
        """Wait until this member serves and knows a leader.

        :raises PortTaken: it ended because somebody else listens on its port
        """

        def healthy() -> bool:
            self._check_alive()
            return self.raw.health()

        until(healthy, timeout, f"etcd {self.name} at {self.endpoint} is healthy")
        self._check_alive()

    def check_identity(self) -> None:
        """That it is this member which answers here, not one of another test that won the port.

        :raises PortTaken: another one answers
        """
        members = self.raw.call("/cluster/member/list", {})["members"]
        if self.name not in {member.get("name") for member in members}:
            raise PortTaken(f"another etcd answers at {self.endpoint}")

    def kill(self) -> None:
        """kill -9, and wait until it is gone. Nothing happens where it is not running."""
        if self._process is not None:
            self._process.end()

    def terminate(self) -> None:
        """SIGTERM: an orderly end."""
        if self._process is not None and self._process.alive:
            self._process.signal(signal.SIGTERM)
            self._process.wait(20)

    def pause(self) -> None:
        """SIGSTOP: the member hangs; connections stay open and are not reset."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.resume()

    def restart(self) -> None:
        """kill -9 and start again on the same data and ports, until healthy."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Throw the data away; only while it is stopped."""
        self._must_be_stopped()
        shutil.rmtree(self.data, ignore_errors=True)

    def copy_data(self, to: Path) -> None:
        """A backup of the data directory; only while it is stopped."""
        self._must_be_stopped()
        shutil.copytree(self.data, to)

    def restore_data(self, source: Path) -> None:
        """Go back to a backup made with ``copy_data``; only while it is stopped."""
        self.wipe()
        shutil.copytree(source, self.data)

    def save_snapshot(self, file: Path) -> None:
        """``etcdctl snapshot save`` of the running member."""
        self._etcdctl("snapshot", "save", str(file), f"--endpoints={self.endpoint}")

    def restore_snapshot(self, file: Path) -> None:
        """``etcdctl snapshot restore`` with the same name, token and URLs, as an operator would; while stopped."""
        self.wipe()
        self._etcdctl(
            "snapshot",
            "restore",
            str(file),
            f"--data-dir={self.data}",
            f"--name={self.name}",
            f"--initial-cluster={self.name}={self.peer_url}",
            f"--initial-cluster-token={self.token}",
            f"--initial-advertise-peer-urls={self.peer_url}",
        )

    def _etcdctl(self, *arguments: str) -> None:
        program = find_etcdctl(self.binary)
        if program is None:
            raise FileNotFoundError("there is no etcdctl on this machine: ask find_etcdctl first")
        env = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        done = subprocess.run([program, *arguments], capture_output=True, text=True, env=env, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(arguments)}: {done.stderr}")

    def _must_be_stopped(self) -> None:
        if self.alive:
            raise RuntimeError(f"etcd {self.name} is running: kill or terminate it first")

    def _check_alive(self) -> None:
        if self._process is None or self._process.alive:
            return
        tail = self._process.tail()
        if "address already in use" in tail:
            raise PortTaken(f"etcd {self.name}: {tail}")
        raise AssertionError(f"etcd {self.name} ended with {self._process.returncode}:\n{tail}")


class EtcdCluster:
    """Several members over loopback, each with the controls of a single one."""

    def __init__(self, binary: Path, folder: Path, size: int = 3, *, options: EtcdOptions | None = None) -> None:
        self._binary = binary
        self._folder = folder
        self._size = size
        self._options = options
        self.members: list[EtcdProcess] = []

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def start(self) -> EtcdCluster:
        """Start all members and wait until each is healthy."""
        for attempt in range(_CLASH_ATTEMPTS):
            self.members = self._choose_members(self._folder / str(attempt))
            try:
                for member in self.members:
                    member.launch()
                self.wait_healthy()
                for member in self.members:
                    member.check_identity()
            except PortTaken:
                self.kill()
            else:
                return self
        raise PortTaken(f"no free ports for a cluster after {_CLASH_ATTEMPTS} attempts")

    def wait_healthy(self) -> None:
        for member in self.members:
            member.wait_healthy()

    def kill(self) -> None:
        """kill -9 of every member."""
        for member in self.members:
            member.kill()

    def leader(self, timeout: float = 15.0) -> EtcdProcess:
        """The running member that all answering members call their leader; waits for an election."""
        return until(self._leader, timeout, "the cluster has a leader")

    def followers(self) -> list[EtcdProcess]:
        """Everybody but the leader, the stopped ones included."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def _leader(self) -> EtcdProcess | None:
        leaders: set[str] = set()
        by_id: dict[str, EtcdProcess] = {}
        for member in self.members:
            if not member.alive:
                continue
            try:
                status = member.raw.call("/maintenance/status", {}, timeout=1)
            except RawEtcdError:
                continue  # hung or still coming up: the others know
            by_id[status["header"]["member_id"]] = member
            leaders.add(status.get("leader", "0"))
        return by_id.get(leaders.pop()) if len(leaders) == 1 else None

    def _choose_members(self, folder: Path) -> list[EtcdProcess]:
        ports = free_ports(2 * self._size)
        token = uuid4().hex
        names = [f"m{number}-{token[:8]}" for number in range(self._size)]
        urls = {name: f"http://{LOOPBACK}:{ports[2 * number + 1]}" for number, name in enumerate(names)}
        return [
            EtcdProcess(
                self._binary,
                folder / name,
                name=name,
                options=self._options,
                ports=(ports[2 * number], ports[2 * number + 1]),
                cluster=urls,
                token=token,
            )
            for number, name in enumerate(names)
        ]
