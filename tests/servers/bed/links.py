"""What can happen to the link between two hosts: cut, lossy, slow. Each lasts until it is healed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tests.servers.bed.hosts import Host
from tests.support.process import ManagedProcess
from tests.support.wait import until

_RELAY = Path(__file__).with_name("relay.py")
_RELAY_PORT = 7
_RELAY_MARK = 7  # on what the relay itself sends, so that it is not sent to the relay


@dataclass(frozen=True, slots=True)
class _Link:
    """How one host's link to an address is; ``loss`` in percent of its packets, each way."""

    cut: bool = False
    loss: int = 0
    slow: bool = False

    def rules(self, address: str) -> tuple[list[str], list[str], list[str]]:
        """Rules for what leaves, what arrives, and where new connections go."""
        leaving, arriving, turned = [], [], []
        if self.cut:
            leaving.append(f"ip daddr {address} drop")
            arriving.append(f"ip saddr {address} drop")
        if self.loss:
            leaving.append(f"ip daddr {address} numgen random mod 100 < {self.loss} drop")
            arriving.append(f"ip saddr {address} numgen random mod 100 < {self.loss} drop")
        if self.slow:
            turned.append(f"ip daddr {address} meta l4proto tcp meta mark != {_RELAY_MARK} redirect to :{_RELAY_PORT}")
        return leaving, arriving, turned


class Links:
    """The links of all hosts of a bed. A cut link drops packets without a word, as a broken one does."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], _Link] = {}
        self._relays: dict[str, ManagedProcess] = {}

    def cut(self, one: Host, other: Host) -> None:
        self._change(one, other, cut=True)

    def isolate(self, host: Host, *others: Host) -> None:
        for other in others:
            self.cut(host, other)

    def lossy(self, one: Host, other: Host, percent: int) -> None:
        """Lose so many of a hundred packets, each way."""
        self._change(one, other, loss=percent)

    def slow(self, one: Host, other: Host, seconds: float) -> None:
        """From now on, what a new TCP connection between these carries takes so much longer, each way.

        The kernel's own means (netem) is missing from many, so this is a relay on each side; all slow links of a host are as slow as
        its first one.
        """
        for host in (one, other):
            if host.name not in self._relays:
                self._relays[host.name] = self._relay(host, seconds)
        self._change(one, other, slow=True)

    @staticmethod
    def _relay(host: Host, seconds: float) -> ManagedProcess:
        # In the host's network only, and with this machine's files: nothing of it is seen on the host.
        into = ["nsenter", "--target", str(host.pid), "--net", sys.executable, "-I", "-S", str(_RELAY)]
        log = host.console.with_name("relay.log")
        log.unlink(missing_ok=True)
        process = ManagedProcess([*into, str(_RELAY_PORT), str(_RELAY_MARK), str(seconds)], log)
        until(lambda: "listening" in process.tail() or not process.alive, what="the relay listens")
        assert process.alive, process.tail()
        return process

    def heal(self, one: Host, other: Host) -> None:
        self._links.pop((one.name, other.address), None)
        self._links.pop((other.name, one.address), None)
        self._apply(one)
        self._apply(other)

    def heal_all(self, *hosts: Host) -> None:
        # Relays first: with the rules gone, the ends of what they carry would not hear that it has ended.
        for relay in self._relays.values():
            relay.end()
        self._relays.clear()
        self._links.clear()
        for host in hosts:
            if host.is_up:
                self._apply(host)

    def _change(self, one: Host, other: Host, **changes: bool | int) -> None:
        for here, there in ((one, other), (other, one)):
            key = (here.name, there.address)
            self._links[key] = replace(self._links.get(key, _Link()), **changes)  # type: ignore[arg-type]
            self._apply(here)

    def _apply(self, host: Host) -> None:
        leaving, arriving, turned = [], [], []
        for (name, address), link in self._links.items():
            if name == host.name:
                out, into, turn = link.rules(address)
                leaving += out
                arriving += into
                turned += turn
        lines = [
            "table inet links {}",
            "delete table inet links",
            "table inet links {",
            "chain leaving { type filter hook output priority 0;",
            *leaving,
            "}",
            "chain arriving { type filter hook input priority 0;",
            *arriving,
            "}",
            "chain turned { type nat hook output priority -100;",
            *turned,
            "}",
            "}",
        ]
        subprocess.run(
            ["nsenter", "--target", str(host.pid), "--net", "nft", "-f", "-"],
            input="\n".join(lines) + "\n",
            text=True,
            check=True,
            timeout=30,
            capture_output=True,
        )
