"""The stories of piehole, on three servers and a laptop.   usage: python -m tests.servers.demo

Each host is a network namespace of this machine; deploy/'s own scripts set the servers up. Needs root.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.servers.bed.hosts import Done, python
from tests.servers.bed.links import Links
from tests.servers.bed.missing import what_is_missing
from tests.servers.bed.three import REPOSITORY, Server, ThreeServers
from tests.support.git import MAIN

_PUSHES = 5
_FAR_PUSHES = 3
_ONE_WAY = 0.1  # seconds, between servers that are far apart
_LOSS = 1  # percent of the packets

# On a server: what one write that the members agree on takes, in milliseconds, over a connection that is there already.
_WRITES = """
import statistics, sys, time
from pathlib import Path
from piehole.deadline import Deadline
from piehole.etcd.model import Put
from piehole.group.replica import Replica
etcd = Replica.open(Path(sys.argv[1])).etcd
took = []
for number in range(int(sys.argv[2]) + 1):
    began = time.monotonic()
    etcd.txn([], [Put(b"/piehole/measured", b"x")], deadline=Deadline(20))
    took.append(time.monotonic() - began)
print(round(statistics.median(took[1:]) * 1000))
"""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the program is for


class Stories:
    """Plays the stories in order; each leaves the servers whole for the next one."""

    def __init__(self, bed: ThreeServers, links: Links) -> None:
        self._bed = bed
        self._links = links
        self._laptop = bed.laptop
        self._oslo, self._lima, self._kyoto = bed.servers
        self._clone = ""

    def play(self) -> None:
        """:raises AssertionError: a story did not end as told"""
        stories: tuple[tuple[str, Callable[[], None]], ...] = (
            ("A user's laptop pushes, over ssh and https, to each server", self.pushes),
            ("Two users race, at two servers", self.race),
            ("The servers are far apart, on bad lines", self.far_apart),
            ("Kyoto's links are cut", self.cut_off),
            ("Members of etcd stop, first one, then another", self.members_stop),
            ("The home server burns down before it has replicated", self.home_server_lost),
        )
        self._clone = self._laptop.clone(self._oslo.ssh)
        for number, (title, story) in enumerate(stories, start=1):
            say(f"\n{number}. {title}")
            began = time.monotonic()
            story()
            say(f"   as told, in {time.monotonic() - began:.1f} s")

    def pushes(self) -> None:
        for protocol in ("ssh", "https"):
            for server in self._bed:
                pushes, lags = [], []
                for number in range(_PUSHES):
                    oid = self._laptop.commit(self._clone, f"{protocol} to {server.site}, {number}")
                    began = time.monotonic()
                    self._accepted(self._push(server, protocol))
                    pushes.append(time.monotonic() - began)
                    self._bed.arrives(MAIN, oid)
                    lags.append(time.monotonic() - began - pushes[-1])
                self._tell(
                    f"over {protocol} to {server.site}: {_ms(pushes)} a push (median of {_PUSHES}), at all three {_ms(lags)} later"
                )

    def race(self) -> None:
        other = self._laptop.clone(self._lima.https)
        hers = self._laptop.commit(self._clone, "Alice was here")
        self._laptop.commit(other, "Bob was here")
        self._accepted(self._push(self._oslo, "ssh"))
        refused = self._laptop.push(other, self._lima.https)
        # By git itself where lima had the first one already, else by piehole.
        stale = "piehole: stale:" in refused.stderr or "fetch first" in refused.stderr
        self._expect(refused.returncode != 0 and stale, "the second is refused", refused)
        self._laptop.git(other, "pull", "--quiet", "--rebase", self._lima.https, "main")
        self._accepted(self._laptop.push(other, self._lima.https))
        both = self._laptop.git(other, "rev-list", "HEAD").stdout
        self._expect(hers in both, "the pull from lima brought what was pushed to oslo", refused)
        self._laptop.git(self._clone, "pull", "--quiet", "--rebase", self._lima.https, "main")
        self._tell("the first push went to oslo; the other, to lima, was refused, pulled from lima, and went in")

    def far_apart(self) -> None:
        for one, other in ((self._oslo, self._lima), (self._oslo, self._kyoto), (self._lima, self._kyoto)):
            self._links.slow(one.host, other.host, _ONE_WAY)
            self._links.lossy(one.host, other.host, _LOSS)
        for server in self._bed:  # connections that were there before are as quick as ever
            server.host.systemctl("restart", "etcd", "piehole-controller")
            server.wait_ready()
        self._tell(
            f"a round trip between two servers takes {2 * _ONE_WAY * 1000:.0f} ms, and {_LOSS} % of the packets are lost"
        )
        for server in self._bed:
            pushes, lags = [], []
            for number in range(_FAR_PUSHES):
                oid = self._laptop.commit(self._clone, f"far away, to {server.site}, {number}")
                began = time.monotonic()
                self._accepted(self._push(server, "ssh"))
                pushes.append(time.monotonic() - began)
                self._bed.arrives(MAIN, oid)
                lags.append(time.monotonic() - began - pushes[-1])
            write = server.host.run(python(), "-c", _WRITES, REPOSITORY, str(_FAR_PUSHES), user="git").stdout.strip()
            self._tell(
                f"{server.site}: {_ms(pushes)} a push; one write to etcd takes {write} ms, and a push makes one; "
                f"at all three {_ms(lags)} later"
            )
        self._links.heal_all(*(server.host for server in self._bed))
        self._bed.mend()

    def cut_off(self) -> None:
        self._links.isolate(self._kyoto.host, self._oslo.host, self._lima.host)
        oid = self._laptop.commit(self._clone, "Kyoto cannot hear this")
        self._accepted(self._push(self._oslo, "https"))
        self._bed.arrives(MAIN, oid, [self._oslo, self._lima])
        self._expect(self._kyoto.at() != oid, "kyoto has not heard of it")
        self._tell("a push to oslo was accepted and reached lima; kyoto serves reads, at the commit before")
        time.sleep(3)
        self._links.heal(self._kyoto.host, self._oslo.host)
        self._links.heal(self._kyoto.host, self._lima.host)
        began = time.monotonic()
        self._bed.arrives(MAIN, oid, [self._kyoto])
        self._tell(f"the links were mended: kyoto was in step {time.monotonic() - began:.1f} s later")

    def members_stop(self) -> None:
        self._kyoto.host.systemctl("stop", "etcd")
        oid = self._laptop.commit(self._clone, "With two members of three")
        self._accepted(self._push(self._kyoto, "ssh"))
        self._bed.arrives(MAIN, oid)
        self._tell("without kyoto's member, a push to kyoto was accepted and arrived everywhere")
        self._lima.host.systemctl("stop", "etcd")
        self._oslo.wait_leaderless()
        oid = self._laptop.commit(self._clone, "With one member of three")
        refused = self._push(self._oslo, "ssh")
        self._expect("piehole: no-quorum:" in refused.stderr, "the push is refused for want of a majority", refused)
        self._tell("without lima's as well, a push was refused (no-quorum), and reading went on")
        for server in (self._lima, self._kyoto):
            server.host.systemctl("start", "etcd")
        self._accepted(self._push(self._oslo, "ssh"))
        self._bed.arrives(MAIN, oid)
        self._bed.mend()
        self._tell("both were started again, and so was the push: accepted")

    def home_server_lost(self) -> None:
        others = (self._lima, self._kyoto)
        for server in others:
            server.host.systemctl("kill", "--signal=SIGSTOP", "piehole-controller")
        oid = self._laptop.commit(self._clone, "Pushed just before the fire")
        self._accepted(self._push(self._oslo, "ssh"))
        self._oslo.host.burn()
        for server in others:
            server.host.systemctl("kill", "--signal=SIGCONT", "piehole-controller")
        self._tell(
            "alice pushed to oslo; oslo burned down, its disk and its member of etcd with it, before others had it"
        )
        self._accepted(self._push(self._lima, "https"))
        self._bed.arrives(MAIN, oid, others)
        self._tell("she pushed the same commit to lima: accepted at the first try, and kyoto has it")
        began = time.monotonic()
        self._bed.rebuild(self._oslo)
        self._bed.arrives(MAIN, oid)
        self._tell(f"the same script set oslo up anew in {time.monotonic() - began:.0f} s, and it caught up")

    def _push(self, server: Server, protocol: str) -> Done:
        return self._laptop.push(self._clone, server.url(protocol))

    def _accepted(self, pushed: Done) -> None:
        self._expect(pushed.returncode == 0, "the push is accepted", pushed)

    @staticmethod
    def _expect(held: bool, what: str, said: Done | None = None) -> None:
        if not held:
            words = said.stderr if said else ""
            raise AssertionError(f"this story did not end as told: not true that {what}. {words}")

    @staticmethod
    def _tell(text: str) -> None:
        say(f"   {text}")


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.0f} ms"


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    missing = what_is_missing()
    if missing:
        say(f"demo-servers: {missing}.")
        return 1
    signal.signal(signal.SIGTERM, _stop)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="piehole-servers-", ignore_cleanup_errors=True) as folder:
        bed = ThreeServers(Path(folder) / "bed")
        try:
            bed.begin()
            say(
                f"Three servers ({', '.join(server.host.name for server in bed)}) and a laptop, set up in {time.monotonic() - began:.0f} s: "
                "TLS everywhere, passwords in etcd, ssh and https for users."
            )
            Stories(bed, Links()).play()
        finally:
            bed.end()
    say(f"\nEvery story ended as told, in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
