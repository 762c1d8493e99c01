"""The one story that is told for every step and kind of fault.

Everything happens below ``refs/heads/run<N>/`` and begins with all sites in step:

1. a ref is created, then moved by a fast-forward; a second one is created;
2. the second is moved by force, and the answer of that swap is lost, so a fence settles it;
3. both move in an atomic push that also creates a third;
4. the first moves while somebody else writes the fence, so its swap loses and is proposed anew;
5. the group's HEAD is pointed to the first;
6. the group promises two copies: the second moves once others hold what is pushed; then it promises one again;
7. another site's user moves the first;
8. the second and third are deleted; their tombstones are reaped.

The order for the fault is given at the beginning, so it is carried out where its step is reached first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed, Faulty
from tests.fault.sweep.pushes import ZERO, Log, Users
from tests.support.wait import until

# Steps of a hook and of the decision about a push: they are reached at the site that is pushed to.
OF_A_PUSH = frozenset(
    {
        *(Step.UPDATE_BEGUN, Step.RECORD_CREATED, Step.ADMITTING, Step.ANNOUNCED),
        *(Step.PREPARED_BEGUN, Step.REBASING, Step.ANSWERED, Step.SETTLED, Step.NOTING),
        *(Step.COPIES_ASKING, Step.COPIES_ASKED, Step.COPIES_HELD),
        *(Step.KEEPING, Step.PROPOSING, Step.SWAPPED, Step.FENCING, Step.FENCED),
    }
)
# Steps of a site that holds what is pushed to another one.
OF_A_COPY = frozenset({Step.COPYING, Step.COPIED, Step.HELD, Step.COPY_TELLING, Step.COPY_TOLD})
# Those of them that whoever decides takes, and those that the hook takes in any case.
_OF_THE_DECISION = {
    *(Step.NOTING, Step.COPIES_ASKING, Step.COPIES_ASKED, Step.COPIES_HELD),
    *(Step.KEEPING, Step.PROPOSING, Step.SWAPPED, Step.FENCING, Step.FENCED),
}
OF_THE_HOOK = OF_A_PUSH - _OF_THE_DECISION
# Any site may be the one that reaps.
_BY_ANYBODY = frozenset({Step.REAPING, Step.REAPED})
KINDS = ("kill", "error", "delay")
_PATIENCE = 60.0  # seconds for what takes one on an idle machine


@dataclass(frozen=True)
class Fault:
    """``direct``: no controller runs at the site that is pushed to, so its hooks decide themselves.

    ``kind`` is ``kill``, ``error`` or ``delay``; ``killpush`` takes the receive-pack along.
    """

    step: str
    kind: str
    direct: bool = False

    @property
    def name(self) -> str:
        return f"{self.step}-{self.kind}{'-direct' if self.direct else ''}"


@dataclass(frozen=True)
class Told:
    """What is left of a story, to be checked."""

    prefix: str
    since: int
    log: Log
    finally_: dict[str, str]
    head: str


class Story:
    def __init__(self, bed: Bed, fault: Fault | None, *, direct: bool = False) -> None:
        self._bed = bed
        self._fault = fault
        self._direct = fault.direct if fault else direct
        self._home, self._other = bed.sites[0], bed.sites[1]
        self._log = Log()
        self._users = Users(bed, self._log)
        bed.runs += 1
        self.prefix = f"refs/heads/run{bed.runs}/"
        self._since = bed.group.etcd.revision()

    def tell(self) -> Told:
        """Everything, with the fault; at the end all that died runs again and all sites are in step."""
        bed, home = self._bed, self._home
        bed.forget()
        bed.mend()
        if self._direct:
            bed.stop_controller(home)
        order = self._give_order(self._fault) if self._fault else None
        one, two, three = (f"{self.prefix}{name}" for name in ("one", "two", "three"))
        first = bed.commit(bed.base, f"{one} 1")
        self._push(home, {one: first})
        second = bed.commit(first, f"{one} 2")
        self._push(home, {one: second})
        side = bed.commit(bed.base, f"{two} 1")
        self._push(home, {two: side})
        lost = home.order(Step.SWAPPED, "error")
        forced = bed.commit(bed.base, f"{two} 2")
        self._push(home, {two: forced})
        assert home.obeyed(lost)
        third, fourth = bed.commit(second, f"{one} 3"), bed.commit(forced, f"{two} 3")
        self._push(home, {one: third, two: fourth, three: bed.commit(bed.base, f"{three} 1")})
        fifth = bed.commit(third, f"{one} 4")
        self._overtaken(home, {one: fifth})
        bed.group.put("HEAD", f"ref: {one}")
        self._promised(home, two, bed.commit(fourth, f"{two} 4"))
        sixth = bed.commit(fifth, f"{one} 5")
        self._push(self._other, {one: sixth})
        self._push(home, {two: ZERO})
        self._push(home, {three: ZERO})
        if order is not None:
            self._await(order)
        self._settle()
        if self._fault is None:
            until(
                lambda: bed.group.value(two) is bed.group.value(three) is None, _PATIENCE, "the tombstones are reaped"
            )
        # The next push to every ref works.
        seventh, again = bed.commit(sixth, f"{one} 6"), bed.commit(bed.base, f"{two} 5")
        anew = bed.commit(bed.base, f"{three} 2")
        self._push(home, {one: seventh})
        self._push(self._other, {two: again})
        self._push(home, {three: anew})
        self._settle()
        return Told(self.prefix, self._since, self._log, {one: seventh, two: again, three: anew}, one)

    def _give_order(self, fault: Fault) -> Callable[[], bool]:
        """Give the order where its step is sure to be reached; returns whether it was carried out."""
        if fault.step in OF_A_PUSH:
            sites = [self._home]
        elif fault.step in _BY_ANYBODY:
            sites = self._bed.sites
        elif fault.step in OF_A_COPY:
            sites = self._bed.sites[1:]
        else:
            sites = [self._other]  # it has to fetch what is pushed at home
        orders = [(site, site.order(fault.step, fault.kind)) for site in sites]
        return lambda: any(site.obeyed(order) for site, order in orders)

    def _push(self, site: Faulty, moves: dict[str, str]) -> None:
        self._users.push(site, moves, self._recover)

    def _overtaken(self, site: Faulty, moves: dict[str, str]) -> None:
        """A push whose bases are no longer true when it proposes its swap."""
        hold = site.order(Step.PREPARED_BEGUN, "hold")

        def fence() -> None:
            until(lambda: site.obeyed(hold), _PATIENCE, "a push is held before its swap")
            self._bed.group.put("@fence", "{}")
            site.release(hold)

        beside = threading.Thread(target=fence)
        beside.start()
        self._push(site, moves)
        beside.join()

    def _promised(self, site: Faulty, ref: str, oid: str) -> None:
        self._bed.promise(2)
        try:
            self._push(site, {ref: oid})
        finally:
            self._bed.promise(1)

    def _recover(self) -> None:
        self._bed.mend(without=self._home if self._direct else None)
        if self._direct:
            # Nobody else clears what a dead push left at a site without a controller.
            self._home.reconcile()
        self._bed.look_around()

    def _await(self, obeyed: Callable[[], bool]) -> None:
        assert self._fault is not None
        if not obeyed():
            until(obeyed, _PATIENCE, f"the step {self._fault.step} is reached")

    def _settle(self) -> None:
        """Bring back what died, until all sites are in step and stay alive."""
        self._bed.mend()
        self._bed.group.in_step(timeout=_PATIENCE)
        self._bed.mend()


def all_steps() -> list[str]:
    """Every step, in the order of their names in the source."""
    return [value for name, value in vars(Step).items() if name.isupper()]


def faults() -> list[Fault]:
    """The whole sweep: every step and kind; the hooks' also without a controller, and with the death of their receive-pack."""
    found: list[Fault] = []
    for step in all_steps():
        if step != Step.NOTING:  # a controller publishes its progress instead
            found += [Fault(step, kind) for kind in KINDS]
        if step in OF_A_PUSH:
            kinds = ("kill", "error", "killpush") if step in OF_THE_HOOK else (*KINDS, "killpush")
            found += [Fault(step, kind, direct=True) for kind in kinds]
        if step in OF_THE_HOOK:
            found.append(Fault(step, "killpush"))
    return found
