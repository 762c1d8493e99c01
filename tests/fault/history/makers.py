"""How each kind of fault is made, and healed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from tests.fault.history.administrator import LOCKED, Administrator
from tests.fault.history.bed import Bed
from tests.fault.history.damage import Damage
from tests.fault.history.losses import DiskLosses
from tests.fault.history.maintenance import Maintenance
from tests.fault.history.place import Place, send
from tests.fault.history.pushers import SHARED
from tests.fault.history.relay import State
from tests.fault.history.schedule import Fault
from tests.fault.history.strangers import Strangers
from tests.support.etcd import EtcdProcess
from tests.support.etcd_raw import RawEtcdError
from tests.support.pushes import deciding

Heal = Callable[[], None]
_HOURS: Final = 3600
# The gRPC codes after which a write may have been applied, with words that etcd says.
ERRORS: Final = (
    (8, "etcdserver: mvcc: database space exceeded"),
    (14, "etcdserver: request timed out, possibly due to previous leader failure"),
    (1, "etcdserver: request canceled"),
    (2, "raft: stopped"),
    (4, "context deadline exceeded"),
    (6, "exists"),
    (8, "resource exhausted by something in between"),
    (10, "aborted"),
    (13, "internal"),
    (15, "etcdserver: corrupt cluster"),
)
_HUNT: Final = 1.0  # seconds to wait for somebody's push to be under way


def _nothing() -> None:
    return


class Makers:
    """:param later: has something that was not healed at once tried again after so many seconds"""

    def __init__(self, bed: Bed, later: Callable[[float, Heal], None]) -> None:
        self._bed = bed
        self._later = later
        self._administrator = Administrator(bed)
        self.strangers = Strangers()
        self._losses = DiskLosses(
            bed, later, lambda place: self._damage.is_hurt or place.site.repository in self.strangers.holding
        )
        self._damage = Damage(bed.places, later, self._losses)
        self._maintenance = Maintenance()
        self._makers: dict[str, Callable[[Fault], Heal | None]] = {
            "member-kill": self._member_kill,
            "member-stop": self._member_stop,
            "quorum-lost": self._quorum_lost,
            "controller-kill": self._controller_kill,
            "controller-stop": self._controller_stop,
            "hook-kill": self._hook_kill,
            "hook-stop": self._hook_stop,
            "site-down": self._site_down,
            "link-cut": lambda fault: self._link(fault, "cut"),
            "link-deaf": lambda fault: self._link(fault, "deaf"),
            "link-dead": lambda fault: self._link(fault, "dead"),
            "error-applied": self._error_applied,
            "token-closed": self._token_closed,
            "peer-cut": self._peer_cut,
            "compact": self._compact,
            "key-rewrite": self._key_rewrite,
            "key-lock": self._key_lock,
            "key-delete": self._key_delete,
            "liar": self._liar,
            "disk-full": self._disk_full,
            "lost-pack": lambda fault: self._damage.make(self._place(fault), fault.variant),
            "disk-lost": lambda fault: self._losses.make(self._place(fault)),
            "gc": lambda fault: self._maintenance.start(self._place(fault), fault.variant),
            "foreign-lock": lambda fault: (
                None if self._place(fault).is_lost else self.strangers.hold(self._place(fault))
            ),
            "proc-hidden": lambda fault: self._place(fault).hide_processes(),
            "clock": self._clock,
        }

    def make(self, fault: Fault) -> Heal | None:
        """Make it, and return what heals it; None where there was nothing to make."""
        return self._makers[fault.kind](fault)

    def end(self) -> None:
        """Wait for what still runs."""
        self._maintenance.end()

    def _place(self, fault: Fault) -> Place:
        return self._bed.places[fault.target % len(self._bed.places)]

    def _member(self, fault: Fault) -> EtcdProcess:
        return self._bed.cluster.members[fault.target % len(self._bed.cluster.members)]

    # ---- etcd

    def _member_kill(self, fault: Fault) -> Heal:
        member = self._member(fault)
        member.kill()
        return lambda: self._start(member)

    def _member_stop(self, fault: Fault) -> Heal | None:
        member = self._member(fault)
        if not member.alive:
            return None
        member.pause()
        return member.resume

    def _quorum_lost(self, fault: Fault) -> Heal:
        members = self._bed.cluster.members
        two = [members[fault.target % len(members)], members[(fault.target + 1) % len(members)]]
        for member in two:
            member.kill()

        def heal() -> None:
            for member in two:
                self._start(member)

        return heal

    def _start(self, member: EtcdProcess) -> None:
        if not member.alive:
            member.launch()

    def _compact(self, fault: Fault) -> Heal:
        """At once, or while a site sees nothing of etcd, so that it finds the history gone which it was to resume."""
        if fault.variant % 2:
            self._compact_now()
            return _nothing
        opened = self._link(fault, "cut", every=True)

        def heal() -> None:
            self._compact_now()
            opened()

        return heal

    def _compact_now(self) -> None:
        # What the recorder has not taken down yet would be lost to the checker, not to the sites.
        for member in self._bed.cluster.members:
            try:
                member.raw.call("/kv/compaction", {"revision": str(self._bed.recorder.revision)}, timeout=1.0)
            except RawEtcdError:
                continue  # it is down, or hangs
            return

    # ---- controllers, hooks, sites

    def _controller_kill(self, fault: Fault) -> Heal | None:
        place = self._place(fault)
        if not place.site.running:
            return None
        place.site.kill()
        return place.launch

    def _controller_stop(self, fault: Fault) -> Heal | None:
        place = self._place(fault)
        if not place.site.running:
            return None
        place.site.pause()
        controller = place.site.controller
        assert controller is not None
        return controller.resume

    def _hunted(self, place: Place) -> list[int]:
        end = time.monotonic() + _HUNT
        while time.monotonic() < end:
            found = place.receivers()
            if found:
                return found
        return []

    def _hook_kill(self, fault: Fault) -> Heal | None:
        """receive-pack alone, so that its hook outlives it; its hooks alone; or both."""
        place = self._place(fault)
        found = self._hunted(place)
        if not found:
            return None
        time.sleep(fault.lasts / 40)  # so that it is not always the same step
        below = deciding(place.site.repository, found[0])
        for pid in ([found[0]], below, [found[0], *below])[fault.variant % 3]:
            send(pid, signal.SIGKILL)
        return _nothing

    def _hook_stop(self, fault: Fault) -> Heal | None:
        place = self._place(fault)
        found = self._hunted(place)
        if not found:
            return None
        time.sleep(fault.lasts / 40)
        pids = [found[0], *deciding(place.site.repository, found[0])]
        for pid in pids:
            send(pid, signal.SIGSTOP)

        def heal() -> None:
            for pid in pids:
                send(pid, signal.SIGCONT)

        return heal

    def _site_down(self, fault: Fault) -> Heal | None:
        place = self._place(fault)
        if place.is_down:
            return None
        place.close()

        def heal() -> None:
            place.open()
            place.launch()

        return heal

    # ---- links

    def _link(self, fault: Fault, state: State, *, every: bool = False) -> Heal:
        """A site loses sight of one member, or of all."""
        place = self._place(fault)
        links = place.links if every or fault.variant % 3 == 0 else [place.links[fault.variant % len(place.links)]]
        for link in links:
            self._bed.relays.set(link, state)

        def heal() -> None:
            for link in links:
                self._bed.relays.set(link, "open")

        return heal

    def _error_applied(self, fault: Fault) -> Heal:
        """etcd applies what a site writes, and answers half of it with an error (etcd-io/etcd#16659)."""
        links = self._place(fault).links
        for link in links:
            link.error = ERRORS[fault.variant % len(ERRORS)]

        def heal() -> None:
            for link in links:
                link.error = None

        return heal

    def _token_closed(self, fault: Fault) -> Heal:
        """Each kept connection of a site is closed without an answer to its next request, as with an old token (etcd-io/etcd#15256)."""
        for link in self._place(fault).links:
            link.age += 1
        return _nothing

    def _peer_cut(self, fault: Fault) -> Heal:
        door = self._place(fault).door
        self._bed.relays.set(door, ("cut", "dead")[fault.variant % 2])
        return lambda: self._bed.relays.set(door, "open")

    def _liar(self, fault: Fault) -> Heal:
        place = self._place(fault)
        place.lie(True)
        return lambda: place.lie(False)

    # ---- keys

    def _key_rewrite(self, fault: Fault) -> Heal | None:
        ref = SHARED[fault.variant % len(SHARED)]
        value = self._administrator.earlier(ref, 1 + fault.target % 5)
        return _nothing if value and self._administrator.put(ref, value) else None

    def _key_lock(self, fault: Fault) -> Heal | None:
        ref = SHARED[fault.variant % len(SHARED)]
        # An outcome that is unknown may yet come true, so it is mended in every case.
        self._administrator.put(ref, LOCKED)
        return lambda: self._restore(ref)

    def _key_delete(self, fault: Fault) -> Heal | None:
        ref = SHARED[fault.variant % len(SHARED)]
        self._look()
        self._administrator.delete(ref)

        def heal() -> None:
            self._look()
            self._restore(ref)

        return heal

    def _restore(self, ref: str) -> None:
        if not self._administrator.restore(ref):
            self._later(1.0, lambda: self._restore(ref))

    def _look(self) -> None:
        for place in self._bed.places:
            self._bed.look(place.site.name)

    # ---- disks and clocks

    def _disk_full(self, fault: Fault) -> Heal:
        place = self._place(fault)
        place.fill()
        return place.drain

    def _clock(self, fault: Fault) -> Heal | None:
        place = next((place for place in self._bed.places if place.clock is not None), None)
        if place is None:
            return None
        place.set_clock((fault.variant - 30) * _HOURS)
        return lambda: place.set_clock(0)
