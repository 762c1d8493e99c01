"""One chaos run: a seed, a bed, pushers beside a nemesis, then everything healed and checked."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fault.history.bed import ROOT, Bed, make_bed
from tests.fault.history.checker import check
from tests.fault.history.evidence import Evidence, Violation
from tests.fault.history.nemesis import Nemesis, settle
from tests.fault.history.operations import Outcome
from tests.fault.history.pushers import WEIGHTS, Habits, Pusher, first_pushes
from tests.fault.history.readers import Reader
from tests.fault.history.schedule import Fault


@dataclass(frozen=True)
class Chaos:
    """What to do.

    :param seconds: at most; the run ends earlier, but not before ``least`` seconds, once it has enough of everything: acknowledged pushes,
        faults, and fresh reads
    :param converge: seconds that the sites have to agree once all is healed
    :param source: the tree that is run, if not this one
    :param copies: what the group promises
    :param readers: people who look at branches through the read gate, pausing up to ``reading_pause`` seconds; every site's gate is
        ``wait``, that of the third ``strict``
    """

    seed: int
    faults: Sequence[Fault]
    seconds: float
    sites: int = 3
    pushers: int = 8
    habits: Habits = field(default_factory=lambda: Habits(WEIGHTS))
    converge: float = 60.0
    enough_pushes: int = 1_000_000
    enough_faults: int = 1_000_000
    enough_reads: int = 0
    least: float = 0.0
    source: Path = ROOT
    copies: int = 1
    readers: int = 0
    reading_pause: float = 0.4


@dataclass(frozen=True)
class Result:
    """``swaps``: how many were seen on their way to etcd, in a group that promises copies; ``reads``: through the gate, by outcome."""

    told: Counter[Outcome]
    faults: Counter[str]
    seconds: float
    sites: int
    revisions: int
    looks: int
    violations: Sequence[Violation]
    lacks: tuple[str, ...]
    trouble: str = ""
    swaps: int = 0
    reads: Counter[str] = field(default_factory=Counter)

    def summary(self, seed: int) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        lacks = f"; not possible here: {', '.join(self.lacks)}" if self.lacks else ""
        return (
            f"seed {seed}: {self.sites} sites, {self.told['ok']} pushes acknowledged, {self.told['refused']} refused, "
            f"{self.told['unknown']} unknown; {self.revisions} revisions, {self.looks} looks, {self.swaps} swaps witnessed; "
            f"{self.reads['fresh']} reads fresh, {self.reads['warned']} warned, {self.reads['refused']} refused; "
            f"{self.faults.total()} faults ({kinds}{lacks}); {self.seconds:.0f} s; {len(self.violations)} violations"
        )


def run(chaos: Chaos, folder: Path, binary: Path) -> Result:
    """Play it; what was asked and told is written to ``folder``."""
    began = time.monotonic()
    gates = ("wait", "wait", "strict") if chaos.readers else ("off",)
    with make_bed(folder, binary, sites=chaos.sites, source=chaos.source, copies=chaos.copies, read_gates=gates) as bed:
        first_pushes(bed)
        nemesis = Nemesis(bed, chaos.faults)
        _play(chaos, bed, nemesis)
        settle(bed)
        trouble = bed.converged(chaos.converge)
        bed.recorder.wait_for(bed.group.etcd.revision())
        endings = bed.endings()
        bed.log.write(folder / "operations.jsonl")
        events = bed.recorder.events_of(bed.group.name)
        (folder / "history.jsonl").write_text("".join(json.dumps(asdict(event)) + "\n" for event in events))
        sendings = bed.witness.sendings if bed.witness else []
        (folder / "losses.jsonl").write_text("".join(json.dumps(asdict(loss)) + "\n" for loss in bed.losses))
        (folder / "reads.jsonl").write_text("".join(json.dumps(asdict(read)) + "\n" for read in bed.reads))
        found = check(
            Evidence(
                bed.log.operations,
                events,
                bed.pool.parents,
                bed.looks,
                endings,
                nemesis.robbed,
                bed.copies,
                sendings,
                bed.losses,
                bed.reads,
            )
        )
        if trouble and not found:
            found = [Violation("diverged", trouble)]
        seconds = time.monotonic() - began
        revisions = len({event.revision for event in events})
        return Result(
            bed.log.told(),
            nemesis.done,
            seconds,
            chaos.sites,
            revisions,
            len(bed.looks),
            found,
            bed.lacks,
            trouble,
            len(sendings),
            Counter(read.outcome for read in bed.reads),
        )


def _play(chaos: Chaos, bed: Bed, nemesis: Nemesis) -> None:
    stop = threading.Event()
    people: list[Pusher | Reader] = [
        Pusher(bed, number, chaos.seed, chaos.habits, stop) for number in range(chaos.pushers)
    ]
    people += [Reader(bed, number, chaos.seed, chaos.reading_pause, stop) for number in range(chaos.readers)]

    end = time.monotonic() + chaos.least

    def enough() -> bool:
        return (
            time.monotonic() >= end
            and bed.log.told()["ok"] >= chaos.enough_pushes
            and nemesis.done.total() >= chaos.enough_faults
            and sum(read.outcome == "fresh" for read in list(bed.reads)) >= chaos.enough_reads
        )

    try:
        nemesis.run(enough, chaos.seconds)
    finally:
        stop.set()
        nemesis.heal()
        for one in people:
            one.join()
